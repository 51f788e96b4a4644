"""The analog MVM on a CPU with the loops of `kernels.cpu`; the formulas are those of `mvm`.

Axes by suffix: T tokens, I inputs (of all rows of tiles, or of one), O outputs, R rows of tiles, B bytes of bits.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from analog_lora_cli.hardware.kernels import cpu as kernels
from analog_lora_cli.hardware.kernels.arrays import as_array
from analog_lora_cli.hardware.kernels.random import PooledNormal, run_array
from analog_lora_cli.hardware.tile.array import GradientNeeds, MvmResult, TileArray
from analog_lora_cli.hardware.tile.cpu_inputs import convert_inputs
from analog_lora_cli.hardware.tile.mvm import TorchBackend
from analog_lora_cli.hardware.tile.saturation import bytes_of

_NO_BITS = np.empty((0, 0, 0), dtype=np.uint8)
_NO_SUM = np.empty((0, 0), dtype=np.float32)


class CpuBackend(TorchBackend):
    """The analog MVM with compiled loops, for float32 on a CPU; what they do not support is left to torch."""

    def weight(self, tiles: TileArray) -> Tensor:
        """See `Backend`."""
        exact_OI, strength = tiles.weight, tiles.noise.strength
        if strength == 0 and tiles.moments is None:
            return exact_OI
        exact_OI, noisy_OI = exact_OI.contiguous(), torch.empty(exact_OI.shape)
        counter = PooledNormal(tiles.noise.weight_seed, exact_OI.device).reserve(*exact_OI.shape)
        arguments = (
            as_array(exact_OI),
            np.uint64(counter),
            run_array(),
            np.float32(strength),
            tiles.column_scale.numpy(),
            tiles.grid.edges,
            noisy_OI.numpy(),
        )
        if tiles.moments is None:
            kernels.noisy_weights(*arguments)
        else:
            kernels.device_weights(*arguments, as_array(tiles.moments))
        return noisy_OI

    def multiply(
        self,
        x: Tensor,
        weight_OI: Tensor,
        tiles: TileArray,
        bias: Tensor | None,
        needs: GradientNeeds,
        dtype: torch.dtype | None,
    ) -> MvmResult:
        """See `TorchBackend`."""
        if not tiles.plain or tiles.adc_offset is not None or dtype not in (None, torch.float32):
            return super().multiply(x, weight_OI, tiles, bias, needs, dtype)
        converted = convert_inputs(x, tiles)
        # In its final shape: see `TorchBackend.multiply`.
        result = torch.empty(*x.shape[:-1], weight_OI.shape[0])
        saturated_RTB = _multiply_rows(converted.levels_TI, converted.scale_RT, weight_OI, tiles, bias, needs, result)
        inputs = None
        if needs.inputs:
            inputs = torch.empty_like(converted.levels_TI)
            for scale_T, (start, stop) in zip(converted.scale_RT, tiles.grid.rows, strict=True):
                scale_T1 = (scale_T * tiles.converters.input_unit)[:, None]
                torch.mul(converted.levels_TI[:, start:stop], scale_T1, out=inputs[:, start:stop])
            inputs = inputs[None]
        return MvmResult(result, saturated_RTB, inputs)


@lru_cache(maxsize=64)
def _zeros(outputs: int) -> Tensor:
    return torch.zeros(outputs)


def _multiply_rows(
    levels_TI: Tensor,
    scale_RT: Tensor,
    weight_OI: Tensor,
    tiles: TileArray,
    bias: Tensor | None,
    needs: GradientNeeds,
    result: Tensor,
) -> Tensor | None:
    """The product of each row of tiles, added up in `result`; returns the bits of saturated outputs."""
    tokens, rows, outputs = levels_TI.shape[0], tiles.grid.rows, weight_OI.shape[0]
    noise, rounds, limit = tiles.converters.output_numbers
    saturated_RTB = None
    if needs.saturation and limit < float("inf"):
        saturated_RTB = torch.empty(len(rows), tokens, bytes_of(outputs), dtype=torch.uint8)
    bits = _NO_BITS if saturated_RTB is None else saturated_RTB.numpy()
    normals = PooledNormal(tiles.noise.output_seed, result.device)
    bias_O = _zeros(outputs) if bias is None else bias.to(torch.float32).contiguous()
    arrays = *tiles.scales.arrays, scale_RT.numpy(), as_array(bias_O)
    y_TO = result.view(tokens, outputs)
    product_TO, product, sums, saturated_tokens = y_TO, y_TO.numpy(), _NO_SUM, 0
    for row, (start, stop) in enumerate(rows):
        part_TI, part_OI = levels_TI, weight_OI
        if len(rows) > 1:
            part_TI, part_OI = levels_TI[:, start:stop], weight_OI[:, start:stop]
        torch.mm(part_TI, part_OI.t(), out=product_TO)
        counter = np.uint64(normals.reserve(tokens, outputs) if noise else 0)
        saturated_tokens += kernels.convert_outputs(
            product, counter, run_array(), noise, rounds, limit, np.uint64(row), *arrays, sums, bits
        )
        # The first row of tiles is computed where the sum will be: no pass over the outputs of its own.
        if row == 0 and len(rows) > 1:
            sums, product_TO = product, torch.empty(tokens, outputs)
            product = product_TO.numpy()
    return saturated_RTB if saturated_tokens else None
