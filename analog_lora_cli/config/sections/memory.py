"""Keys of `hardware` for the memory: its devices, their conductances, and what is read beside them against drift."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from analog_lora_cli.config.devices import DEVICES, Converter
from analog_lora_cli.config.effects import Affects, Unit
from analog_lora_cli.config.registry import OneOf
from analog_lora_cli.config.section import Section

Compensation = Literal["none", "global", "global-exact", "per-column", "least-squares", "least-squares-per-column"]
_CONDUCTANCES = Affects("programming", "training", reason="decides the programmed conductances")
_PAIRS = Affects("programming", "training", "cost", reason="decides the programmed conductances")
_REFERENCES = Affects("mapping", "programming", "read", "training", "cost", reason="takes columns from the weights")

REFERENCE_COLUMNS = 4
"""Reference columns of a tile of single devices by default: their own errors add 12 % to the devices', for less than a
percent of 512 columns; those of a single one would add 41 %."""


class MemoryKeys(Section):
    """Memory devices of a tile."""

    device: Annotated[
        str,
        OneOf(DEVICES),
        Affects("programming", "training", "cost", reason="is the memory that holds the weights"),
    ] = "pcm"
    """Noise model of the memory device, aihwkit's: programming noise, drift and read noise; or a file of
    `analora fit-device` (its name ends in .yaml), whose constants then stand in `device_options`."""

    device_options: Annotated[
        dict[str, Any], Affects("programming", "read", "training", reason="describes the memory that holds the weights")
    ] = Field(default_factory=dict)
    """Constants of the noise model by aihwkit's names, for instance `prog_noise_scale`, `drift_scale`, `t_0`."""

    g_max: Annotated[float | None, _CONDUCTANCES, Unit("uS")] = Field(default=None, gt=0)
    """Conductance of the largest weight, in uS; null: as the device was characterized."""

    g_min: Annotated[float | None, _CONDUCTANCES, Unit("uS")] = Field(default=None, ge=0)
    """Conductance of a zero weight, in uS; null: as the device was characterized."""

    converter: Annotated[Converter | None, _PAIRS] = None
    """Mapping of a weight to conductances: G+ and G- (`single-pair`), more pairs of different significance
    (`dual-pair`, `n-pair`, `custom-pair`), or one device (`single-device`). Null: the device's own, `single-pair` for
    most; `reram-cmo` takes no other than `single-device`."""

    converter_options: Annotated[dict[str, Any], _PAIRS] = Field(default_factory=dict)
    """Constants of the converter by aihwkit's names, for instance `f_lst` for `dual-pair`."""

    reference_columns: Annotated[int | None, _REFERENCES, Unit("bit lines of a tile")] = Field(default=None, ge=0)
    """Columns of each tile that are programmed to a weight of zero and age with all others, for `single-device` only.
    The mean of their currents is subtracted from each column's before its ADC, so that a decay common to all devices
    cancels: w_ij = (G_ij - mean_k R_kj) / scale. They have the device's programming, drift and read noise, whose mean
    over n columns all columns then share, take n of `tile_columns`, and cost no read. Null: 4 for single devices; 0:
    none, the current of a zero weight is known and never ages, as in aihwkit."""

    drift_compensation: Annotated[Compensation, Affects("read", "training")] = "global"
    """Digital rescaling of each tile against drift. aihwkit's kinds compare read-outs of single weights, one product
    for each row: `global` (one factor a tile), `global-exact` (the same, against the ideal weights), `per-column` (one
    an output); biased where an ADC step exceeds 0.1 of the largest weight, so below 8 bits. `least-squares` and
    `least-squares-per-column` fit the products of 128 random vectors on all rows to the exact ones, <Y0, Y0> / <Y0, Y>,
    from 4 bits on: 128 products a tile and time; per column with a spread of 2 to 4 %. `none`: 1."""

    @model_validator(mode="after")
    def _programmable(self) -> MemoryKeys:
        g_min, g_max = self.conductance_range
        if g_min >= g_max:
            raise ValueError(f"g_min ({g_min} uS) must be below g_max ({g_max} uS)")
        if self.reference_columns and self.converter_name != "single-device":
            raise ValueError(
                f"reference_columns: converter {self.converter_name} has two devices for each weight, whose common "
                "decay cancels without; use 0, or converter: single-device"
            )
        DEVICES[self.device].check(self.device_options, g_max)
        return self

    @property
    def references(self) -> int:
        """Reference columns of each tile."""
        if self.reference_columns is not None:
            return self.reference_columns
        return REFERENCE_COLUMNS if self.converter_name == "single-device" else 0

    @property
    def least_squares(self) -> bool:
        """Whether the drift compensation is one of this project's own, by least squares."""
        return self.drift_compensation.startswith("least-squares")

    @property
    def conductance_range(self) -> tuple[float, float]:
        """Smallest and largest conductance in uS."""
        g_min, g_max = DEVICES[self.device].conductance_range(self.device_options)
        return (g_min if self.g_min is None else self.g_min, g_max if self.g_max is None else self.g_max)

    @property
    def converter_name(self) -> Converter:
        """Name of the converter; that of the device by default."""
        return self.converter or DEVICES[self.device].converter
