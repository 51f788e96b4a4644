"""The weights that a layer computes with in one forward pass, their analog MVM, and its gradients.

Axes of tensors by suffix: T tokens, I inputs (of all rows of tiles, or of one), O outputs, R rows of tiles.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from analog_lora_cli.hardware.kernels.choice import fits_kernels
from analog_lora_cli.hardware.kernels.random import PooledNormal
from analog_lora_cli.hardware.tile.array import GradientNeeds, MvmResult, TileArray
from analog_lora_cli.hardware.tile.gpu_mvm import GpuProduct, supports
from analog_lora_cli.hardware.tile.input_scale import InputScale
from analog_lora_cli.hardware.tile.mvm import analog_mvm
from analog_lora_cli.hardware.tile.state import TileLayer, TileState
from analog_lora_cli.hardware.tile.training_noise import LayerNoise


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

    @torch.no_grad()
    def weight(self) -> Tensor:
        """(out_features, in_features), in the unit of the layer's weight and the type of its column scales."""
        exact_OI = self.layer.weight.detach() if self.state is None else self.state.weight
        exact_OI = exact_OI.to(self.layer.column_scale.dtype)
        if self.noise.strength == 0:
            return exact_OI
        if supports(self.layer, exact_OI.device):
            return self._on_gpu.noisy_weights(exact_OI.dtype)
        grid, scale_RO = self.layer.grid, self.layer.column_scale
        normals = PooledNormal(self.noise.weight_seed, exact_OI.device)
        if fits_kernels(exact_OI, self.layer.hardware):
            # Here, because numba cannot be loaded everywhere.
            from analog_lora_cli.hardware.tile.cpu_mvm import noisy_weights

            return noisy_weights(exact_OI, self.noise.strength, scale_RO, grid, normals)
        noisy_OI = normals.draw(*exact_OI.shape, dtype=exact_OI.dtype)
        for deviation_O, (start, stop) in zip(scale_RO * self.noise.strength, grid.rows, strict=True):
            noisy_OI[:, start:stop].mul_(deviation_O[:, None])
        return noisy_OI.add_(exact_OI)

    def mvm(self, x: Tensor, bias: Tensor | None, dtype: torch.dtype | None, needs: GradientNeeds) -> MvmResult:
        """The layer's product, see `analog_mvm`."""
        if supports(self.layer, x.device, needs):
            return self._on_gpu.mvm(x, bias, self.input_scale, needs, dtype)
        layer, weight_OI = self.layer, self.weight()
        scales, compiled = layer.digital_scales(self.compensation), fits_kernels(weight_OI, layer.hardware)
        offset = None if self.state is None else self.state.adc_offset
        tiles = TileArray(weight_OI, layer.grid, layer.converters, scales, compiled, self.input_scale, offset)
        normals = PooledNormal(self.noise.output_seed, x.device)
        # Autocast would round a product in float32 too.
        with torch.autocast(x.device.type, enabled=False) if dtype else nullcontext():
            return analog_mvm(x, tiles, bias, normals, needs, layer.converters.product_type(dtype))

    @property
    def _on_gpu(self) -> GpuProduct:
        """The product with Triton's kernels, where they support the layer."""
        return GpuProduct(self.layer, self.state, self.noise)

    @property
    def compensation(self) -> Tensor | None:
        """(rows of tiles, out_features): the drift-compensation factors; None: 1."""
        return None if self.state is None else self.state.compensation

    def partial_gradients(self, grad_TO: Tensor, saturated: Sequence[Tensor | None]) -> Iterator[Tensor]:
        """Gradients of the outputs before the digital addition, one (tokens, out_features) for each row of tiles.

        Args:
            grad_TO: gradient of the layer's output.
            saturated: masks of an `MvmResult`.
        """
        for row, mask_TO in enumerate(saturated):
            partial_TO = grad_TO if self.compensation is None else grad_TO * self.compensation[row].to(grad_TO.dtype)
            # The straight-through estimator: converters count as the identity inside their range, as a constant beyond.
            yield partial_TO if mask_TO is None else partial_TO.masked_fill(mask_TO, 0)

    def input_gradient(self, grad: Tensor, saturated: Sequence[Tensor | None]) -> Tensor:
        """The straight-through gradient of the converters' input, (..., in_features); see also `InputScale`.

        Args:
            grad: (..., out_features).
            saturated: as for `partial_gradients`.
        """
        if supports(self.layer, grad.device) and grad.dtype != torch.float64:
            return self._on_gpu.input_gradient(grad, saturated)
        weight_OI, grad_TO = self.weight(), grad.reshape(-1, grad.shape[-1])
        result_TI = grad.new_empty(grad_TO.shape[0], weight_OI.shape[1])
        partials = self.partial_gradients(grad_TO, saturated)
        for (start, stop), partial_TO in zip(self.layer.grid.rows, partials, strict=True):
            torch.mm(partial_TO, weight_OI[:, start:stop].to(partial_TO.dtype), out=result_TI[:, start:stop])
        return result_TI.reshape(*grad.shape[:-1], weight_OI.shape[1])

    def input_and_range_gradients(
        self, x: Tensor | None, grad: Tensor, saturated: Sequence[Tensor | None]
    ) -> tuple[Tensor, Tensor]:
        """The gradients of the layer's input, (..., in_features), and of its input ranges, see `InputScale`.

        Args:
            x: (..., in_features), the input; None without input ranges.
            grad: (..., out_features).
            saturated: as for `partial_gradients`.
        """
        converted, grid = self.input_gradient(grad, saturated), self.layer.grid
        range_R = self.input_scale.range_gradient(x, converted, grid, self.layer.hardware.input_range_decay)
        return self.input_scale.input_gradient(x, converted, grid), range_R

    def weight_gradient(
        self, grad: Tensor, saturated: Sequence[Tensor | None], inputs: Sequence[Sequence[Tensor]]
    ) -> Tensor:
        """The straight-through gradient of the weight, (out_features, in_features).

        Args:
            grad: (..., out_features).
            saturated: as for `partial_gradients`.
            inputs: inputs of the `MvmResult`.
        """
        grad_TO, grid = grad.reshape(-1, grad.shape[-1]), self.layer.grid
        result_OI = torch.zeros_like(self.layer.weight, dtype=self.layer.column_scale.dtype)
        for row, partial_TO in enumerate(self.partial_gradients(grad_TO, saturated)):
            for input_TI, (first, last) in zip(inputs[row], grid.columns, strict=True):
                tile_OI = partial_TO[:, first:last].to(input_TI.dtype).t() @ input_TI
                result_OI[first:last, slice(*grid.rows[row])] = tile_OI
        return result_OI.to(self.layer.weight.dtype)


def present_noise(layer: TileLayer) -> LayerNoise:
    """The noise of a layer in its next call in the present forward pass; counts the call."""
    if layer.noise is None:
        return LayerNoise()
    return layer.noise.of_layer(layer.name, layer.hardware, layer.training)
