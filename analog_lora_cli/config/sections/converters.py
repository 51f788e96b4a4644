"""Keys of `hardware` for the converters: DAC with its input range, ADC with its bound, and the noise before it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from analog_lora_cli.config.effects import Affects, Unit
from analog_lora_cli.config.section import Section


class ConverterKeys(Section):
    """Converters of a tile."""

    dac_bits: Annotated[int, Affects("read", "training", "cost"), Unit("bits")] = Field(default=8, ge=0, le=16)
    """Resolution of the input converter: 2^bits - 1 levels over [-1, 1]; 0: ideal, 1 is not possible."""

    input_range: Annotated[Literal["dynamic", "static", "learned"], Affects("read", "training")] = "dynamic"
    """Range of the input converters. `dynamic`: each token's largest magnitude on a row of tiles (the paper's; no real
    chip sets a range for each token). `static`: one range for each layer and row of tiles, calibrated before the
    training on training data, or before a measurement if the training had none; inputs beyond it are clipped.
    `learned`: starts from the calibrated range and is trained with the adapter (Analog Foundation Models, arXiv
    2505.09663; formula of aihwkit's `InputRangeParameter`). A measurement and an adaptation keep the ranges of the
    training unless `input_range`, its rule, value or samples, or `tile_rows` is another."""

    input_range_rule: Annotated[Literal["percentile", "mse", "std"], Affects("read", "training")] = "percentile"
    """Rule of the calibration, for `static` and `learned`: `percentile` of the inputs' magnitudes; `mse`: the least
    squared error of the DAC's output with `dac_bits`; `std`: a multiple of the standard deviation (aihwkit's
    `init_std_alpha`)."""

    input_range_value: Annotated[float | None, Affects("read", "training"), Unit("percent, or standard deviations")] = (
        Field(default=None, gt=0)
    )
    """Parameter of `input_range_rule`: the percentile (null: 99.9), or the multiple of the standard deviation (null:
    3); `mse` has none."""

    input_range_samples: Annotated[int, Affects("read", "training"), Unit("samples")] = Field(default=64, ge=1)
    """Training samples that ranges are calibrated on, drawn by `train.seed`; all if there are fewer."""

    input_range_decay: Annotated[float, Affects("training")] = Field(default=0.001, ge=0)
    """Pull on a learned range: gradient relative to the range, where more than 95 % of the inputs lie within (aihwkit's
    `decay` and `input_min_percentage`)."""

    adc_bits: Annotated[int, Affects("read", "training", "cost"), Unit("bits")] = Field(default=8, ge=0, le=16)
    """Resolution of the output converter: 2^bits - 1 levels over [-adc_bound, adc_bound]; 0: ideal."""

    adc_bound: Annotated[float, Affects("read", "training"), Unit("tile units")] = Field(default=12.0, ge=0)
    """Largest output that the ADC can convert, in tile units; 0: no limit (then `adc_bits` must be 0)."""

    bound_management: Annotated[Literal["saturate", "iterative"], Affects("read", "training")] = "saturate"
    """Treatment of a token whose output exceeds `adc_bound` on a tile: `saturate` clamps it; `iterative` repeats that
    token with halved input until it fits (aihwkit does so for the whole batch at once)."""

    output_noise: Annotated[float, Affects("read", "training"), Unit("tile units")] = Field(default=0.04, ge=0)
    """Standard deviation of the Gaussian noise before the ADC, in tile units, in training and evaluation."""

    @model_validator(mode="after")
    def _convertible(self) -> ConverterKeys:
        if self.dac_bits == 1 or self.adc_bits == 1:
            raise ValueError("a converter of 1 bit is not possible: use 0 (ideal) or 2 and more bits")
        if self.adc_bits and not self.adc_bound:
            raise ValueError("adc_bits needs adc_bound > 0: without a range there is no step to quantize to")
        if self.input_range_rule == "mse" and self.input_range_value is not None:
            raise ValueError("input_range_rule: mse has no parameter: leave input_range_value null")
        if self.input_range_rule == "percentile" and self.range_parameter > 100:
            raise ValueError(f"input_range_value: {self.range_parameter:g} is no percentile: at most 100")
        return self

    @property
    def range_parameter(self) -> float:
        """Parameter of `input_range_rule`; 0 for a rule without one."""
        defaults = {"percentile": 99.9, "std": 3.0, "mse": 0.0}
        return defaults[self.input_range_rule] if self.input_range_value is None else self.input_range_value
