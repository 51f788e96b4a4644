"""The analog MVM on a CPU with the loops of `kernels.cpu`; the formulas are those of `mvm`.

Axes by suffix: T tokens, I inputs (of all rows of tiles, or of one), O outputs, R rows of tiles, B bytes of bits.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from analog_lora_cli.hardware.kernels import cpu as kernels
from analog_lora_cli.hardware.kernels.arrays import as_array
from analog_lora_cli.hardware.kernels.random import PooledNormal, run_table
from analog_lora_cli.hardware.tile.array import GradientNeeds, MvmResult, TileArray
from analog_lora_cli.hardware.tile.cpu_inputs import convert_inputs
from analog_lora_cli.hardware.tile.mvm import TorchBackend
from analog_lora_cli.hardware.tile.saturation import bytes_of

_NO_BITS = np.empty((0, 0), dtype=np.uint8)
_NO_SUM = np.empty((0, 0), dtype=np.float32)


class CpuBackend(TorchBackend):
    """The analog MVM with compiled loops, for float32 on a CPU; what they do not support is left to torch."""

    def weight(self, tiles: TileArray) -> Tensor:
        """See `Backend`."""
        exact_OI, strength = tiles.weight, tiles.noise.strength
        if strength == 0 and tiles.moments is None:
            return exact_OI
        exact_OI, noisy_OI = exact_OI.contiguous(), exact_OI.new_empty(exact_OI.shape)
        counter = PooledNormal(tiles.noise.weight_seed, exact_OI.device).reserve(*exact_OI.shape)
        arguments = (
            as_array(exact_OI),
            np.uint64(counter),
            run_table(torch.float32).numpy(),
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
        x_TI = x.reshape(-1, x.shape[-1]).to(torch.float32)
        converted = convert_inputs(x, x_TI, tiles)
        # In its final shape: see `TorchBackend.multiply`.
        result = torch.empty(*x.shape[:-1], len(weight_OI))
        saturated_RTB = _multiply_rows(converted.levels_TI, converted.scale_RT, weight_OI, tiles, bias, needs, result)
        inputs = None
        if needs.inputs:
            inputs = torch.empty_like(converted.levels_TI)
            for scale_T, (start, stop) in zip(converted.scale_RT, tiles.grid.rows, strict=True):
                scale_T1 = (scale_T * tiles.converters.input_unit)[:, None]
                torch.mul(converted.levels_TI[:, start:stop], scale_T1, out=inputs[:, start:stop])
            inputs = inputs[None]
        return MvmResult(result, saturated_RTB, inputs)


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
    converters, scales, rows = tiles.converters, tiles.scales, tiles.grid.rows
    y_TO = result.view(-1, result.shape[-1])
    normals = PooledNormal(tiles.noise.output_seed, result.device)
    bias_O = result.new_zeros(len(weight_OI)) if bias is None else bias.detach().to(torch.float32).contiguous()
    limit = converters.limit
    shape = len(rows), len(y_TO), bytes_of(y_TO.shape[1])
    saturated_RTB = torch.empty(shape, dtype=torch.uint8) if needs.saturation and limit < float("inf") else None
    product_TO, sums, saturated_tokens = y_TO, _NO_SUM, 0
    for row, (start, stop) in enumerate(rows):
        torch.mm(levels_TI[:, start:stop], weight_OI[:, start:stop].t(), out=product_TO)
        saturated_tokens += kernels.convert_outputs(
            product_TO.numpy(),
            np.uint64(normals.reserve(*product_TO.shape) if converters.output_noise else 0),
            run_table(torch.float32).numpy(),
            np.float32(converters.noise_steps),
            converters.adc_step > 0,
            np.float32(limit),
            scales.weight_scale[row].numpy(),
            scales.output_scale[row].numpy(),
            scale_RT[row].numpy(),
            as_array(bias_O),
            sums,
            _NO_BITS if saturated_RTB is None else saturated_RTB[row].numpy(),
        )
        # The first row of tiles is computed where the sum will be: no pass over the outputs of its own.
        if row == 0 and len(rows) > 1:
            product_TO, sums = torch.empty_like(y_TO), y_TO.numpy()
    return saturated_RTB if saturated_tokens else None
