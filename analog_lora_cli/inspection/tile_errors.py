"""How far a layer's matrix-vector product on a chip is from the exact one, and which effect is to blame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import torch
from torch import Tensor

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.config.times import seconds, time_label
from analog_lora_cli.hardware.kernels.normals import Normals
from analog_lora_cli.hardware.physics.chip import Chip, undefined_times
from analog_lora_cli.hardware.tile.analog_linear import AnalogLinear
from analog_lora_cli.hardware.tile.effective_weights import TileState
from analog_lora_cli.hardware.tile.mapping import TileGrid
from analog_lora_cli.hardware.tile.mvm import DigitalScales, read_tiles
from analog_lora_cli.hardware.tile.training_noise import derive_seed

CONVERTERS = "converters"
PROGRAMMING = "programming"
READ = "read noise"


@dataclass(frozen=True)
class Effect:
    """The error with one more effect switched on than before."""

    name: str
    """`converters` (DAC, ADC, output noise; exact weights), `programming`, `read noise`, or a time such as `1y`."""
    error: float
    """||y - y_exact|| / ||y_exact|| over all tokens, with this and the effects before it; mean over the chips. A time
    has drift and the read noise of that time over `programming`."""
    std: float | None
    """Of `error` over the chips; None with one chip."""
    added: float
    """sqrt(error^2 - error_before^2): this effect's part if the parts are independent. For times, before is `read
    noise`; 0 where the error did not grow."""
    tiles: list[list[float]]
    """`error` of each tile's own product, by row and column of the layer's grid."""


@dataclass(frozen=True)
class LayerErrors:
    """The errors of one layer's product."""

    effects: list[Effect]
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

    The arithmetic is that of this project's tile, also where `hardware.simulator` is `aihwkit`.

    Args:
        name: the layer's name, part of every seed.
        layer: the layer on tiles; what it holds is changed.
        original: (out_features, in_features): its weights before clipping.
        x: (tokens, in_features), finite.
        seeds: the chips.
        times: after programming; those that are not after the first read are left out.
    """
    first = first_read(layer.hardware)
    later = [time for time in times if seconds(time) > first]
    exact = _exact_products(layer, x)
    measured: dict[str, list[tuple[float, Tensor]]] = {}
    for seed in seeds:
        chip = Chip(seed, {name: layer}, layer.hardware)
        chip.release()
        _record(measured, CONVERTERS, layer, x, exact, seed)
        chip.hold_programmed()
        _record(measured, PROGRAMMING, layer, x, exact, seed)
        chip.age(first)
        _record(measured, READ, layer, x, exact, seed)
        for time in later:
            chip.age(seconds(time))
            _record(measured, time, layer, x, exact, seed)
        chip.release()
    clipped = _relative(torch.nn.functional.linear(x, original.detach()), sum(exact, torch.zeros(())))
    return LayerErrors(_effects(measured), clipped)


def effect_names(hardware: HardwareConfig, times: Sequence[str]) -> list[str]:
    """The names of the effects that `layer_errors` measures, in its order."""
    first = first_read(hardware)
    return [CONVERTERS, PROGRAMMING, READ, *(time for time in times if seconds(time) > first)]


def read_label(hardware: HardwareConfig) -> str:
    """The time of the first read, for a heading."""
    return time_label(first_read(hardware))


def _record(
    measured: dict[str, list[tuple[float, Tensor]]],
    name: str,
    layer: AnalogLinear,
    x: Tensor,
    exact: list[Tensor],
    seed: int,
) -> None:
    normals = Normals(derive_seed(seed, layer.name, name, "output noise"), x.device)
    products = _products(layer, layer.state, x, normals)
    whole = _relative(sum(exact, torch.zeros(())), sum(products, torch.zeros(())))
    by_tile = [
        [_relative(was[:, first:last], now[:, first:last]) for first, last in layer.grid.columns]
        for was, now in zip(exact, products, strict=True)
    ]
    measured.setdefault(name, []).append((whole, torch.tensor(by_tile, dtype=torch.float64)))


def _exact_products(layer: AnalogLinear, x: Tensor) -> list[Tensor]:
    """The exact product of each row of tiles, (tokens, out_features); their sum is the layer's."""
    weight = layer.weight.detach()
    return [torch.nn.functional.linear(x[:, start:stop], weight[:, start:stop]) for start, stop in layer.grid.rows]


def _products(layer: AnalogLinear, state: TileState | None, x: Tensor, normals: Normals) -> list[Tensor]:
    """The analog product of each row of tiles, read as `AnalogLinear` reads them all."""
    held = layer.weight.detach() if state is None else state.weight
    products = []
    for index, (start, stop) in enumerate(layer.grid.rows):
        alone = TileGrid(rows=[(0, stop - start)], columns=layer.grid.columns)
        compensation = None if state is None else state.compensation[index : index + 1]
        scales = DigitalScales.of(layer.column_scale[index : index + 1], compensation, layer.converters)
        inputs = (x[:, start:stop], held[:, start:stop], scales)
        products.append(read_tiles(*inputs, None, alone, layer.converters, normals).output)
    return products


def _relative(exact: Tensor, measured: Tensor) -> float:
    """||measured - exact|| / ||exact||; 0 for a tile of zeros, whose output is exactly 0."""
    norm = float(exact.double().norm())
    return float((measured - exact).double().norm()) / norm if norm > 0 else 0.0


def _effects(measured: dict[str, list[tuple[float, Tensor]]]) -> list[Effect]:
    effects: list[Effect] = []
    before = 0.0
    for name, runs in measured.items():
        errors = [error for error, _ in runs]
        error = fmean(errors)
        tiles = torch.stack([tiles for _, tiles in runs]).mean(dim=0)
        effects.append(
            Effect(
                name=name,
                error=error,
                std=stdev(errors) if len(errors) > 1 else None,
                added=max(0.0, error**2 - before**2) ** 0.5,
                tiles=tiles.tolist(),
            )
        )
        if name in (CONVERTERS, PROGRAMMING, READ):
            before = error
    return effects
