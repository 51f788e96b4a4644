"""The `hardware` section. Its keys are declared by concern, each in a file of its own beside this one."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import model_validator

from analog_lora_cli.config.effects import Affects
from analog_lora_cli.config.sections.converters import ConverterKeys
from analog_lora_cli.config.sections.imperfections import FAULTS, ImperfectionKeys
from analog_lora_cli.config.sections.memory import MemoryKeys
from analog_lora_cli.config.sections.placement import PlacementKeys
from analog_lora_cli.config.sections.training_noise import TrainingNoiseKeys

_IN_THE_PRODUCT = ("read_noise_per_product", "ir_drop", "adc_offset_mismatch")


class HardwareConfig(ImperfectionKeys, MemoryKeys, TrainingNoiseKeys, ConverterKeys, PlacementKeys):
    """The analog hardware. Tile units: inputs scaled by the token's largest magnitude, weights by the largest
    magnitude of their output column, so that both lie in [-1, 1]."""

    simulator: Annotated[Literal["fast", "aihwkit"], Affects("read", "training")] = "fast"
    """`fast`: this project's tile; `aihwkit`: aihwkit's own torch tile, slower, for comparison."""

    kernels: Annotated[Literal["auto", "torch", "numba", "triton"], Affects("numerics", "training")] = "auto"
    """Computation of the tiles of `fast`. On a CPU: `numba` with compiled loops and dropout whose masks come from a
    hash, `torch` with torch's own operations and dropout, `auto` with numba where it can be loaded. Bit-identical but
    for the dropout masks and rounding. On a GPU: torch's operations, or with `triton` one kernel for each product,
    whose noise has other numbers, and for a chip's tiles; not measured on a card yet, so never chosen by `auto`."""

    @model_validator(mode="after")
    def _fits_together(self) -> HardwareConfig:
        if self.tile_columns and self.references >= self.tile_columns:
            raise ValueError(f"reference_columns ({self.references}) must be below tile_columns ({self.tile_columns})")
        if self.weight_noise_type == "device-gaussian" and self.has_faults:
            fault = next(key for key in FAULTS if getattr(self, key))
            raise ValueError(
                f"{fault}: weight_noise_type device-gaussian knows no faults of single chips: use 0, or "
                "weight_noise_type: device"
            )
        if self.simulator == "aihwkit":
            self._refuse_what_aihwkit_lacks()
        return self

    def _refuse_what_aihwkit_lacks(self) -> None:
        if self.input_range == "learned":
            raise ValueError("input_range: learned is trained and read by simulator fast only: use fast, or static")
        if self.weight_noise_type == "device-gaussian":
            raise ValueError("weight_noise_type: device-gaussian is drawn by simulator fast only: use fast, or device")
        missing = [key for key in self.beyond_aihwkit if key in _IN_THE_PRODUCT]
        if missing:
            raise ValueError(f"{missing[0]}: aihwkit's torch tile has none; use simulator: fast, or {missing[0]}: 0")

    def shares_ranges(self, other: HardwareConfig) -> bool:
        """Whether input ranges that were calibrated or learned for `other` are those of this hardware."""
        keys = (
            "input_range", "input_range_rule", "range_parameter", "input_range_samples", "tile_rows", "input_rotation",
        )  # fmt: skip
        return all(getattr(self, key) == getattr(other, key) for key in keys)

    @property
    def weight_columns(self) -> int:
        """Largest number of outputs of a tile: its bit lines without the reference columns; 0: no limit."""
        return self.tile_columns - self.references if self.tile_columns else 0

    @property
    def beyond_aihwkit(self) -> list[str]:
        """Keys in use that aihwkit's torch tiles have nothing for."""
        used = ["reference_columns"] if self.references else []
        used += ["input_rotation"] if self.input_rotation != "none" else []
        used += ["drift_compensation"] if self.least_squares else []
        return used + [key for key in dict.fromkeys((*_IN_THE_PRODUCT, *FAULTS)) if getattr(self, key)]
