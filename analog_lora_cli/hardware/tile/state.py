"""What the devices of a layer hold, and what a chip and the tiles need to know of a layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.hardware.tile.converters import Converters, DigitalScales
from analog_lora_cli.hardware.tile.grid import TileGrid
from analog_lora_cli.hardware.tile.training_noise import TrainingNoise


@dataclass(frozen=True)
class TileState:
    """What the devices of one layer hold at one moment, as a chip sets it."""

    weight: Tensor
    """(out_features, in_features): the programmed and drifted weights, in the unit of the layer's weight."""
    compensation: Tensor
    """(rows of tiles, out_features): the drift-compensation factors, without unit."""


class MappedLayer(Protocol):
    """A weight matrix on tiles: all that a chip needs to know of a layer."""

    column_scale: Tensor
    """(rows of tiles, out_features), see `mapping.column_scales`."""
    grid: TileGrid
    state: TileState | None
    """None: the exact weights."""

    @property
    def weight(self) -> Tensor:
        """(out_features, in_features)."""


class TileLayer(MappedLayer, Protocol):
    """A layer that computes with its tiles."""

    name: str
    training: bool
    hardware: HardwareConfig
    converters: Converters
    noise: TrainingNoise | None

    def digital_scales(self, compensation: Tensor | None) -> DigitalScales:
        """The digital numbers around the tiles."""
