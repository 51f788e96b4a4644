"""Mapping of a weight matrix to tile weights: one scale an output column of each tile, and clipping."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from analog_lora_cli.hardware.tile.grid import TileGrid, TileSlice
from analog_lora_cli.hardware.tile.state import MappedLayer

BLOCK = 1 << 14
"""Weights that are clipped at a time on a CPU, at least. Few, because glibc does not use again all that larger blocks
have freed: with four times as many a model of 224 layers grew by 150 MB."""


def column_scales(weight: Tensor, grid: TileGrid) -> Tensor:
    """Largest magnitude of each output column on each row of tiles: the digital scale after the ADC.

    The weights that a tile holds are `weight / scale`, in [-1, 1] (channel-wise symmetric mapping, arXiv
    2411.17367, section on hardware-aware training). A column of zeros has the scale 0 and so the output 0.

    Args:
        weight: (out_features, in_features).
        grid: the layer's tiles.

    Returns:
        (rows of tiles, out_features), in the unit of the weight and of type `tile_dtype`.
    """
    parts = [weight[:, start:stop] for start, stop in grid.rows]
    # The magnitudes of all weights would be another matrix.
    scales = torch.stack([torch.maximum(part.amax(dim=1).abs(), part.amin(dim=1).abs()) for part in parts])
    return scales.to(tile_dtype(weight.dtype))


def tile_dtype(weight_dtype: torch.dtype) -> torch.dtype:
    """Type that tiles compute in, and that the weights of a chip have: float32 for weights in half precision."""
    return torch.promote_types(weight_dtype, torch.float32)


def tile_weight(layer: MappedLayer, place: TileSlice, dtype: torch.dtype | None = None) -> Tensor:
    """The target weights of a tile, (columns, rows) in [-1, 1].

    Args:
        layer: layer on tiles.
        place: the tile.
        dtype: type to compute in; None: that of the column scales.
    """
    dtype = dtype or layer.column_scale.dtype
    scale = layer.column_scale[place.columns].to(dtype)[:, None]
    return layer.weight.detach()[place.weights].to(dtype) / torch.where(scale > 0, scale, 1.0)


def tile_weights(layer: MappedLayer, dtype: torch.dtype | None = None) -> Iterator[tuple[TileSlice, Tensor]]:
    """Each tile of a layer with its target weights, see `tile_weight`, one after the other."""
    for place in layer.grid:
        yield place, tile_weight(layer, place, dtype)


def weight_units(layer: MappedLayer) -> Tensor:
    """The magnitude that counts as 1 in tile units for each weight, (out_features, in_features).

    It is 1 in a column of zeros.
    """
    scale = torch.where(layer.column_scale > 0, layer.column_scale, torch.ones_like(layer.column_scale))
    rows = zip(scale, layer.grid.rows, strict=True)
    return torch.cat([scale[:, None].expand(-1, stop - start) for scale, (start, stop) in rows], dim=1)


@dataclass(frozen=True)
class Clipping:
    """Effect of clipping on one layer."""

    clipped: int
    """Number of weights that were moved."""
    change: float
    """Relative change of the matrix, Frobenius norm."""


@torch.no_grad()
def clip_weight_(weight: Tensor, grid: TileGrid, sigma: float, scope: str, scales: Tensor | None = None) -> Clipping:
    """Clip a weight matrix at a number of standard deviations, in place, with a block of outputs as workspace.

    `column`: each column of a tile at sigma times its own standard deviation (arXiv 2411.17367: "each channel").
    `tile`: the weights in tile units at sigma times the standard deviation of the whole tile (the paper's
    repository, aihwkit's LAYER_GAUSSIAN). The standard deviation is the sample's (n - 1), as in aihwkit, and taken in
    float64, so that the clipped weights do not depend on a machine's order of summation.

    Args:
        weight: (out_features, in_features), any floating type; changed.
        grid: the layer's tiles.
        sigma: number of standard deviations; 0 leaves the weights as they are.
        scope: `column` or `tile`.
        scales: (rows of tiles, out_features), the column scales that tile units refer to; None: those of the weight.

    Returns:
        the effect of the clipping.
    """
    if sigma == 0:
        return Clipping(clipped=0, change=0.0)
    # Summed on the weight's device and read once, because each number that is read would wait for a GPU.
    sums = torch.zeros(3, dtype=torch.float64, device=weight.device)
    for tile in grid:
        tile_OI = weight[tile.weights]
        blocks = _blocks(tile_OI)
        scale_O = None if scales is None else scales[tile.columns]
        bounds = _tile_bounds(tile_OI, sigma, scale_O).tensor_split(len(blocks)) if scope == "tile" else None
        for number, block in enumerate(blocks):
            exact = block.to(torch.float64, copy=True)
            bound = (_column_std(exact) * sigma if bounds is None else bounds[number]).to(block.dtype)
            # A column whose weights are all equal has no spread to clip at.
            bound.masked_fill_(~(bound > 0), torch.inf)
            torch.clamp(block, -bound, bound, out=block)
            square = _square(exact)
            change = exact.sub_(block)
            sums += torch.stack([change.count_nonzero(), _square(change), square])
    moved, change_square, square = sums.tolist()
    return Clipping(clipped=int(moved), change=(change_square / square) ** 0.5 if square > 0 else 0.0)


def _blocks(tile_OI: Tensor) -> tuple[Tensor, ...]:
    """A tile in blocks of outputs; on a GPU in one, because there each would cost the launches of its kernels."""
    count = tile_OI.numel() // BLOCK if tile_OI.device.type == "cpu" else 1
    return tile_OI.tensor_split(min(len(tile_OI), max(1, count)))


def _column_std(block: Tensor) -> Tensor:
    """(outputs, 1): the standard deviation of each column."""
    return block.std(dim=1, keepdim=True) if block.shape[1] > 1 else torch.zeros_like(block)


def _tile_bounds(tile_OI: Tensor, sigma: float, scale_O: Tensor | None) -> Tensor:
    """(outputs, 1): the largest magnitudes of the columns of a tile that is clipped as a whole."""
    scale_O1 = tile_OI.abs().amax(dim=1, keepdim=True) if scale_O is None else scale_O[:, None]
    units = tile_OI / torch.where(scale_O1 > 0, scale_O1, torch.ones_like(scale_O1))
    std = units.double().std() if units.numel() > 1 else units.new_zeros(())
    return std * sigma * scale_O1


def _square(matrix: Tensor) -> Tensor:
    """The sum of squares, without another matrix."""
    flat = matrix.reshape(-1)
    return flat.dot(flat)
