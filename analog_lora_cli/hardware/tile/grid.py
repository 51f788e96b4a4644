"""Division of a layer into tiles: even splits, rows of tiles along the inputs, columns of tiles along the outputs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

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
class TileSlice:
    """One tile of a layer: its position in the grid, and the part of the layer's weight that lies on it."""

    row: int
    column: int
    inputs: Span
    outputs: Span

    @property
    def size(self) -> tuple[int, int]:
        """Inputs and outputs: the word lines and bit lines that the layer uses of the tile."""
        return self.inputs[1] - self.inputs[0], self.outputs[1] - self.outputs[0]

    @property
    def weights(self) -> tuple[slice, slice]:
        """Index of the tile's weights in (out_features, in_features)."""
        return slice(*self.outputs), slice(*self.inputs)

    @property
    def columns(self) -> tuple[int, slice]:
        """Index of the tile's columns in (rows of tiles, out_features)."""
        return self.row, slice(*self.outputs)


@dataclass(frozen=True)
class TileGrid:
    """The tiles of one layer; iterates over them, rows of tiles first."""

    rows: list[Span]
    """Inputs of each row of tiles."""
    columns: list[Span]
    """Outputs of each column of tiles."""

    @classmethod
    def of(cls, out_features: int, in_features: int, hardware: HardwareConfig) -> TileGrid:
        """The grid of a layer of this shape on this hardware."""
        return cls(
            rows=split_evenly(in_features, hardware.tile_rows),
            columns=split_evenly(out_features, hardware.weight_columns),
        )

    @cached_property
    def edges(self) -> NDArray[np.int64]:
        """(rows of tiles + 1,): first input of each row of tiles, and the number of inputs."""
        return _edges(self.rows)

    @cached_property
    def column_edges(self) -> NDArray[np.int64]:
        """(columns of tiles + 1,): first output of each column of tiles, and the number of outputs."""
        return _edges(self.columns)

    def __iter__(self) -> Iterator[TileSlice]:
        for row, inputs in enumerate(self.rows):
            for column, outputs in enumerate(self.columns):
                yield TileSlice(row, column, inputs, outputs)

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)


def _edges(spans: list[Span]) -> NDArray[np.int64]:
    return np.array([start for start, _ in spans] + [spans[-1][1]], dtype=np.int64)
