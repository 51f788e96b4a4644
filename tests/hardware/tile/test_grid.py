"""How a layer is cut into tiles: aihwkit's rule, and every weight on exactly one tile."""

from __future__ import annotations

from itertools import pairwise

import torch
from aihwkit.simulator.tiles.array import TileModuleArray
from hypothesis import example, given, settings
from hypothesis import strategies as st

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.hardware.tile.grid import TileGrid, split_evenly


@given(size=st.integers(1, 6000), limit=st.integers(0, 1100))
@example(size=3072, limit=512)
@example(size=513, limit=512)
@example(size=512, limit=512)
@example(size=1, limit=1)
@settings(deadline=None, max_examples=300)
def test_splits_are_those_of_aihwkit(size: int, limit: int) -> None:
    spans = split_evenly(size, limit)
    assert [stop - start for start, stop in spans] == TileModuleArray.get_split_sizes(None, size, limit)
    assert spans[0][0] == 0
    assert spans[-1][1] == size
    assert all(before[1] == after[0] for before, after in pairwise(spans))


def test_grid() -> None:
    grid = TileGrid.of(768, 3072, HardwareConfig())
    assert (len(grid.rows), len(grid.columns), len(grid)) == (6, 2, 12)
    assert grid.columns == [(0, 384), (384, 768)]
    uneven = TileGrid.of(7, 10, HardwareConfig(tile_rows=4, tile_columns=3))
    assert uneven.rows == [(0, 4), (4, 7), (7, 10)]
    assert uneven.columns == [(0, 3), (3, 5), (5, 7)]
    assert len(TileGrid.of(7, 10, HardwareConfig(tile_rows=0, tile_columns=0))) == 1


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 20), st.integers(0, 20))
@settings(deadline=None, max_examples=50)
def test_every_weight_is_on_one_tile(outputs: int, inputs: int, rows: int, columns: int) -> None:
    grid = TileGrid.of(outputs, inputs, HardwareConfig(tile_rows=rows, tile_columns=columns))
    weights, places = torch.zeros(outputs, inputs), torch.zeros(len(grid.rows), outputs)
    for tile in grid:
        assert tile.size == tuple(reversed(weights[tile.weights].shape))
        weights[tile.weights] += 1
        places[tile.columns] += 1
    assert (weights == 1).all() and (places == 1).all()
    assert len(list(grid)) == len(grid)
