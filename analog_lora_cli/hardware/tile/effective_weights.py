"""The weights that a layer computes with in one forward pass, their analog MVM, and its gradients.

Axes of tensors by suffix: T tokens, I inputs (of all rows of tiles, or of one), O outputs, R rows of tiles.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from analog_lora_cli.hardware.tile.array import Backend, GradientNeeds, MvmResult, TileArray
from analog_lora_cli.hardware.tile.backends import backend_for
from analog_lora_cli.hardware.tile.input_scale import InputScale
from analog_lora_cli.hardware.tile.saturation import partial_gradient
from analog_lora_cli.hardware.tile.state import TileLayer, TileState
from analog_lora_cli.hardware.tile.training_noise import NO_NOISE, LayerNoise


@dataclass(frozen=True)
class EffectiveWeights:
    """The weights of a layer in one forward pass: exact, or those of a chip, with training noise.

    The noise is drawn again in the backward pass instead of being kept: it would be as large as the model. So this
    object remembers the chip's state and the noise of its own forward pass, whatever the layer holds by then.
    """

    layer: TileLayer
    state: TileState | None
    """None: the exact weights."""
    noise: LayerNoise
    input_scale: InputScale

    @classmethod
    def now(cls, layer: TileLayer) -> EffectiveWeights:
        """The weights of the present forward pass."""
        return cls(layer, layer.state, present_noise(layer), layer.input_scale)

    def backend(self, tiles: TileArray) -> Backend:
        """What computes the layer."""
        return backend_for(tiles.weight, self.layer.hardware)

    @property
    def tiles(self) -> TileArray:
        """The tiles as they are in this forward pass."""
        layer, state, column_scale = self.layer, self.state, self.layer.column_scale
        weight_OI = layer.weight.detach() if state is None else state.weight
        compensation, adc_offset = (None, None) if state is None else (state.compensation, state.adc_offset)
        moments = None if state is None else state.moments
        return TileArray(
            weight=weight_OI.to(column_scale.dtype),
            grid=layer.grid,
            converters=layer.converters,
            scales=layer.digital_scales(compensation),
            column_scale=column_scale,
            noise=self.noise,
            input_scale=self.input_scale,
            compensation=compensation,
            name=layer.name,
            adc_offset=adc_offset,
            moments=moments,
        )

    @torch.no_grad()
    def weight(self) -> Tensor:
        """(out_features, in_features), in the unit of the layer's weight and the type of its column scales."""
        tiles = self.tiles
        return self.backend(tiles).weight(tiles)

    def mvm(self, x: Tensor, bias: Tensor | None, dtype: torch.dtype | None, needs: GradientNeeds) -> MvmResult:
        """The layer's product, see `Backend`."""
        tiles = self.tiles
        # Autocast would round a product in float32 too.
        with torch.autocast(x.device.type, enabled=False) if dtype else nullcontext():
            return self.backend(tiles).mvm(x, tiles, bias, needs, self.layer.converters.product_type(dtype))

    def input_gradient(self, grad: Tensor, saturated: Tensor | None) -> Tensor:
        """The straight-through gradient of the converters' input, (..., in_features); see also `InputScale`.

        Args:
            grad: (..., out_features).
            saturated: bits of an `MvmResult`.
        """
        tiles = self.tiles
        result_TI = self.backend(tiles).input_gradient(grad.reshape(-1, grad.shape[-1]), tiles, saturated)
        return result_TI.view(*grad.shape[:-1], result_TI.shape[1])

    def input_and_range_gradients(
        self, x: Tensor | None, grad: Tensor, saturated: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The gradients of the layer's input, (..., in_features), and of its input ranges, see `InputScale`.

        Args:
            x: (..., in_features), the input; None without input ranges.
            grad: (..., out_features).
            saturated: as for `input_gradient`.
        """
        converted, grid = self.input_gradient(grad, saturated), self.layer.grid
        range_R = self.input_scale.range_gradient(x, converted, grid, self.layer.hardware.input_range_decay)
        return self.input_scale.input_gradient(x, converted, grid), range_R

    def weight_gradient(self, grad: Tensor, saturated: Tensor | None, inputs: Tensor) -> Tensor:
        """The straight-through gradient of the weight, (out_features, in_features).

        Args:
            grad: (..., out_features).
            saturated: as for `input_gradient`.
            inputs: inputs of the `MvmResult`.
        """
        grad_TO, grid = grad.reshape(-1, grad.shape[-1]), self.layer.grid
        compensation = None if self.state is None else self.state.compensation
        result_OI = torch.empty_like(self.layer.weight, dtype=self.layer.column_scale.dtype)
        # Tiles side by side have their inputs in common, unless each halves them until its outputs fit.
        groups = grid.columns if len(inputs) > 1 else [(0, grad_TO.shape[1])]
        for row, (start, stop) in enumerate(grid.rows):
            bits_1TB = None if saturated is None else saturated[row, None]
            factor_1O = None if compensation is None else compensation[row, None]
            partial_TO = partial_gradient(grad_TO, factor_1O, bits_1TB)[0]
            for input_TI, (first, last) in zip(inputs, groups, strict=True):
                part_OT = partial_TO[:, first:last].to(input_TI.dtype).t()
                result_OI[first:last, start:stop] = part_OT @ input_TI[:, start:stop]
        return result_OI.to(self.layer.weight.dtype)


def present_noise(layer: TileLayer) -> LayerNoise:
    """The noise of a layer in its next call in the present forward pass; counts the call."""
    if layer.noise is None:
        return NO_NOISE
    return layer.noise.of_layer(layer.name, layer.hardware, layer.training)
