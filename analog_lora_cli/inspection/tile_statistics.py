"""Statistics of the weights of a layer, and of the conductances that they become."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.hardware.physics.devices import conductance_converter
from analog_lora_cli.hardware.tile.mapping import tile_weights
from analog_lora_cli.hardware.tile.state import MappedLayer

if TYPE_CHECKING:
    from aihwkit.inference.converter.base import BaseConductanceConverter

HISTOGRAM_BINS = 50
"""Between the smallest and the largest conductance; more would be noise for small layers."""


@dataclass(frozen=True)
class WeightStatistics:
    """The pretrained weights of a layer, before clipping."""

    std: float
    largest: float
    """Largest magnitude."""

    @property
    def peak(self) -> float:
        """Largest magnitude in standard deviations: what outliers cost, because the largest weight sets the scale."""
        return self.largest / self.std if self.std > 0 else 0.0


@dataclass(frozen=True)
class DeviceStatistics:
    """The target conductances of one device of every cell of a layer."""

    name: str
    """`G+` and `G-`; with several pairs `G1+`, `G1-`, `G2+`, ...; `G` where a cell has one device."""
    mean: float
    """uS."""
    std: float
    """uS."""
    largest: float
    """uS."""
    at_minimum: float
    """Share of the devices at the smallest conductance."""
    histogram: list[int]
    """Devices in each of `HISTOGRAM_BINS` equal bins over the range of conductances."""


def weight_statistics(weight: Tensor) -> WeightStatistics:
    """Standard deviation and largest magnitude of a layer's weights, in their own unit."""
    return WeightStatistics(std=float(weight.double().std(correction=0)), largest=float(weight.abs().max()))


def conductance_statistics(layer: MappedLayer, hardware: HardwareConfig) -> list[DeviceStatistics]:
    """The conductances that a layer's tiles are to be programmed to, before any noise.

    aihwkit's converter maps the weights of each tile in [-1, 1] to conductances in uS.

    Args:
        layer: a layer on tiles.
        hardware: device and converter.
    """
    by_device = zip(*_tile_conductances(layer, hardware), strict=True)
    collected = [torch.cat([part.reshape(-1) for part in parts]) for parts in by_device]
    names = device_names(len(collected))
    return [_device(name, values, hardware) for name, values in zip(names, collected, strict=True)]


def devices_per_weight(hardware: HardwareConfig) -> int:
    """Number of memory devices that hold one weight with the configured converter."""
    return len(_converted(conductance_converter(hardware), torch.tensor([[1.0, -1.0]])))


def device_names(count: int) -> list[str]:
    """The names of a cell's devices, in the order of aihwkit's converters."""
    if count == 1:
        return ["G"]
    pairs = [""] if count == 2 else [str(pair + 1) for pair in range(count // 2)]
    return [f"G{pair}{sign}" for pair in pairs for sign in "+-"]


def _tile_conductances(layer: MappedLayer, hardware: HardwareConfig) -> Iterator[list[Tensor]]:
    converter = conductance_converter(hardware)
    for _, target in tile_weights(layer):
        yield _converted(converter, target)


def _converted(converter: BaseConductanceConverter, target: Tensor) -> list[Tensor]:
    conductances, _ = converter.convert_to_conductances(target)
    return [conductances] if isinstance(conductances, Tensor) else list(conductances)


def _device(name: str, values: Tensor, hardware: HardwareConfig) -> DeviceStatistics:
    g_min, g_max = hardware.conductance_range
    # A conductance may miss the range by rounding; histc would drop it.
    bins = torch.histc(values.clamp(g_min, g_max).double(), bins=HISTOGRAM_BINS, min=g_min, max=g_max)
    return DeviceStatistics(
        name=name,
        mean=float(values.double().mean()),
        std=float(values.double().std(correction=0)),
        largest=float(values.max()),
        at_minimum=float((values <= g_min).double().mean()),
        histogram=[int(count) for count in bins],
    )


def added_histograms(layers: Iterable[list[DeviceStatistics]]) -> dict[str, list[int]]:
    """The histograms of several layers together, by the device's name."""
    total: dict[str, list[int]] = {}
    for devices in layers:
        for device in devices:
            before = total.get(device.name, [0] * HISTOGRAM_BINS)
            total[device.name] = [a + b for a, b in zip(before, device.histogram, strict=True)]
    return total
