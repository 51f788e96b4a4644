"""How a weight matrix lies on tiles: even splits, one scale an output column, clipping."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from analog_lora_cli.config.sections.hardware import HardwareConfig

Span = tuple[int, int]
"""First index and the index after the last, as in a slice."""


def split_evenly(size: int, limit: int) -> list[Span]:
    """Cut `size` lines into the fewest spans of at most `limit`, as equal as possible, longer ones first.

    The same rule as aihwkit's tile array, so that both simulate the same tiles.

    Args:
        size: number of inputs or outputs of a layer.
        limit: lines of one tile; 0 means no limit.
    """
    count = 1 if limit == 0 else -(-size // limit)
    base, extra = divmod(size, count)
    starts = [index * base + min(index, extra) for index in range(count + 1)]
    return list(pairwise(starts))


@dataclass(frozen=True)
class TileGrid:
    """The tiles of one layer."""

    rows: list[Span]
    """Inputs of each row of tiles."""
    columns: list[Span]
    """Outputs of each column of tiles."""

    @classmethod
    def of(cls, out_features: int, in_features: int, hardware: HardwareConfig) -> TileGrid:
        """The grid of a layer of this shape on this hardware."""
        return cls(
            rows=split_evenly(in_features, hardware.tile_rows),
            columns=split_evenly(out_features, hardware.tile_columns),
        )

    @cached_property
    def edges(self) -> NDArray[np.int64]:
        """(rows of tiles + 1,): where the rows of tiles begin, and the end."""
        return np.array([start for start, _ in self.rows] + [self.rows[-1][1]], dtype=np.int64)

    @property
    def tiles(self) -> int:
        """Number of tiles."""
        return len(self.rows) * len(self.columns)


def column_scales(weight: Tensor, grid: TileGrid) -> Tensor:
    """Largest magnitude of each output column on each row of tiles: the digital scale after the ADC.

    The weights that a tile holds are `weight / scale`, in [-1, 1] (channel-wise symmetric mapping, arXiv
    2411.17367, section on hardware-aware training). A column of zeros has the scale 0 and so the output 0.

    Args:
        weight: (out_features, in_features).
        grid: the layer's tiles.

    Returns:
        (rows of tiles, out_features), in the unit of the weight.
    """
    return torch.stack([weight[:, start:stop].abs().amax(dim=1) for start, stop in grid.rows])


@dataclass(frozen=True)
class Clipping:
    """What clipping did to one layer."""

    clipped: int
    """Weights that were moved."""
    change: float
    """Relative change of the matrix, Frobenius norm."""


@torch.no_grad()
def clip_weight(weight: Tensor, grid: TileGrid, sigma: float, scope: str) -> tuple[Tensor, Clipping]:
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

    Returns:
        the clipped weight, a new tensor, and what the clipping did.
    """
    if sigma == 0:
        return weight.clone(), Clipping(clipped=0, change=0.0)
    clipped = weight.clone()
    for row_start, row_stop in grid.rows:
        for column_start, column_stop in grid.columns:
            block = clipped[column_start:column_stop, row_start:row_stop]
            if scope == "tile":
                scale = block.abs().amax(dim=1, keepdim=True)
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
