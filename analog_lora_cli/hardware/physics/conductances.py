"""Weights as conductances: what the devices of a tile are programmed to, and what they hold later."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from aihwkit.inference.converter.base import BaseConductanceConverter


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
    """(columns, rows), in tile units: what the devices hold, without their rounding."""


def target_conductances(converter: BaseConductanceConverter, weight: Tensor) -> TileConductances:
    """What the devices of a tile should be programmed to.

    Args:
        converter: aihwkit's conductance converter.
        weight: (columns, rows), in tile units.
    """
    devices, parameters = converter.convert_to_conductances(weight)
    return _tile(devices, parameters, weight)


def on_scale_of(target: TileConductances, drifted: TileConductances, g_min: float) -> TileConductances:
    """Bring conductances that aihwkit computed to the scale of the programming.

    aihwkit turns weights into conductances anew before it lets them drift, and maps the largest weight of the tile,
    its programming error included, to g_max again. The devices are of course not rescaled on the way: a device whose
    error took it to 26 uS starts to drift from 26 uS. So the distance from g_min is scaled back here; the weights
    stay what they were.

    Args:
        target: of the same tile, as programmed for.
        drifted: as aihwkit computed them.
        g_min: conductance of a zero weight, in uS.
    """
    ratio = target.scale / drifted.scale
    shift = (drifted.offset - target.offset) * target.scale
    devices = [g_min + (device.double() - g_min) * ratio + shift for device in drifted.devices]
    return TileConductances(devices, target.scale, target.offset, drifted.weight)


def cell_microsiemens(devices: list[Tensor], significance: list[float]) -> Tensor:
    """What the devices of each cell hold together, in uS: the sum of f (G+ - G-), or the single device's G."""
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
    """One of aihwkit's conductance converters that keeps what it last turned back into weights.

    aihwkit's noise models change conductances inside and return weights only; with this as their `g_converter` the
    conductances can be seen.

    Args:
        converter: does the work.
    """

    def __init__(self, converter: BaseConductanceConverter) -> None:
        self.converter = converter
        self.last: TileConductances | None = None

    def convert_to_conductances(self, weights: Tensor) -> Any:
        """As the converter does."""
        return self.converter.convert_to_conductances(weights)

    def convert_back_to_weights(self, conductances: Any, params: Any) -> Tensor:
        """As the converter does; sets `last`."""
        weight: Tensor = self.converter.convert_back_to_weights(conductances, params)
        self.last = _tile(conductances, params, weight)
        return weight


def _tile(devices: Any, parameters: Any, weight: Tensor) -> TileConductances:
    if "min" in parameters:
        # The single device's converter takes a matrix, and the noise model iterates over its rows.
        devices = [torch.stack(list(devices)) if isinstance(devices, list) else devices]
    return TileConductances(list(devices), float(parameters["scale_ratio"]), float(parameters.get("min", 0.0)), weight)
