"""Reading tiles on a CPU: `read_out.read_tiles` with the loops of `cpu_kernels`."""

from __future__ import annotations

import ctypes

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from analog_lora_cli.hardware.kernels import cpu as cpu_kernels
from analog_lora_cli.hardware.kernels.normals import Normals, run_table
from analog_lora_cli.hardware.tile.mapping import TileGrid
from analog_lora_cli.hardware.tile.mvm import Converters, DigitalScales

_UNWANTED = np.empty((0, 0), dtype=np.bool_)


def read_rows(
    tokens: Tensor,
    held: Tensor,
    scales: DigitalScales,
    bias: Tensor | None,
    grid: TileGrid,
    converters: Converters,
    normals: Normals,
    output: Tensor,
    keep_inputs: bool,
    find_saturated: bool,
) -> tuple[list[Tensor | None], list[list[Tensor]] | None]:
    """Read each row of tiles; arguments as those of `read_tiles`, in float32.

    Args:
        tokens: (tokens, in_features).
        output: (tokens, out_features), is written.

    Returns:
        what is `saturated` and `inputs` in a `Reading`.
    """
    x = tokens.detach().contiguous().numpy()
    table = run_table(torch.float32).numpy()
    none = tokens.new_zeros(held.shape[0])
    digital = none if bias is None else bias.detach().to(tokens.dtype).contiguous()
    saturated: list[Tensor | None] = []
    inputs: list[list[Tensor]] = []
    for index, (start, stop) in enumerate(grid.rows):
        levels, factor = tokens.new_empty(len(x), stop - start), tokens.new_empty(len(x))
        step = np.float32(converters.dac_step)
        cpu_kernels.convert_inputs(x, start, stop, step, levels.numpy(), factor.numpy())
        product = torch.mm(levels, held[:, start:stop].t(), out=output if index == 0 else None)
        mask = np.empty(product.shape, dtype=np.bool_) if find_saturated else _UNWANTED
        beyond = np.zeros(len(x), dtype=np.bool_)
        cpu_kernels.convert_outputs(
            product.numpy(),
            np.uint64(normals.reserve(*product.shape) if converters.output_noise else 0),
            table,
            np.float32(converters.noise_steps),
            converters.adc_step > 0,
            np.float32(converters.adc_bound / converters.output_unit),
            scales.into[index].numpy(),
            scales.after[index].numpy(),
            factor.numpy(),
            _array(none if index else digital),
            mask,
            beyond,
        )
        if index:
            output.add_(product)
        if find_saturated and beyond.any():
            mask[~beyond] = False
            saturated.append(torch.from_numpy(mask))
        else:
            saturated.append(None)
        if keep_inputs:
            seen = levels.mul_(factor.mul_(converters.input_unit)[:, None])
            inputs.append([seen] * len(grid.columns))
    return saturated, inputs if keep_inputs else None


def _array(parameter: Tensor) -> NDArray[np.float32]:
    """numpy's view of a parameter, which must outlive it.

    Tensor.numpy would forbid its storage to be resized, as FSDP does to free it.
    """
    assert parameter.dtype == torch.float32 and parameter.is_contiguous()
    memory = (ctypes.c_float * parameter.numel()).from_address(parameter.data_ptr())
    return np.ctypeslib.as_array(memory).reshape(parameter.shape)


def noisy_weights(exact: Tensor, strength: float, scales: Tensor, grid: TileGrid, normals: Normals) -> Tensor:
    """exact + strength * scale * xi in float32.

    Args:
        exact: (out_features, in_features).
        strength: standard deviation, relative to the column scale.
        scales: (rows of tiles, out_features): column scales.
        grid: the layer's tiles.
        normals: where xi comes from.
    """
    given = exact.contiguous()
    held = torch.empty_like(exact, memory_format=torch.contiguous_format)
    cpu_kernels.noisy_weights(
        _array(given),
        np.uint64(normals.reserve(*exact.shape)),
        run_table(torch.float32).numpy(),
        np.float32(strength),
        scales.numpy(),
        grid.edges,
        held.numpy(),
    )
    return held
