"""The analog MVM on a CPU with the loops of `kernels.cpu`; the formulas are those of `mvm`.

Axes by suffix: T tokens, I inputs (of all rows of tiles, or of one), O outputs, R rows of tiles.
"""

from __future__ import annotations

import ctypes

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from analog_lora_cli.hardware.kernels import cpu as kernels
from analog_lora_cli.hardware.kernels.random import PooledNormal, run_table
from analog_lora_cli.hardware.tile.array import GradientNeeds, TileArray
from analog_lora_cli.hardware.tile.grid import TileGrid

_NO_MASK = np.empty((0, 0), dtype=np.bool_)


def mvm_of_rows(
    x_TI: Tensor, tiles: TileArray, bias: Tensor | None, normals: PooledNormal, y_TO: Tensor, needs: GradientNeeds
) -> tuple[list[Tensor | None], list[list[Tensor]] | None]:
    """The product of each row of tiles, added up; in float32.

    Args:
        x_TI: inputs of all rows of tiles.
        tiles: tiles of the layer.
        bias: (out_features,), added digitally; None: none.
        normals: source of the output noise.
        y_TO: output.
        needs: results to keep for the backward pass.

    Returns:
        `saturated` and `inputs` of an `MvmResult`.
    """
    grid, converters, scales = tiles.grid, tiles.converters, tiles.scales
    x = x_TI.detach().contiguous().numpy()
    table_KN = run_table(torch.float32).numpy()
    no_bias_O = x_TI.new_zeros(y_TO.shape[1])
    bias_O = no_bias_O if bias is None else bias.detach().to(x_TI.dtype).contiguous()
    saturated: list[Tensor | None] = []
    inputs: list[list[Tensor]] = []
    for row, (start, stop) in enumerate(grid.rows):
        levels_TI, input_scale_T = x_TI.new_empty(len(x), stop - start), x_TI.new_empty(len(x))
        step = np.float32(converters.dac_step)
        constant = np.float32(tiles.input_scale.constant(row))
        kernels.convert_inputs(x, start, stop, step, constant, levels_TI.numpy(), input_scale_T.numpy())
        # The first row of tiles is computed where the sum will be: no pass over the outputs of its own.
        product_TO = torch.mm(levels_TI, tiles.weight[:, start:stop].t(), out=y_TO if row == 0 else None)
        mask_TO = np.empty(product_TO.shape, dtype=np.bool_) if needs.saturation else _NO_MASK
        beyond_T = np.zeros(len(x), dtype=np.bool_)
        kernels.convert_outputs(
            product_TO.numpy(),
            np.uint64(normals.reserve(*product_TO.shape) if converters.output_noise else 0),
            table_KN,
            np.float32(converters.noise_steps),
            converters.adc_step > 0,
            np.float32(converters.adc_bound / converters.output_unit),
            scales.weight_scale[row].numpy(),
            scales.output_scale[row].numpy(),
            input_scale_T.numpy(),
            _array(no_bias_O if row else bias_O),
            mask_TO,
            beyond_T,
        )
        if row:
            y_TO.add_(product_TO)
        if needs.saturation and beyond_T.any():
            mask_TO[~beyond_T] = False  # The kernel has written the lines of saturated tokens only.
            saturated.append(torch.from_numpy(mask_TO))
        else:
            saturated.append(None)
        if needs.inputs:
            # In place: nothing needs levels and scales any more. Tiles side by side share one tensor.
            input_TI = levels_TI.mul_(input_scale_T.mul_(converters.input_unit)[:, None])
            inputs.append([input_TI] * len(grid.columns))
    return saturated, inputs if needs.inputs else None


def _array(parameter: Tensor) -> NDArray[np.float32]:
    """numpy's view of a parameter, which must outlive it.

    Tensor.numpy would forbid its storage to be resized, as FSDP does to free it.
    """
    assert parameter.dtype == torch.float32 and parameter.is_contiguous()
    memory = (ctypes.c_float * parameter.numel()).from_address(parameter.data_ptr())
    return np.ctypeslib.as_array(memory).reshape(parameter.shape)


def noisy_weights(exact_OI: Tensor, strength: float, scale_RO: Tensor, grid: TileGrid, normals: PooledNormal) -> Tensor:
    """exact + strength * scale * xi in float32, (out_features, in_features).

    Args:
        exact_OI: weights without noise.
        strength: standard deviation, relative to the column scale.
        scale_RO: column scales.
        grid: tiles of the layer.
        normals: source of xi.
    """
    contiguous_OI = exact_OI.contiguous()
    noisy_OI = torch.empty_like(exact_OI, memory_format=torch.contiguous_format)
    kernels.noisy_weights(
        _array(contiguous_OI),
        np.uint64(normals.reserve(*exact_OI.shape)),
        run_table(torch.float32).numpy(),
        np.float32(strength),
        scale_RO.numpy(),
        grid.edges,
        noisy_OI.numpy(),
    )
    return noisy_OI
