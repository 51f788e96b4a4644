"""The scale of a tile's inputs: the magnitude that the input converters take as 1.

Axes of tensors by suffix: T tokens, I inputs (of all rows of tiles, or of one), R rows of tiles, 1 a length of one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor

from analog_lora_cli.hardware.tile.grid import Span, TileGrid

DECAY_WITHIN = 0.95
"""A learned range decays where more than this share of the inputs lie within it: aihwkit's `input_min_percentage`."""


class InputScale(Protocol):
    """The scale of the inputs of a layer's rows of tiles."""

    def scaled(self, x_RTI: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        """Inputs as the converters see them, and the scale of each token.

        Args:
            x_RTI: inputs of some rows of tiles.
            rows: their numbers.

        Returns:
            the inputs, no larger than the scale; and (rows of tiles, tokens, 1), the scale.
        """

    @property
    def ranges(self) -> Tensor | None:
        """(rows of tiles,): the scale of all tokens; None if each has its own."""

    def constants(self, rows: int) -> Tensor:
        """(rows of tiles,), float32: the scale of all tokens; 0 if each has its own."""

    def of_row(self, row: int) -> InputScale:
        """The scale of a layer that consists of one row of tiles of this one."""

    def input_gradient(self, x: Tensor | None, grad: Tensor, grid: TileGrid) -> Tensor:
        """The gradient of the layer's inputs from that of the converters' inputs; may change the latter in place.

        Args:
            x: (..., in_features), the inputs; None where each token has a scale of its own.
            grad: (..., in_features).
            grid: the layer's tiles.
        """

    def range_gradient(self, x: Tensor | None, grad: Tensor, grid: TileGrid, decay: float) -> Tensor:
        """The gradient of the ranges, (rows of tiles,); empty where each token has a scale of its own.

        Args:
            x: as for `input_gradient`.
            grad: gradient of the converters' inputs, before `input_gradient`.
            grid: the layer's tiles.
            decay: pull on the range, relative to it.
        """


@lru_cache(maxsize=64)
def _zeros(rows: int) -> Tensor:
    return torch.zeros(rows)


class TokenMaximum:
    """`dynamic`: each token's largest magnitude on the row of tiles, a constant in the gradient (aihwkit's ABS_MAX)."""

    def scaled(self, x_RTI: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        """See `InputScale`; the inputs stay as they are."""
        return x_RTI, torch.linalg.vector_norm(x_RTI, float("inf"), dim=-1, keepdim=True)

    ranges = None
    """See `InputScale`."""

    def constants(self, rows: int) -> Tensor:
        """0: each token has a scale of its own."""
        return _zeros(rows)

    def of_row(self, row: int) -> TokenMaximum:
        """The same for any row."""
        return self

    def input_gradient(self, x: Tensor | None, grad: Tensor, grid: TileGrid) -> Tensor:
        """The gradient as it is: no input is clipped."""
        return grad

    def range_gradient(self, x: Tensor | None, grad: Tensor, grid: TileGrid, decay: float) -> Tensor:
        """Empty: there are no ranges."""
        return grad.new_empty(0)


@dataclass(frozen=True)
class FixedRange:
    """`static` and `learned`: one range for each row of tiles; inputs beyond it are clipped and have no gradient.

    The formula is that of aihwkit's torch tile with `pre_post.input_range` and neither noise nor bound management.
    """

    range_R: Tensor
    """The ranges, positive."""

    def scaled(self, x_RTI: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        """See `InputScale`."""
        limit_R11 = self.range_R[rows, None, None].to(x_RTI.dtype)
        # A tensor of its own: iterative bound management changes the scales of single tokens.
        return torch.clamp(x_RTI, -limit_R11, limit_R11), limit_R11.repeat(1, x_RTI.shape[1], 1)

    @property
    def ranges(self) -> Tensor:
        """See `InputScale`."""
        return self.range_R.float()

    def constants(self, rows: int) -> Tensor:
        """The ranges."""
        return self.range_R.float()

    def of_row(self, row: int) -> FixedRange:
        """The range of one row."""
        return FixedRange(self.range_R[row : row + 1])

    def input_gradient(self, x: Tensor | None, grad: Tensor, grid: TileGrid) -> Tensor:
        """0 where an input is beyond its range, as with aihwkit's clamp."""
        assert x is not None
        for limit, part, (start, stop) in self._rows(x, grid):
            grad[..., start:stop].masked_fill_(part.abs() > limit, 0)
        return grad

    def range_gradient(self, x: Tensor | None, grad: Tensor, grid: TileGrid, decay: float) -> Tensor:
        """The gradient of learned ranges, (rows of tiles,): aihwkit's `InputRangeForward`.

        An input beyond the range counts where a wider range would lower the loss; the sum is relative to the range.
        The scale after the ADC counts as a constant.
        """
        assert x is not None
        gradients = []
        for limit, part, (start, stop) in self._rows(x, grid):
            upstream = grad[..., start:stop].to(limit.dtype)
            above, below = part >= limit, part <= -limit
            wider = upstream.clamp(max=0).mul(above).sum() - upstream.clamp(min=0).mul(below).sum()
            within = 1.0 - (above | below).to(limit.dtype).mean()
            gradients.append(limit * (wider + decay * (within > DECAY_WITHIN)))
        return torch.stack(gradients)

    def beyond(self, x: Tensor, grid: TileGrid) -> float:
        """The share of the inputs that are clipped.

        Args:
            x: (..., in_features), the inputs.
            grid: the layer's tiles.
        """
        clipped = sum(int((part.abs() > limit).sum()) for limit, part, _ in self._rows(x, grid))
        return clipped / max(x.numel(), 1)

    def _rows(self, x: Tensor, grid: TileGrid) -> Iterator[tuple[Tensor, Tensor, Span]]:
        """Of each row of tiles its range, its inputs, and their indices."""
        # The forward pass compares in the type of the weights: half precision would round the range.
        dtype = torch.promote_types(x.dtype, self.range_R.dtype)
        for limit, (start, stop) in zip(self.range_R, grid.rows, strict=True):
            yield limit, x[..., start:stop].to(dtype), (start, stop)
