"""The error of a layer's analog matrix-vector product on a chip, and the part of each effect in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import torch
from torch import Tensor

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.config.times import seconds, time_label
from analog_lora_cli.hardware.physics.chip import Chip
from analog_lora_cli.hardware.physics.devices import undefined_times
from analog_lora_cli.hardware.seeds import derive_seed
from analog_lora_cli.hardware.tile.analog_linear import AnalogLinear
from analog_lora_cli.hardware.tile.array import GradientNeeds, TileArray
from analog_lora_cli.hardware.tile.backends import backend_for
from analog_lora_cli.hardware.tile.converters import Converters, DigitalScales
from analog_lora_cli.hardware.tile.grid import TileGrid
from analog_lora_cli.hardware.tile.input_scale import FixedRange, InputScale, TokenMaximum
from analog_lora_cli.hardware.tile.training_noise import LayerNoise

CONVERTERS = "converters"
PROGRAMMING = "programming"
READ = "read noise"
SHORT_TERM = "short-term noise"
IR_DROP = "IR drop"
ADC = "ADC mismatch"
STUCK = "stuck devices"
DEAD = "dead columns"

_KEYS = {
    SHORT_TERM: ("read_noise_per_product",),
    IR_DROP: ("ir_drop",),
    STUCK: ("stuck_low", "stuck_high"),
    DEAD: ("dead_columns",),
    ADC: ("adc_gain_mismatch", "adc_offset_mismatch"),
}
"""Effects that hardware may lack, with the keys of the configuration that switch them on."""
_EXACT = (CONVERTERS, SHORT_TERM, IR_DROP)
"""Effects on exact weights."""
_PROGRAMMED = (PROGRAMMING, STUCK, DEAD, ADC)
"""Effects on programmed weights before any read."""


@dataclass(frozen=True)
class Effect:
    """The error with one more effect switched on than before."""

    name: str
    """`converters` (DAC, ADC, output noise; exact weights), `programming`, `read noise`, or a time such as `1y`; where
    the hardware has them `short-term noise` and `IR drop` after the first of these, `stuck devices`, `dead columns` and
    `ADC mismatch` after the second."""
    error: float
    """||y - y_exact|| / ||y_exact|| over all tokens, with this and the effects before it; mean over the chips. A time
    has drift and the read noise of that time over `programming`."""
    std: float | None
    """Standard deviation of `error` over the chips; None with one chip."""
    added: float
    """sqrt(error^2 - error_before^2): this effect's part if the parts are independent. For times, before is `read
    noise`; 0 where the error did not grow."""
    tiles: list[list[float]]
    """`error` of each tile's own product, by row and column of the layer's grid."""


@dataclass(frozen=True)
class RangeCost:
    """Cost of one range for all tokens, in place of each token's own."""

    ranges: list[float]
    """The range of each row of tiles."""
    beyond: float
    """Share of the inputs that are beyond the range of their row of tiles, and clipped."""
    dynamic: float
    """The error of `converters` with `input_range: dynamic`; mean over the chips."""


@dataclass(frozen=True)
class LayerErrors:
    """The errors of one layer's product."""

    effects: list[Effect]
    input_range: RangeCost | None
    """Cost of ranges of the inputs; None with `input_range: dynamic`."""
    clipping: float
    """Relative change of the exact product by clipping: ||x W_clipped - x W|| / ||x W||. Not part of the effects, which
    are measured against the clipped weights, because those are what the adapter is trained with."""

    @property
    def worst(self) -> float:
        """The error with all effects at the last time."""
        return self.effects[-1].error


def first_read(hardware: HardwareConfig) -> float:
    """The earliest time in seconds after programming that the device is defined at: 0 but for a few."""
    undefined, defined = undefined_times(hardware, [0.0])
    return (defined or [0.0])[0] if undefined else 0.0


@torch.no_grad()
def layer_errors(
    name: str, layer: AnalogLinear, original: Tensor, x: Tensor, seeds: Sequence[int], times: Sequence[str]
) -> LayerErrors:
    """Measure one layer. Its chips are those of `evaluate-drift`: the same seeds hold the same weights.

    The numerics are those of this project's tile, also where `hardware.simulator` is `aihwkit`.

    Args:
        name: the layer's name, part of every seed.
        layer: the layer on tiles; not changed.
        original: (out_features, in_features): its weights before clipping.
        x: (tokens, in_features) as they arrive at the DACs, finite.
        seeds: the chips.
        times: after programming; those that are not after the first read are left out.
    """
    dtype = layer.column_scale.dtype
    original = original if layer.rotation is None else layer.rotation.of_weight(original)
    layer, original, x = _on_own_tiles(layer, dtype), original.to(dtype), x.to(dtype)
    first = first_read(layer.hardware)
    later = [time for time in times if seconds(time) > first]
    errors, dynamic = _Errors(layer, x, layer.input_scale), _Errors(layer, x, TokenMaximum())
    for seed in seeds:
        layer.state = None
        for effect in present(_EXACT, layer.hardware):
            errors.measure(effect, seed, Converters.of(up_to(effect, layer.hardware)))
        if layer.input_range is not None:
            dynamic.measure(CONVERTERS, seed, Converters.of(up_to(CONVERTERS, layer.hardware)))
        for effect in present(_PROGRAMMED, layer.hardware):
            chip = Chip(seed, {name: layer}, up_to(effect, layer.hardware))
            chip.hold_programmed()
            errors.measure(effect, seed)
        chip.age(first)
        errors.measure(READ, seed)
        for time in later:
            chip.age(seconds(time))
            errors.measure(time, seed)
        chip.release()
    clipped = _relative(torch.nn.functional.linear(x, original.detach()), _total(errors.exact))
    return LayerErrors(errors.effects(), _range_cost(layer, x, dynamic), clipped)


def _on_own_tiles(layer: AnalogLinear, dtype: torch.dtype) -> AnalogLinear:
    """The layer in another type, on this project's tiles; goes when its errors are measured, unlike the model's own."""
    result = AnalogLinear(layer.weight.detach().to(dtype), None, layer.hardware, layer.name)
    if layer.input_range is not None:
        result.set_input_range(layer.input_range.abs())
    return result


def _range_cost(layer: AnalogLinear, x: Tensor, dynamic: _Errors) -> RangeCost | None:
    scale = layer.input_scale
    if not isinstance(scale, FixedRange):
        return None
    return RangeCost(scale.range_R.tolist(), scale.beyond(x, layer.grid), dynamic.effects()[0].error)


def effect_names(hardware: HardwareConfig, times: Sequence[str]) -> list[str]:
    """The names of the effects that `layer_errors` measures, in its order."""
    first = first_read(hardware)
    now = present((*_EXACT, *_PROGRAMMED), hardware)
    return [*now, READ, *(time for time in times if seconds(time) > first)]


def present(effects: Sequence[str], hardware: HardwareConfig) -> list[str]:
    """Those of the effects that the hardware has."""
    return [effect for effect in effects if effect not in _KEYS or any(getattr(hardware, key) for key in _KEYS[effect])]


def up_to(effect: str, hardware: HardwareConfig) -> HardwareConfig:
    """The hardware without the effects that come later than this one."""
    order = [*_EXACT, *_PROGRAMMED]
    later = [key for after in order[order.index(effect) + 1 :] for key in _KEYS.get(after, ())]
    return hardware.model_copy(update=dict.fromkeys(later, 0.0))


def read_label(hardware: HardwareConfig) -> str:
    """The time of the first read, for a heading."""
    return time_label(first_read(hardware))


class _Errors:
    """The errors of a layer's product, by effect and chip.

    Args:
        layer: the layer on tiles, as a chip has set it when `measure` is called.
        x: (tokens, in_features).
        input_scale: scale of the inputs.
    """

    def __init__(self, layer: AnalogLinear, x: Tensor, input_scale: InputScale) -> None:
        weight = layer.weight.detach()
        self.layer = layer
        self.x = x
        self.input_scale = input_scale
        self.exact = [
            torch.nn.functional.linear(x[:, start:stop], weight[:, start:stop]) for start, stop in layer.grid.rows
        ]
        """The exact product of each row of tiles, (tokens, out_features); their sum is the layer's."""
        self._by_effect: dict[str, list[tuple[float, Tensor]]] = {}

    def measure(self, effect: str, seed: int, converters: Converters | None = None) -> None:
        """Measure what the layer holds now.

        Args:
            effect: the last effect that is switched on.
            seed: the chip's.
            converters: converters to use; None: the layer's.
        """
        converters = converters or self.layer.converters
        products = []
        for row in range(len(self.exact)):
            noise_seed = derive_seed(seed, self.layer.name, effect, "output noise", row)
            products.append(self._product(row, noise_seed, converters))
        by_tile = torch.zeros(len(self.layer.grid.rows), len(self.layer.grid.columns), dtype=torch.float64)
        for tile in self.layer.grid:
            columns = slice(*tile.outputs)
            by_tile[tile.row, tile.column] = _relative(self.exact[tile.row][:, columns], products[tile.row][:, columns])
        self._by_effect.setdefault(effect, []).append((_relative(_total(self.exact), _total(products)), by_tile))

    def _product(self, row: int, seed: int, converters: Converters) -> Tensor:
        """The analog product of one row of tiles, computed as `AnalogLinear` computes them all."""
        layer, state = self.layer, self.layer.state
        start, stop = layer.grid.rows[row]
        weight = (layer.weight.detach() if state is None else state.weight)[:, start:stop]
        compensation = None if state is None else state.compensation[row : row + 1]
        offset = None if state is None or state.adc_offset is None else state.adc_offset[row : row + 1]
        column_scale = layer.column_scale[row : row + 1]
        tiles = TileArray(
            weight=weight,
            grid=TileGrid(rows=[(0, stop - start)], columns=layer.grid.columns),
            converters=converters,
            scales=DigitalScales.of(column_scale, compensation, converters),
            column_scale=column_scale,
            noise=LayerNoise(output_seed=seed),
            input_scale=self.input_scale.of_row(row),
            compensation=compensation,
            adc_offset=offset,
        )
        backend = backend_for(weight, layer.hardware)
        return backend.mvm(self.x[:, start:stop], tiles, None, GradientNeeds(), None).output

    def effects(self) -> list[Effect]:
        """The effects in the order of their first measurement, averaged over the chips."""
        effects: list[Effect] = []
        before = 0.0
        for name, chips in self._by_effect.items():
            errors = [error for error, _ in chips]
            error = fmean(errors)
            effects.append(
                Effect(
                    name=name,
                    error=error,
                    std=stdev(errors) if len(errors) > 1 else None,
                    added=max(0.0, error**2 - before**2) ** 0.5,
                    tiles=torch.stack([tiles for _, tiles in chips]).mean(dim=0).tolist(),
                )
            )
            if name in (*_EXACT, *_PROGRAMMED, READ):
                before = error
        return effects


def _total(products: list[Tensor]) -> Tensor:
    """The layer's product from those of its rows of tiles."""
    return sum(products, torch.zeros(()))


def _relative(exact: Tensor, measured: Tensor) -> float:
    """||measured - exact|| / ||exact||; 0 for a tile of zeros, whose output is exactly 0."""
    norm = float(exact.double().norm())
    return float((measured - exact).double().norm()) / norm if norm > 0 else 0.0
