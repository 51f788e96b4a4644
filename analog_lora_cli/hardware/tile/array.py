"""The tiles of one layer, ready for a product, the product's result, and what computes it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from analog_lora_cli.hardware.tile.converters import Converters, DigitalScales
from analog_lora_cli.hardware.tile.grid import TileGrid
from analog_lora_cli.hardware.tile.input_scale import InputScale, TokenMaximum
from analog_lora_cli.hardware.tile.training_noise import LayerNoise


@dataclass(frozen=True)
class TileArray:
    """The tiles of one layer in one forward pass."""

    weight: Tensor
    """(out_features, in_features): weights that the devices hold, without training noise, in the unit of the layer's
    weight."""
    grid: TileGrid
    converters: Converters
    scales: DigitalScales
    column_scale: Tensor
    """(rows of tiles, out_features): unit of the training noise."""
    noise: LayerNoise = field(default_factory=LayerNoise)
    input_scale: InputScale = field(default_factory=TokenMaximum)
    compensation: Tensor | None = None
    """(rows of tiles, out_features): drift-compensation factors, which `scales` include; None: 1."""
    name: str = ""
    """The layer's name."""
    adc_offset: Tensor | None = None
    """(rows of tiles, out_features): offset of each column's ADC, in tile units; None: 0."""
    moments: Tensor | None = None
    """(2, knots): moments of what the devices hold for the target `weight`, see `TileState`; None: they hold it, and
    the noise has one size for each column."""

    @property
    def plain(self) -> bool:
        """Whether nothing but noise of a fixed size comes between one product and its ADC."""
        return not self.converters.iterative and not self.converters.effects.active


@dataclass(frozen=True)
class GradientNeeds:
    """Intermediate results of a product that the backward pass will need."""

    inputs: bool = False
    """The converted inputs, for the gradient of the weights."""
    saturation: bool = False
    """Bits of outputs where an ADC was beyond its bound, for any gradient."""


@dataclass(frozen=True)
class MvmResult:
    """The result of an analog matrix-vector product of all tiles of a layer."""

    output: Tensor
    """(..., out_features)."""
    saturated: Tensor | None
    """(rows of tiles, tokens, bytes): bits, see `saturation`, 1 where the ADC was beyond its bound; None: nowhere, or
    not asked for."""
    inputs: Tensor | None
    """(columns of tiles whose inputs differ, tokens, in_features): inputs after the DAC, in the input's unit; None: not
    asked for."""


class Backend(Protocol):
    """One implementation of the analog MVM of a layer and of its gradient.

    All draw the weight noise of `TileArray.noise` again in each call instead of keeping it.
    """

    def weight(self, tiles: TileArray) -> Tensor:
        """(out_features, in_features): the weights with training noise."""

    def mvm(
        self, x: Tensor, tiles: TileArray, bias: Tensor | None, needs: GradientNeeds, dtype: torch.dtype | None
    ) -> MvmResult:
        """Multiply inputs with all tiles of a layer and add up the rows of tiles digitally.

        Args:
            x: (..., in_features).
            tiles: tiles of the layer.
            bias: (out_features,), added digitally; None: none.
            needs: results to keep for the backward pass.
            dtype: type of the products; None: that of the weights.
        """

    def input_gradient(self, grad_TO: Tensor, tiles: TileArray, saturated_RTB: Tensor | None) -> Tensor:
        """The straight-through gradient of the converters' input, (tokens, in_features).

        Args:
            grad_TO: gradient of the layer's output.
            tiles: tiles of the forward pass.
            saturated_RTB: bits of the `MvmResult`.
        """
