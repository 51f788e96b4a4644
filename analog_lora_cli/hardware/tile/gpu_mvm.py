"""The products of a layer with Triton's kernels: what they compute of a layer's hardware, and how they are called.

Axes by suffix: T tokens, I inputs (of all rows of tiles), O outputs, R rows of tiles, B bytes of 8 outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from analog_lora_cli.hardware.kernels.choice import uses_triton
from analog_lora_cli.hardware.tile.array import GradientNeeds, MvmResult
from analog_lora_cli.hardware.tile.converters import MOST_BITS, Converters
from analog_lora_cli.hardware.tile.input_scale import InputScale
from analog_lora_cli.hardware.tile.state import TileLayer, TileState
from analog_lora_cli.hardware.tile.training_noise import LayerNoise

if TYPE_CHECKING:
    from analog_lora_cli.hardware.kernels.gpu.mvm import WeightNoise

MOST_BLOCKS = 4
"""Blocks of tokens up to which a product draws the weight noise inside: each block draws it again. Beyond, one kernel
writes the noisy weights, in the type of the product, and they are gone after it. Not measured on a card."""


def supports(layer: TileLayer, device: torch.device, needs: GradientNeeds | None = None) -> bool:
    """Whether the kernels compute a layer's product; without `needs`, whether they draw its noise and its gradient.

    They know neither iterative bound management, IR drop and read noise of a product, nor float64, and return no
    inputs.
    """
    if layer.column_scale.dtype != torch.float32 or not uses_triton(layer.hardware, device):
        return False
    converters = layer.converters
    return needs is None or not (needs.inputs or converters.iterative or converters.effects.active)


class GpuProduct:
    """The product of a layer in one forward pass.

    Args:
        layer: layer on tiles, see `supports`.
        state: state of a chip; None: the exact weights.
        noise: noise of the forward pass.
    """

    def __init__(self, layer: TileLayer, state: TileState | None, noise: LayerNoise) -> None:
        self.layer = layer
        self.state = state
        self.noise = noise
        self.weight_OI = layer.weight.detach() if state is None else state.weight
        self.edges_E = _edges(tuple(layer.grid.edges.tolist()), self.weight_OI.device)

    def noisy_weights(self, dtype: torch.dtype) -> Tensor:
        """The weights with the training noise, (out_features, in_features)."""
        from analog_lora_cli.hardware.kernels.gpu import noise as kernels

        if self.noise.strength == 0:
            return self.weight_OI.to(dtype)
        law = self.noise.strength, self.noise.weight_seed, dtype
        return kernels.noisy_weights(self.weight_OI, self.layer.column_scale, self.edges_E, self._widest, *law)

    def mvm(
        self, x: Tensor, bias: Tensor | None, input_scale: InputScale, needs: GradientNeeds, dtype: torch.dtype | None
    ) -> MvmResult:
        """The layer's product, in the type `dtype` or that of the input.

        Args:
            x: (..., in_features).
            bias: (out_features,), added digitally; None: none.
            input_scale: scale of the inputs.
            needs: results to keep for the backward pass.
            dtype: type that autocast asks for; None: no autocast.
        """
        from analog_lora_cli.hardware.kernels.gpu import mvm as kernels

        converters, unit = self.layer.converters, self.layer.converters.output_unit
        product = self.product_type(dtype)
        weight_OI, noise = self._weights(x.numel() // x.shape[-1], product)
        scales = self.layer.digital_scales(None if self.state is None else self.state.compensation)
        offset_RO = None if self.state is None or self.state.adc_offset is None else self.state.adc_offset / unit
        tiles = kernels.TileTensors(
            weight_OI, self.edges_E, scales.weight_scale, scales.output_scale, input_scale.ranges, offset_RO
        )
        limit = converters.adc_bound / unit
        conversion = kernels.Conversion(converters.dac_step, converters.adc_step > 0, limit, converters.noise_steps)
        seed = self.noise.output_seed
        y_TO, bits_RTB = kernels.analog_mvm(
            x.reshape(-1, x.shape[-1]),
            tiles,
            conversion,
            bias,
            int(torch.randint(2**62, (), dtype=torch.int64)) if seed is None else seed,
            noise=noise,
            saturation=needs.saturation,
            dtype=dtype or x.dtype,
            product=product,
        )
        rows = len(self.layer.grid.rows)
        saturated = [None] * rows if bits_RTB is None else list(unpacked(bits_RTB, len(weight_OI)))
        return MvmResult(y_TO.view(*x.shape[:-1], len(weight_OI)), saturated, None)

    def input_gradient(self, grad: Tensor, saturated: Sequence[Tensor | None]) -> Tensor:
        """The straight-through gradient of the converters' input, see `EffectiveWeights.input_gradient`."""
        from analog_lora_cli.hardware.kernels.gpu import input_gradient as kernels

        grad_TO = grad.reshape(-1, grad.shape[-1])
        weight_OI, noise = self._weights(len(grad_TO), grad.dtype)
        result_TI = kernels.input_gradient(
            grad_TO,
            weight_OI,
            self.edges_E,
            self._widest,
            compensation_RO=None if self.state is None else self.state.compensation,
            saturated_RTB=_packed(saturated, grad_TO),
            noise=noise,
        )
        return result_TI.view(*grad.shape[:-1], weight_OI.shape[1])

    def product_type(self, dtype: torch.dtype | None) -> torch.dtype:
        """Type that inputs in DAC steps and weights are multiplied in; sums are float32."""
        wanted = self.layer.converters.product_type(dtype)
        exact = self.noise.strength == 0 and exact_levels(self.layer.converters, self.weight_OI.dtype)
        return self.weight_OI.dtype if exact else wanted or torch.float32

    @property
    def _widest(self) -> int:
        """Most inputs of a row of tiles."""
        return max(stop - start for start, stop in self.layer.grid.rows)

    def _weights(self, tokens: int, product: torch.dtype) -> tuple[Tensor, WeightNoise | None]:
        """The weights of a product, and the noise that it draws itself."""
        from analog_lora_cli.hardware.kernels.gpu.blocks import HALF_FORWARD
        from analog_lora_cli.hardware.kernels.gpu.mvm import WeightNoise

        if self.noise.strength == 0:
            return self.weight_OI, None
        if tokens > MOST_BLOCKS * HALF_FORWARD.tokens:
            return self.noisy_weights(product), None
        return self.weight_OI, WeightNoise(self.noise.strength, self.noise.weight_seed, self.layer.column_scale)


def exact_levels(converters: Converters, dtype: torch.dtype) -> bool:
    """Whether half precision holds all levels of the DAC, so that products with weights in it lose nothing."""
    bits = MOST_BITS.get(dtype)
    return bits is not None and converters.dac_step > 0 and 2.0 / converters.dac_step < 2.0**bits - 1.0


@lru_cache(maxsize=256)
def _edges(edges: tuple[int, ...], device: torch.device) -> Tensor:
    """Edges of rows of tiles on a device, copied there once: layers of one shape share them."""
    return torch.tensor(edges, dtype=torch.int32, device=device)


def unpacked(bits_RTB: Tensor, outputs: int) -> Tensor:
    """Masks of bits, (rows of tiles, tokens, outputs)."""
    bits = (bits_RTB[..., None] >> torch.arange(8, device=bits_RTB.device)) & 1
    return bits.flatten(-2)[..., :outputs].bool()


def _packed(saturated: Sequence[Tensor | None], grad_TO: Tensor) -> Tensor | None:
    """Bits of masks, (rows of tiles, tokens, bytes); None if there are none."""
    if all(mask is None for mask in saturated):
        return None
    none_TO = torch.zeros_like(grad_TO, dtype=torch.bool)
    masks = torch.stack([none_TO if mask is None else mask for mask in saturated])
    missing = -masks.shape[-1] % 8
    bits = torch.nn.functional.pad(masks, (0, missing)).unflatten(-1, (-1, 8)).to(torch.uint8)
    packed: Tensor = (bits << torch.arange(8, dtype=torch.uint8, device=bits.device)).sum(dim=-1, dtype=torch.uint8)
    return packed
