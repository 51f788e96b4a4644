"""The state of a layer's devices, and the interface of a layer for chips and tiles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.hardware.tile.converters import Converters, DigitalScales
from analog_lora_cli.hardware.tile.grid import TileGrid
from analog_lora_cli.hardware.tile.input_scale import InputScale
from analog_lora_cli.hardware.tile.training_noise import TrainingNoise


@dataclass(frozen=True)
class TileState:
    """State of the devices of one layer at one moment, as a chip sets it."""

    weight: Tensor
    """(out_features, in_features): the programmed and drifted weights times the gains of their columns' ADCs, in the
    unit of the layer's weight and the type of its column scales."""
    compensation: Tensor
    """(rows of tiles, out_features): the drift-compensation factors, without unit."""
    adc_offset: Tensor | None = None
    """(rows of tiles, out_features): offset of each column's ADC, in tile units; None: 0."""
    moments: Tensor | None = None
    """(2, knots), float32: what a device holds on average, relative to its target, and the standard deviation in tile
    units, for target weights evenly from 0 to 1. `weight` is then the target, and a forward pass draws what the devices
    hold, see `device_draw`. None: `weight` is what they hold."""


class MappedLayer(Protocol):
    """A weight matrix on tiles: the interface that a chip needs."""

    column_scale: Tensor
    """(rows of tiles, out_features), see `mapping.column_scales`."""
    grid: TileGrid
    state: TileState | None
    """None: the exact weights."""

    @property
    def weight(self) -> Tensor:
        """(out_features, in_features)."""


class TileLayer(MappedLayer, Protocol):
    """A layer that computes with its tiles: the interface that an analog MVM needs."""

    name: str
    training: bool
    hardware: HardwareConfig
    converters: Converters
    noise: TrainingNoise | None

    @property
    def input_scale(self) -> InputScale:
        """The scale of the inputs of each row of tiles."""

    def digital_scales(self, compensation: Tensor | None) -> DigitalScales:
        """The digital numbers around the tiles."""
