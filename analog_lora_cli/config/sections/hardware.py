"""The `hardware` section."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from analog_lora_cli.config.devices import DEVICES, Converter
from analog_lora_cli.config.effects import Affects, Unit
from analog_lora_cli.config.registry import OneOf
from analog_lora_cli.config.section import Section

Compensation = Literal["none", "global", "global-exact", "per-column", "least-squares", "least-squares-per-column"]
_PLACES = Affects("mapping", "training", reason="says which layers lie on tiles")
_CUT = Affects("mapping", "training", reason="says how the weights are cut into tiles")
_CLIP = Affects("clipping", "training", reason="says how the programmed weights were clipped")
_CONDUCTANCES = Affects("programming", "training", reason="decides the programmed conductances")
_PAIRS = Affects("programming", "training", "cost", reason="decides the programmed conductances")
_READ = Affects("read", "training")
_REFERENCES = Affects("mapping", "programming", "read", "training", "cost", reason="takes columns from the weights")

REFERENCE_COLUMNS = 4
"""Reference columns of a tile of single devices by default: their own errors add 12 % to the devices', for less than a
percent of 512 columns; those of a single one would add 41 %."""

FAULTS = ("stuck_low", "stuck_high", "dead_columns", "adc_gain_mismatch", "adc_offset_mismatch")
"""Keys of what differs from chip to chip for good: drawn when a chip is programmed."""

_AUTO = "auto:"

_IN_THE_PRODUCT = ("read_noise_per_product", "ir_drop", "adc_offset_mismatch")


def _names_or_auto(value: list[str] | str | None) -> list[str] | str | None:
    if isinstance(value, str) and not (value.startswith(_AUTO) and value.removeprefix(_AUTO).isdecimal()):
        raise ValueError(f"expected a list of names, or auto:N with a number N of layers, got {value!r}")
    return value


class HardwareConfig(Section):
    """The analog hardware. Tile units: inputs scaled by the token's largest magnitude, weights by the largest
    magnitude of their output column, so that both lie in [-1, 1]."""

    simulator: Annotated[Literal["fast", "aihwkit"], Affects("read", "training")] = "fast"
    """`fast`: this project's tile; `aihwkit`: aihwkit's own torch tile, slower, for comparison."""

    kernels: Annotated[Literal["auto", "torch", "numba", "triton"], Affects("numerics", "training")] = "auto"
    """Computation of the tiles of `fast`. On a CPU: `numba` with compiled loops and dropout whose masks come from a
    hash, `torch` with torch's own operations and dropout, `auto` with numba where it can be loaded. Bit-identical but
    for the dropout masks and rounding. On a GPU: torch's operations, or with `triton` one kernel for each product,
    whose noise has other numbers, and for a chip's tiles; not measured on a card yet, so never chosen by `auto`."""

    layers: Annotated[list[str] | str | None, AfterValidator(_names_or_auto), _PLACES] = None
    """Linear layers to put onto tiles, as dotted suffixes of their names; null: all but a digital head; `auto:N`: all
    but the N whose analog error matters most for the loss, measured on training data before the training, which writes
    them into `digital_layers`."""

    digital_layers: Annotated[list[str] | None, _PLACES] = None
    """Linear layers that stay digital although `layers` would put them onto tiles, as dotted suffixes of their names;
    null: none, or with `layers: auto:N` those that are measured."""

    max_unsupported_share: Annotated[float, Affects("training", "report")] = Field(default=0.5, ge=0, le=1)
    """Largest share of the weights that multiply inputs which no tile can hold, such as the experts of a mixture that
    transformers keeps in 3-D parameters: a model beyond it is not trained. `inspect-tiles` shows the share."""

    tile_rows: Annotated[int, _CUT, Unit("word lines")] = Field(default=512, ge=0)
    """Inputs of one tile (word lines); 0: no limit."""

    tile_columns: Annotated[int, _CUT, Unit("bit lines")] = Field(default=512, ge=0)
    """Outputs of one tile (bit lines); 0: no limit."""

    dac_bits: Annotated[int, Affects("read", "training"), Unit("bits")] = Field(default=8, ge=0, le=16)
    """Resolution of the input converter: 2^bits - 1 levels over [-1, 1]; 0: ideal, 1 is not possible."""

    input_rotation: Annotated[
        Literal["none", "hadamard"], Affects("mapping", "training", reason="is in the programmed weights")
    ] = "none"
    """Digital rotation of each layer's inputs before the DACs, and of its weights before they are clipped and
    programmed, which leaves their product as it is: `hadamard` in blocks of the largest power of two that divides the
    inputs, with random signs (QuaRot, arXiv 2404.00456, does so for digital quantization). It spreads the few large
    activations of a language model over all inputs. Products then exceed the ADC's range more often: use it with
    `bound_management: iterative`. For methods lora and digital and adapters that only add to a layer's product; not
    for an export to aihwkit. `inspect-tiles` counts its energy, not its time."""

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

    adc_bits: Annotated[int, Affects("read", "training"), Unit("bits")] = Field(default=8, ge=0, le=16)
    """Resolution of the output converter: 2^bits - 1 levels over [-adc_bound, adc_bound]; 0: ideal."""

    adc_bound: Annotated[float, Affects("read", "training"), Unit("tile units")] = Field(default=12.0, ge=0)
    """Largest output that the ADC can convert, in tile units; 0: no limit (then `adc_bits` must be 0)."""

    bound_management: Annotated[Literal["saturate", "iterative"], Affects("read", "training")] = "saturate"
    """Treatment of a token whose output exceeds `adc_bound` on a tile: `saturate` clamps it; `iterative` repeats that
    token with halved input until it fits (aihwkit does so for the whole batch at once)."""

    output_noise: Annotated[float, Affects("read", "training"), Unit("tile units")] = Field(default=0.04, ge=0)
    """Standard deviation of the Gaussian noise before the ADC, in tile units, in training and evaluation."""

    weight_noise: Annotated[float, Affects("training")] = Field(default=0.067, ge=0)
    """Standard deviation of the training noise on the weights, relative to the largest weight of each column of a
    tile; one draw per forward pass. Only in training."""

    weight_noise_type: Annotated[Literal["gaussian", "device-gaussian", "device"], Affects("training")] = "gaussian"
    """`gaussian`: `weight_noise`, as in the paper. The others take the configured `device` at a random age of each
    step, log-uniform between the first and the last of `drift.times`, and not `weight_noise`: `device` programs a new
    chip (exact, slower); `device-gaussian` draws each weight from a normal distribution with the mean and the standard
    deviation that the device's laws give its conductance after programming, drift and read (in closed form, at about
    the cost of `gaussian`; for `pcm` and device files), and compensates the expected drift of each tile."""

    weight_noise_ramp: Annotated[float, Affects("training")] = Field(default=0.0, ge=0, le=1)
    """Share of the training steps over which the weight noise grows linearly from 0 to its value; 0: constant."""

    clip_sigma: Annotated[
        float,
        _CLIP,
        Unit("standard deviations"),
    ] = Field(default=3.0, ge=0)
    """Weights are clipped once, when mapped, at this many standard deviations; 0: off."""

    clip_scope: Annotated[
        Literal["column", "tile"],
        _CLIP,
    ] = "column"
    """Weights that one standard deviation is taken over: each output column of a tile (the paper's text), or the whole
    tile in tile units (the paper's repository)."""

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
    def _consistent(self) -> HardwareConfig:
        if self.fragile is not None and self.digital_layers is not None and len(self.digital_layers) != self.fragile:
            raise ValueError(
                f"digital_layers names {len(self.digital_layers)} layers, and layers: {self.layers} stands for "
                f"{self.fragile}: set digital_layers to null, so that they are measured"
            )
        if self.dac_bits == 1 or self.adc_bits == 1:
            raise ValueError("a converter of 1 bit is not possible: use 0 (ideal) or 2 and more bits")
        if self.adc_bits and not self.adc_bound:
            raise ValueError("adc_bits needs adc_bound > 0: without a range there is no step to quantize to")
        if self.input_range_rule == "mse" and self.input_range_value is not None:
            raise ValueError("input_range_rule: mse has no parameter: leave input_range_value null")
        if self.input_range_rule == "percentile" and self.range_parameter > 100:
            raise ValueError(f"input_range_value: {self.range_parameter:g} is no percentile: at most 100")
        if self.input_range == "learned" and self.simulator == "aihwkit":
            raise ValueError("input_range: learned is trained and read by simulator fast only: use fast, or static")
        g_min, g_max = self.conductance_range
        if g_min >= g_max:
            raise ValueError(f"g_min ({g_min} uS) must be below g_max ({g_max} uS)")
        if self.reference_columns and self.converter_name != "single-device":
            raise ValueError(
                f"reference_columns: converter {self.converter_name} has two devices for each weight, whose common "
                "decay cancels without; use 0, or converter: single-device"
            )
        if self.tile_columns and self.references >= self.tile_columns:
            raise ValueError(f"reference_columns ({self.references}) must be below tile_columns ({self.tile_columns})")
        if self.stuck_low + self.stuck_high > 1:
            raise ValueError(
                f"stuck_low ({self.stuck_low:g}) and stuck_high ({self.stuck_high:g}) are shares of the same devices: "
                "their sum must be 1 or less"
            )
        if self.weight_noise_type == "device-gaussian":
            if self.simulator == "aihwkit":
                raise ValueError(
                    "weight_noise_type: device-gaussian is drawn by simulator fast only: use fast, or device"
                )
            if self.has_faults:
                fault = next(key for key in FAULTS if getattr(self, key))
                raise ValueError(
                    f"{fault}: weight_noise_type device-gaussian knows no faults of single chips: use 0, or "
                    "weight_noise_type: device"
                )
        if self.simulator == "aihwkit":
            missing = [key for key in self.beyond_aihwkit if key in _IN_THE_PRODUCT]
            if missing:
                raise ValueError(
                    f"{missing[0]}: aihwkit's torch tile has none; use simulator: fast, or {missing[0]}: 0"
                )
        DEVICES[self.device].check(self.device_options, g_max)
        return self

    @property
    def fragile(self) -> int | None:
        """N of `layers: auto:N`; None for any other choice."""
        return int(self.layers.removeprefix(_AUTO)) if isinstance(self.layers, str) else None

    @property
    def unmeasured(self) -> int | None:
        """Number of layers that stay digital and are yet to be measured; None where all are known."""
        return self.fragile if self.digital_layers is None else None

    @property
    def named_layers(self) -> list[str] | None:
        """Names of the layers to put onto tiles; None: all that are not named otherwise."""
        return None if isinstance(self.layers, str) else self.layers

    @property
    def range_parameter(self) -> float:
        """Parameter of `input_range_rule`; 0 for a rule without one."""
        defaults = {"percentile": 99.9, "std": 3.0, "mse": 0.0}
        return defaults[self.input_range_rule] if self.input_range_value is None else self.input_range_value

    def shares_ranges(self, other: HardwareConfig) -> bool:
        """Whether input ranges that were calibrated or learned for `other` are those of this hardware."""
        keys = ("input_range", "input_range_rule", "range_parameter", "input_range_samples", "tile_rows")
        return all(getattr(self, key) == getattr(other, key) for key in keys)

    @property
    def references(self) -> int:
        """Reference columns of each tile."""
        if self.reference_columns is not None:
            return self.reference_columns
        return REFERENCE_COLUMNS if self.converter_name == "single-device" else 0

    @property
    def weight_noise_size(self) -> float:
        """Factor of the noise that a forward pass draws: `weight_noise`; 1 for a device's own size; 0: none."""
        return {"gaussian": self.weight_noise, "device-gaussian": 1.0, "device": 0.0}[self.weight_noise_type]

    @property
    def has_faults(self) -> bool:
        """Whether chips have faults, see `FAULTS`."""
        return any(getattr(self, key) for key in FAULTS)

    @property
    def weight_columns(self) -> int:
        """Largest number of outputs of a tile: its bit lines without the reference columns; 0: no limit."""
        return self.tile_columns - self.references if self.tile_columns else 0

    @property
    def least_squares(self) -> bool:
        """Whether the drift compensation is one of this project's own, by least squares."""
        return self.drift_compensation.startswith("least-squares")

    @property
    def beyond_aihwkit(self) -> list[str]:
        """Keys in use that aihwkit's torch tiles have nothing for."""
        used = ["reference_columns"] if self.references else []
        used += ["input_rotation"] if self.input_rotation != "none" else []
        used += ["drift_compensation"] if self.least_squares else []
        return used + [key for key in dict.fromkeys((*_IN_THE_PRODUCT, *FAULTS)) if getattr(self, key)]

    @property
    def conductance_range(self) -> tuple[float, float]:
        """Smallest and largest conductance in uS."""
        g_min, g_max = DEVICES[self.device].conductance_range(self.device_options)
        return (g_min if self.g_min is None else self.g_min, g_max if self.g_max is None else self.g_max)

    @property
    def converter_name(self) -> Converter:
        """Name of the converter; that of the device by default."""
        return self.converter or DEVICES[self.device].converter
