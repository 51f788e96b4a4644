"""The analog matrix-vector product (MVM) in torch's operations: DAC, product in the memory, noise, ADC, digital scale.

All rows of tiles are computed at once, so that a GPU starts as few kernels as for one; nothing waits for it.

Axes of tensors by suffix: R rows of tiles, T tokens, I inputs (of all rows of tiles, or of one; shorter rows are padded
with zeros), O outputs, B bytes of bits, 1 a length of one.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from analog_lora_cli.hardware.kernels.random import PooledNormal
from analog_lora_cli.hardware.tile.array import GradientNeeds, MvmResult, TileArray
from analog_lora_cli.hardware.tile.device_draw import device_draw
from analog_lora_cli.hardware.tile.grid import TileGrid
from analog_lora_cli.hardware.tile.saturation import pack, partial_gradient
from analog_lora_cli.hardware.tile.tile_by_tile import CPU_BLOCK, mvm_by_tile

GPU_BLOCK = 1 << 27
"""Outputs, of all rows of tiles, that are computed at once on a GPU: half a GiB in float32."""


class TorchBackend:
    """The analog MVM in torch's operations, for any device and type; see `Backend`."""

    def weight(self, tiles: TileArray) -> Tensor:
        """(out_features, in_features): the weights with training noise."""
        if tiles.moments is not None:
            return device_draw(tiles, tiles.moments)
        exact_OI, strength = tiles.weight, tiles.noise.strength
        if strength == 0:
            return exact_OI
        noisy_OI = PooledNormal(tiles.noise.weight_seed, exact_OI.device).draw(*exact_OI.shape, dtype=exact_OI.dtype)
        deviation_OR1 = (tiles.column_scale * strength).t()[..., None]
        rows = slice(0, len(tiles.grid.rows))
        parts = list(_equal_rows(noisy_OI, tiles.grid, rows))
        deviations = (
            deviation_OR1.split([part.shape[1] for part in parts], dim=1) if len(parts) > 1 else [deviation_OR1]
        )
        for part_ORI, part_OR1 in zip(parts, deviations, strict=True):
            part_ORI.mul_(part_OR1)
        return noisy_OI.add_(exact_OI)

    def mvm(
        self, x: Tensor, tiles: TileArray, bias: Tensor | None, needs: GradientNeeds, dtype: torch.dtype | None
    ) -> MvmResult:
        """See `Backend`."""
        return self.multiply(x, self.weight(tiles), tiles, bias, needs, dtype)

    def multiply(
        self,
        x: Tensor,
        weight_OI: Tensor,
        tiles: TileArray,
        bias: Tensor | None,
        needs: GradientNeeds,
        dtype: torch.dtype | None,
    ) -> MvmResult:
        """`mvm` with the weights that include training noise."""
        bias = None if bias is None else bias.to(weight_OI.dtype)
        x_TI = x.reshape(-1, x.shape[-1]).to(weight_OI.dtype)
        normals = PooledNormal(tiles.noise.output_seed, x.device)
        # In its final shape from the beginning: a view made in here could not be changed in place, as AdaLoRA does.
        result = torch.empty(*x.shape[:-1], weight_OI.shape[0], dtype=weight_OI.dtype, device=weight_OI.device)
        y_TO = result.view(-1, weight_OI.shape[0])
        multiply = multiply_rows if tiles.plain else mvm_by_tile
        product_OI = weight_OI.to(dtype or weight_OI.dtype)
        return MvmResult(result, *multiply(x_TI, product_OI, tiles, bias, normals, needs, y_TO))

    def input_gradient(self, grad_TO: Tensor, tiles: TileArray, saturated_RTB: Tensor | None) -> Tensor:
        """See `Backend`."""
        grid, weight_OI = tiles.grid, self.weight(tiles).to(grad_TO.dtype)
        if saturated_RTB is None and tiles.compensation is None:
            return grad_TO @ weight_OI
        result_TI = grad_TO.new_empty(len(grad_TO), weight_OI.shape[1])
        for rows, tokens in _blocks(len(grid.rows), *grad_TO.shape, on_cpu=grad_TO.device.type == "cpu"):
            bits_RTB = None if saturated_RTB is None else _part(saturated_RTB, rows, tokens)
            compensation_RO = None if tiles.compensation is None else _part(tiles.compensation, rows)
            partial_RTO = partial_gradient(_part(grad_TO, tokens), compensation_RO, bits_RTB)
            weight_ROI = _rows(weight_OI, grid, rows).transpose(0, 1)
            _put(torch.bmm(partial_RTO, weight_ROI), grid, rows, _part(result_TI, tokens))
        return result_TI


def multiply_rows(
    x_TI: Tensor,
    weight_OI: Tensor,
    tiles: TileArray,
    bias: Tensor | None,
    normals: PooledNormal,
    needs: GradientNeeds,
    y_TO: Tensor,
) -> tuple[Tensor | None, Tensor | None]:
    """The product of all rows of tiles, each token and output once.

    Args:
        x_TI: inputs.
        weight_OI: weights with training noise, in the type of the products.
        tiles: tiles of the layer.
        bias: (out_features,), added digitally; None: none.
        normals: source of the output noise.
        needs: results to keep for the backward pass.
        y_TO: output.

    Returns:
        `saturated` and `inputs` of an `MvmResult`.
    """
    grid, converters, scales = tiles.grid, tiles.converters, tiles.scales
    saturated_RTB: Tensor | None = None
    inputs_TI = torch.empty_like(x_TI) if needs.inputs else None
    for rows, tokens in _blocks(len(grid.rows), *y_TO.shape, on_cpu=x_TI.device.type == "cpu"):
        block_RTI = _rows(_part(x_TI, tokens), grid, rows).transpose(0, 1)
        block_RTI, input_scale_RT1 = tiles.input_scale.scaled(block_RTI, rows)
        levels_RTI = converters.convert_input(block_RTI, input_scale_RT1)
        weight_RIO = _rows(weight_OI, grid, rows).permute(1, 2, 0)
        output_RTO = torch.bmm(levels_RTI.to(weight_OI.dtype), weight_RIO).to(levels_RTI.dtype)
        output_RTO.mul_(scales.weight_scale[rows, None])
        if tiles.adc_offset is not None:
            output_RTO.add_(tiles.adc_offset[rows, None], alpha=1.0 / converters.output_unit)
        beyond_RTO = converters.saturate(converters.digitize(output_RTO, normals), needs.saturation)
        if beyond_RTO is not None:
            saturated_RTB = _with_bits(saturated_RTB, pack(beyond_RTO), (len(grid.rows), len(x_TI)), rows, tokens)
        output_RTO.mul_(scales.output_scale[rows, None]).mul_(input_scale_RT1)
        target_TO = _part(y_TO, tokens)
        # The first row of tiles starts from the bias, the others add to the sum so far.
        addend = target_TO if rows.start else (0.0 if bias is None else bias)
        torch.add(output_RTO[0] if len(output_RTO) == 1 else output_RTO.sum(dim=0), addend, out=target_TO)
        if inputs_TI is not None:
            levels_RTI.mul_(input_scale_RT1 * converters.input_unit)
            _put(levels_RTI, grid, rows, _part(inputs_TI, tokens))
    return saturated_RTB, None if inputs_TI is None else inputs_TI[None]


def _blocks(rows: int, tokens: int, outputs: int, *, on_cpu: bool) -> Iterator[tuple[slice, slice]]:
    """Rows of tiles and tokens to compute at once: all, as long as the intermediate results stay small.

    On a CPU small means that they stay in its cache. The noise is drawn row of tiles by row of tiles either way.
    """
    if rows * tokens * outputs <= (CPU_BLOCK if on_cpu else GPU_BLOCK):
        yield slice(0, rows), slice(0, tokens)
        return
    at_once = 1 if on_cpu else rows
    size = max((CPU_BLOCK if on_cpu else GPU_BLOCK) // (at_once * outputs), 16)
    for row in range(0, rows, at_once):
        for start in range(0, tokens, size):
            yield slice(row, row + at_once), slice(start, start + size)


def _with_bits(
    saturated_RTB: Tensor | None, bits_RTB: Tensor, shape: tuple[int, int], rows: slice, tokens: slice
) -> Tensor:
    """All bits so far with those of a block; without copying them where the block is all."""
    if bits_RTB.shape[:2] == shape:
        return bits_RTB
    if saturated_RTB is None:
        saturated_RTB = bits_RTB.new_zeros(*shape, bits_RTB.shape[2])
    saturated_RTB[rows, tokens] = bits_RTB
    return saturated_RTB


def _part(tensor: Tensor, *parts: slice) -> Tensor:
    """tensor[parts]; itself where that is all of it: a view costs an operator too."""
    whole = all(part == slice(0, size) for part, size in zip(parts, tensor.shape, strict=False))
    return tensor if whole else tensor[parts]


def _equal_rows(lines_XI: Tensor, grid: TileGrid, rows: slice) -> Iterator[Tensor]:
    """Views of (X, I) as (X, R, I): rows of tiles with equal numbers of inputs, at most two groups of them.

    Longer rows come first, see `split_evenly`.
    """
    spans = grid.rows[rows]
    start, longest = spans[0][0], spans[0][1] - spans[0][0]
    long = len(spans) - (len(spans) * longest - (spans[-1][1] - start))
    for count, length in ((long, longest), (len(spans) - long, longest - 1)):
        if count:
            part = slice(start, start + count * length)
            lines = lines_XI if part == slice(0, lines_XI.shape[1]) else lines_XI[:, part]
            yield lines.view(len(lines), count, length)
            start = part.stop


def _rows(lines_XI: Tensor, grid: TileGrid, rows: slice) -> Tensor:
    """(X, I) to (X, R, I): the inputs of each row of tiles, shorter ones padded; a view where none is shorter."""
    parts = list(_equal_rows(lines_XI, grid, rows))
    return parts[0] if len(parts) == 1 else torch.cat([parts[0], functional.pad(parts[1], (0, 1))], dim=1)


def _put(part_RTI: Tensor, grid: TileGrid, rows: slice, target_TI: Tensor) -> None:
    """Write the inputs of rows of tiles, without their padding, into (tokens, inputs)."""
    first = 0
    for target_TRI in _equal_rows(target_TI, grid, rows):
        count, length = target_TRI.shape[1:]
        source_RTI = _part(part_RTI, slice(first, first + count))
        target_TRI.copy_((source_RTI if source_RTI.shape[2] == length else source_RTI[..., :length]).transpose(0, 1))
        first += count
