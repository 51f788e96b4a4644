"""The analog MVM of a layer with Triton's kernels; torch's operations stand in for what they do not know.

Axes by suffix: T tokens, I inputs (of all rows of tiles), O outputs, R rows of tiles, B bytes of 8 outputs, E the edges
of the rows of tiles.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from analog_lora_cli.hardware.kernels.gpu import input_gradient as gradient_kernels
from analog_lora_cli.hardware.kernels.gpu import mvm as kernels
from analog_lora_cli.hardware.kernels.gpu import noise as noise_kernels
from analog_lora_cli.hardware.kernels.gpu.blocks import HALF_FORWARD
from analog_lora_cli.hardware.tile.array import GradientNeeds, MvmResult, TileArray
from analog_lora_cli.hardware.tile.device_draw import device_draw
from analog_lora_cli.hardware.tile.grid import TileGrid
from analog_lora_cli.hardware.tile.mvm import TorchBackend

MOST_BLOCKS = 4
"""Blocks of tokens up to which a product draws the weight noise inside: each block draws it again. Beyond, one kernel
writes the noisy weights, in the type of the product, and they are gone after it. Not measured on a card."""


class TritonBackend(TorchBackend):
    """The analog MVM in one kernel, in float32 and half precision; see `Backend`.

    The noise is that of `kernels.counter`, of weights in either way of computing. The kernels know neither iterative
    bound management nor IR drop and read noise of a product, and return no inputs.
    """

    def weight(self, tiles: TileArray) -> Tensor:
        """See `Backend`."""
        return _noisy(tiles, tiles.weight.dtype) if tiles.moments is None else device_draw(tiles, tiles.moments)

    def mvm(
        self, x: Tensor, tiles: TileArray, bias: Tensor | None, needs: GradientNeeds, dtype: torch.dtype | None
    ) -> MvmResult:
        """See `Backend`; the output has the type of the products, or that of the input."""
        if needs.inputs or not tiles.plain:
            return super().mvm(x, tiles, bias, needs, dtype)
        converters, seed, x_TI = tiles.converters, tiles.noise.output_seed, x.reshape(-1, x.shape[-1])
        product = dtype or torch.float32
        weight_OI, noise = _weights(tiles, len(x_TI), product)
        y_TO, saturated_RTB = kernels.analog_mvm(
            x_TI,
            kernels.TileTensors(
                weight_OI,
                _edges(tiles.grid, weight_OI.device),
                tiles.scales.weight_scale,
                tiles.scales.output_scale,
                tiles.input_scale.ranges,
                None if tiles.adc_offset is None else tiles.adc_offset / converters.output_unit,
            ),
            kernels.Conversion(
                converters.dac_step,
                converters.adc_step > 0,
                converters.limit,
                converters.noise_steps,
            ),
            bias,
            int(torch.randint(2**62, (), dtype=torch.int64)) if seed is None else seed,
            noise=noise,
            saturation=needs.saturation,
            dtype=dtype or x.dtype,
            product=product,
        )
        return MvmResult(y_TO.view(*x.shape[:-1], len(weight_OI)), saturated_RTB, None)

    def input_gradient(self, grad_TO: Tensor, tiles: TileArray, saturated_RTB: Tensor | None) -> Tensor:
        """See `Backend`."""
        if grad_TO.dtype == torch.float64:
            return super().input_gradient(grad_TO, tiles, saturated_RTB)
        weight_OI, noise = _weights(tiles, len(grad_TO), grad_TO.dtype)
        return gradient_kernels.input_gradient(
            grad_TO,
            weight_OI,
            _edges(tiles.grid, weight_OI.device),
            _widest(tiles.grid),
            compensation_RO=tiles.compensation,
            saturated_RTB=saturated_RTB,
            noise=noise,
        )


def _weights(tiles: TileArray, tokens: int, product: torch.dtype) -> tuple[Tensor, kernels.WeightNoise | None]:
    """The weights of a product in this type, and the noise that it draws itself."""
    noise = tiles.noise
    if tiles.moments is not None:
        return device_draw(tiles, tiles.moments).to(product), None
    if noise.strength == 0:
        return tiles.weight, None
    if tokens > MOST_BLOCKS * HALF_FORWARD.tokens:
        return _noisy(tiles, product), None
    return tiles.weight, kernels.WeightNoise(noise.strength, noise.weight_seed, tiles.column_scale)


def _noisy(tiles: TileArray, dtype: torch.dtype) -> Tensor:
    """The weights with training noise, (out_features, in_features)."""
    grid, noise, weight_OI = tiles.grid, tiles.noise, tiles.weight
    if noise.strength == 0:
        return weight_OI.to(dtype)
    edges_E = _edges(grid, weight_OI.device)
    law = noise.strength, noise.weight_seed, dtype
    return noise_kernels.noisy_weights(weight_OI, tiles.column_scale, edges_E, _widest(grid), *law)


def _widest(grid: TileGrid) -> int:
    """Most inputs of a row of tiles."""
    return max(stop - start for start, stop in grid.rows)


def _edges(grid: TileGrid, device: torch.device) -> Tensor:
    return _edges_on(tuple(grid.edges.tolist()), device)


@lru_cache(maxsize=256)
def _edges_on(edges: tuple[int, ...], device: torch.device) -> Tensor:
    """Edges of rows of tiles on a device, copied there once: layers of one shape share them."""
    return torch.tensor(edges, dtype=torch.int32, device=device)
