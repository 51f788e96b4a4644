"""The tiles of one layer, ready for a product, and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from analog_lora_cli.hardware.tile.converters import Converters, DigitalScales
from analog_lora_cli.hardware.tile.grid import TileGrid


@dataclass(frozen=True)
class TileArray:
    """The tiles of one layer in one forward pass."""

    weight: Tensor
    """(out_features, in_features): what the devices hold, in the unit of the layer's weight."""
    grid: TileGrid
    converters: Converters
    scales: DigitalScales
    compiled: bool
    """Use the loops of `kernels.cpu` where they can do what is asked for."""


@dataclass(frozen=True)
class GradientNeeds:
    """What the backward pass will need of a product."""

    inputs: bool = False
    """The converted inputs, for the gradient of the weights."""
    saturation: bool = False
    """Where ADCs were beyond their bound, for any gradient."""


@dataclass(frozen=True)
class MvmResult:
    """The result of an analog matrix-vector product of all tiles of a layer."""

    output: Tensor
    """(..., out_features)."""
    saturated: list[Tensor | None]
    """For each row of tiles (tokens, out_features): where the ADC was beyond its bound; None: nowhere, or not asked."""
    inputs: list[list[Tensor]] | None
    """For each row and column of tiles the inputs as the DAC gave them, (tokens, rows), in the input's unit."""
