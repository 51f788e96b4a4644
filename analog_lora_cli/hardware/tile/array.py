"""The tiles of one layer, ready for a product, and the product's result."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from analog_lora_cli.hardware.tile.converters import Converters, DigitalScales
from analog_lora_cli.hardware.tile.grid import TileGrid
from analog_lora_cli.hardware.tile.input_scale import InputScale, TokenMaximum


@dataclass(frozen=True)
class TileArray:
    """The tiles of one layer in one forward pass."""

    weight: Tensor
    """(out_features, in_features): weights that the devices hold, in the unit of the layer's weight."""
    grid: TileGrid
    converters: Converters
    scales: DigitalScales
    compiled: bool
    """Use the loops of `kernels.cpu` where they support what is asked for."""
    input_scale: InputScale = field(default_factory=TokenMaximum)
    adc_offset: Tensor | None = None
    """(rows of tiles, out_features): offset of each column's ADC, in tile units; None: 0."""

    @property
    def plain(self) -> bool:
        """Whether nothing but noise of a fixed size comes between the product and its ADC."""
        return self.adc_offset is None and not self.converters.effects.active


@dataclass(frozen=True)
class GradientNeeds:
    """Intermediate results of a product that the backward pass will need."""

    inputs: bool = False
    """The converted inputs, for the gradient of the weights."""
    saturation: bool = False
    """Masks of outputs where an ADC was beyond its bound, for any gradient."""


@dataclass(frozen=True)
class MvmResult:
    """The result of an analog matrix-vector product of all tiles of a layer."""

    output: Tensor
    """(..., out_features)."""
    saturated: list[Tensor | None]
    """Masks, one (tokens, out_features) for each row of tiles: true where the ADC was beyond its bound; None: nowhere,
    or not asked for."""
    inputs: list[list[Tensor]] | None
    """Inputs after the DAC, one (tokens, rows) for each row and column of tiles, in the input's unit; None: not asked
    for."""
