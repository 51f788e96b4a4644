"""Keys of `hardware` for what disturbs a product beside programming noise and drift: noise, IR drop and faults."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from analog_lora_cli.config.effects import Affects, Unit
from analog_lora_cli.config.section import Section

_READ = Affects("read", "training")

FAULTS = ("stuck_low", "stuck_high", "dead_columns", "adc_gain_mismatch", "adc_offset_mismatch")
"""Keys of what differs from chip to chip for good: drawn when a chip is programmed."""


class ImperfectionKeys(Section):
    """Imperfections of a chip's products; none by default."""

    read_noise_per_product: Annotated[float, _READ, Unit("tile units")] = Field(default=0.0, ge=0)
    """Short-term read noise of the devices, drawn anew in each product, in training and evaluation; 0: none. Standard
    deviation s of a weight's noise, which gives an output of `constant`: s sqrt(sum_j q_j^2), `pcm`: s sqrt(sum_j
    |w_ij| q_j^2) with the inputs q after the DAC, before the ADC. Formula: `w_noise` of aihwkit's C++ tile (its torch
    tile has none); 0.0175 with `pcm` in its presets, 0.01 with `constant` for `reram-cmo`."""

    read_noise_type: Annotated[Literal["constant", "pcm"], _READ] = "constant"
    """Dependence of `read_noise_per_product` on the weight: `constant`, or `pcm`, whose variance grows with |w|."""

    ir_drop: Annotated[float, _READ] = Field(default=0.0, ge=0)
    """Strength of the IR drop along the bit lines, in training and evaluation; 0: none, 1: that of `ir_drop_g_ratio`.
    With a_i = (n / g_ratio) sum_j |w_ij| |q_j| and c = 0.05 a^3 - 0.2 a^2 + 0.5 a, an output loses
    ir_drop c_i sum_j (1 - (1 - j/n)^2) w_ij q_j, j = 0 ... n - 1 counting the inputs from the ADC: the steady state of
    a bit line whose load is evenly spread. Formula: `ir_drop` of aihwkit's C++ tile (Rasch et al., Nat. Commun. 14,
    5282, 2023)."""

    ir_drop_g_ratio: Annotated[float, _READ] = Field(default=1.0 / 0.35 / 5e-6, gt=0)
    """Conductance of a bit line from one cell to the next over a device's largest, for `ir_drop`. Default: aihwkit's,
    0.35 Ohm and 5 uS."""

    stuck_low: Annotated[float, _READ, Unit("share")] = Field(default=0.0, ge=0, le=1)
    """Share of the devices that stay at `g_min` at all times, drawn with each chip, reference columns included:
    stuck-at faults as in Chen et al., IEEE Trans. Comput. 64 (2015). With pairs, G+ and G- are separate devices."""

    stuck_high: Annotated[float, _READ, Unit("share")] = Field(default=0.0, ge=0, le=1)
    """Share of the devices that stay at `g_max` at all times, as `stuck_low`."""

    dead_columns: Annotated[float, _READ, Unit("share")] = Field(default=0.0, ge=0, le=1)
    """Share of the output columns of tiles, drawn with each chip, whose current never arrives: their ADC converts
    nothing but noise and its offset."""

    adc_gain_mismatch: Annotated[float, _READ] = Field(default=0.0, ge=0)
    """Standard deviation of each column's ADC gain 1 + g, drawn with each chip and fixed in time: the product counts
    1 + g times. Linear errors of a converter as in IEEE 1241."""

    adc_offset_mismatch: Annotated[float, _READ, Unit("tile units")] = Field(default=0.0, ge=0)
    """Standard deviation of each column's ADC offset, drawn with each chip and fixed in time, added before the ADC."""

    @model_validator(mode="after")
    def _one_fault_for_each_device(self) -> ImperfectionKeys:
        if self.stuck_low + self.stuck_high > 1:
            raise ValueError(
                f"stuck_low ({self.stuck_low:g}) and stuck_high ({self.stuck_high:g}) are shares of the same devices: "
                "their sum must be 1 or less"
            )
        return self

    @property
    def has_faults(self) -> bool:
        """Whether chips have faults, see `FAULTS`."""
        return any(getattr(self, key) for key in FAULTS)
