"""Weights as conductances: targets of the programming of a tile's devices, and their later values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from aihwkit.inference.converter.base import BaseConductanceConverter

Devices = Tensor | Sequence[Tensor]
"""aihwkit's conductances in uS: one matrix for each device of a cell; a single device is a bare matrix or its rows."""
Parameters = Mapping[str, float | Tensor]
"""aihwkit's scale of a tile: `scale_ratio` in uS for each tile unit; for a single device also `min`, in tile units."""


@dataclass(frozen=True)
class TileConductances:
    """The devices of one tile.

    A cell is one or more pairs of devices, or a single device. In tile units a cell holds the weight

        pairs:  w = sum_k f_k (G+_k - G-_k) / scale         f_k: significance of pair k
        single: w = offset + (G - g_min) / scale

    (aihwkit's conductance converters, written the other way round).
    """

    devices: list[Tensor]
    """Each (columns, rows), in uS: G+ and G- of each pair in turn, or the single device."""
    scale: float
    """uS for each tile unit of weight."""
    offset: float
    """Single device: weight at g_min, in tile units. Pairs: 0."""
    weight: Tensor
    """(columns, rows), in tile units: weights that the devices hold, before conductances were rounded."""


def target_conductances(converter: BaseConductanceConverter, weight: Tensor) -> TileConductances:
    """Conductances that the devices of a tile should be programmed to.

    Args:
        converter: aihwkit's conductance converter.
        weight: (columns, rows), in tile units.
    """
    devices, parameters = converter.convert_to_conductances(weight)
    return _tile(devices, parameters, weight)


def cell_weights(tile: TileConductances, significance: list[float], g_min: float) -> Tensor:
    """The weights in tile units that the conductances of a tile stand for, (columns, rows) in double precision."""
    single = 0.0 if significance else g_min
    return tile.offset + (cell_microsiemens(tile.devices, significance) - single) / tile.scale


def with_references(target: Tensor, references: int) -> Tensor:
    """Targets of a tile with those of its reference columns, which stand for a weight of zero.

    Args:
        target: (columns, rows), in tile units.
        references: number of reference columns.

    Returns:
        (columns + references, rows).
    """
    return torch.cat([target, target.new_zeros(references, target.shape[1])]) if references else target


def less_references(weight: Tensor, references: int) -> Tensor:
    """Weights after the mean current of the reference columns was subtracted; the inverse of `with_references`."""
    return weight[:-references] - weight[-references:].mean(dim=0) if references else weight


def on_scale_of(scale: float, offset: float, drifted: TileConductances, g_min: float) -> TileConductances:
    """Bring conductances that aihwkit computed to the scale of the programming.

    aihwkit turns weights into conductances anew before it lets them drift, and maps the largest weight of the tile,
    its programming error included, to g_max again. The devices are of course not rescaled on the way: a device whose
    error took it to 26 uS starts to drift from 26 uS. So the distance from g_min is scaled back here; the weights
    stay what they were.

    Args:
        scale: uS for each tile unit at the programming.
        offset: single device: weight at g_min at the programming, in tile units.
        drifted: conductances that aihwkit computed.
        g_min: conductance of a zero weight, in uS.
    """
    ratio = scale / drifted.scale
    shift = (drifted.offset - offset) * scale
    devices = [g_min + (device.double() - g_min) * ratio + shift for device in drifted.devices]
    return TileConductances(devices, scale, offset, drifted.weight)


def cell_microsiemens(devices: list[Tensor], significance: list[float]) -> Tensor:
    """Conductance of each cell in uS: the sum of f (G+ - G-) over its pairs, or the single device's G.

    Args:
        devices: those of `TileConductances`.
        significance: significance of each pair; empty for a single device.
    """
    if not significance:
        return devices[0].double()
    pairs = zip(significance, devices[::2], devices[1::2], strict=True)
    return torch.stack([factor * (plus.double() - minus.double()) for factor, plus, minus in pairs]).sum(dim=0)


def significance_of(converter: BaseConductanceConverter) -> list[float]:
    """The significance of each pair of a cell, lowest first as the devices are listed; empty for a single device."""
    from aihwkit.inference.converter.conductance import SingleDeviceConductanceConverter

    if isinstance(converter, SingleDeviceConductanceConverter):
        return []
    return [float(factor) for factor in getattr(converter, "f_lst", [1.0])]


class RecordingConverter:
    """One of aihwkit's conductance converters that records the last conductances that it turned back into weights.

    aihwkit's noise models change conductances inside and return weights only; with this as their `g_converter` the
    conductances become known too.

    Args:
        converter: converter to wrap.
    """

    def __init__(self, converter: BaseConductanceConverter) -> None:
        self.converter = converter
        self._last: TileConductances | None = None

    def convert_to_conductances(self, weights: Tensor) -> tuple[Devices, Parameters]:
        """Result of the converter."""
        conductances: tuple[Devices, Parameters] = self.converter.convert_to_conductances(weights)
        return conductances

    def convert_back_to_weights(self, conductances: Devices, params: Parameters) -> Tensor:
        """Result of the converter, which `take` then returns with its conductances."""
        weight: Tensor = self.converter.convert_back_to_weights(conductances, params)
        self._last = _tile(conductances, params, weight)
        return weight

    def take(self) -> TileConductances:
        """The last conductances, which are then no longer kept."""
        last, self._last = self._last, None
        assert last is not None
        return last


def _tile(devices: Devices, parameters: Parameters, weight: Tensor) -> TileConductances:
    if "min" in parameters:
        # The single device's converter takes a matrix, and the noise model iterates over its rows.
        devices = [devices if isinstance(devices, Tensor) else torch.stack(list(devices))]
    return TileConductances(list(devices), float(parameters["scale_ratio"]), float(parameters.get("min", 0.0)), weight)
