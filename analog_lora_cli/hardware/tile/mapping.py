"""Mapping of a weight matrix to tile weights: one scale an output column of each tile, and clipping."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from analog_lora_cli.hardware.tile.grid import TileGrid, TileSlice
from analog_lora_cli.hardware.tile.state import MappedLayer


def column_scales(weight: Tensor, grid: TileGrid) -> Tensor:
    """Largest magnitude of each output column on each row of tiles: the digital scale after the ADC.

    The weights that a tile holds are `weight / scale`, in [-1, 1] (channel-wise symmetric mapping, arXiv
    2411.17367, section on hardware-aware training). A column of zeros has the scale 0 and so the output 0.

    Args:
        weight: (out_features, in_features).
        grid: the layer's tiles.

    Returns:
        (rows of tiles, out_features), in the unit of the weight; float32 for weights in half precision. Their type is
        that which tiles compute in.
    """
    scales = torch.stack([weight[:, start:stop].abs().amax(dim=1) for start, stop in grid.rows])
    return scales.to(torch.promote_types(weight.dtype, torch.float32))


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
def clip_weight(
    weight: Tensor, grid: TileGrid, sigma: float, scope: str, scales: Tensor | None = None
) -> tuple[Tensor, Clipping]:
    """Clip a weight matrix at a number of standard deviations.

    `column`: each column of a tile at sigma times its own standard deviation (arXiv 2411.17367: "each channel").
    `tile`: the weights in tile units at sigma times the standard deviation of the whole tile (the paper's
    repository, aihwkit's LAYER_GAUSSIAN). The standard deviation is the sample's (n - 1), as in aihwkit, and taken in
    float64, so that the clipped weights do not depend on a machine's order of summation.

    Args:
        weight: (out_features, in_features).
        grid: the layer's tiles.
        sigma: number of standard deviations; 0 leaves the weights as they are.
        scope: `column` or `tile`.
        scales: (rows of tiles, out_features), the column scales that tile units refer to; None: those of the weight.

    Returns:
        the clipped weight, a new tensor, and the effect of the clipping.
    """
    if sigma == 0:
        return weight.clone(), Clipping(clipped=0, change=0.0)
    clipped = weight.clone()
    for tile in grid:
        block = clipped[tile.weights]
        if scope == "tile":
            scale = block.abs().amax(dim=1, keepdim=True) if scales is None else scales[tile.columns][:, None]
            units = block / torch.where(scale > 0, scale, torch.ones_like(scale))
            bound = (units.double().std() if units.numel() > 1 else units.new_zeros(())) * sigma * scale
        else:
            bound = _column_std(block) * sigma
        # A column whose weights are all equal has no spread to clip at.
        bound = bound.to(block.dtype)
        bound = torch.where(bound > 0, bound, torch.full_like(bound, torch.inf))
        block.copy_(torch.maximum(torch.minimum(block, bound), -bound))
    norm = weight.norm()
    change = float((clipped - weight).norm() / norm) if norm > 0 else 0.0
    return clipped, Clipping(clipped=int((clipped != weight).sum()), change=change)


def _column_std(block: Tensor) -> Tensor:
    if block.shape[1] == 1:
        return block.new_zeros((block.shape[0], 1))
    return block.double().std(dim=1, keepdim=True)
