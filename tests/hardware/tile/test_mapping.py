from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.hardware.tile import mapping
from analog_lora_cli.hardware.tile.analog_linear import AnalogLinear
from analog_lora_cli.hardware.tile.grid import TileGrid
from analog_lora_cli.hardware.tile.mapping import Clipping, clip_weight_, column_scales, tile_weights

WHOLE = TileGrid(rows=[(0, 4)], columns=[(0, 3)])


def clip(
    weight: torch.Tensor, grid: TileGrid, sigma: float, scope: str, scales: torch.Tensor | None = None
) -> tuple[torch.Tensor, Clipping]:
    clipped = weight.clone()
    return clipped, clip_weight_(clipped, grid, sigma, scope, scales)


def test_column_scales() -> None:
    weight = torch.tensor([[1.0, -2, 0.5, 0], [0, 0, 0, -3], [0, 0, 0, 0]])
    assert torch.equal(column_scales(weight, WHOLE), torch.tensor([[2.0, 3, 0]]))
    tiled = TileGrid(rows=[(0, 2), (2, 4)], columns=[(0, 2), (2, 3)])
    assert torch.equal(column_scales(weight, tiled), torch.tensor([[2.0, 0, 0], [0.5, 3, 0]]))


def test_tile_weights() -> None:
    """Largest magnitude 1 in each column of a tile, zeros for a column of zeros, in the order of the grid."""
    layer = AnalogLinear(torch.tensor([[1.0, -2, 0.5], [0, 0, -3]]), None, HardwareConfig(tile_rows=2), "layer")
    tiles = [(tile.row, tile.column, weight.tolist()) for tile, weight in tile_weights(layer)]
    assert tiles == [(0, 0, [[0.5, -1.0], [0.0, 0.0]]), (1, 0, [[1.0], [-1.0]])]


def test_clip_each_column() -> None:
    """[3, -1, -1, -1] has mean 0 and the squares 9 + 3 = 12, over n - 1 = 3: a standard deviation of 2."""
    weight = torch.tensor([[3.0, -1, -1, -1], [-300, 100, 100, 100], [1, -1, 1, -1]])
    clipped, done = clip(weight, WHOLE, 1.0, "column")
    assert torch.equal(clipped, torch.tensor([[2.0, -1, -1, -1], [-200, 100, 100, 100], [1, -1, 1, -1]]))
    assert done.clipped == 2
    assert done.change == pytest.approx(math.sqrt((1 + 100**2) / (12 + 120000 + 4)))
    assert torch.equal(clip(weight, WHOLE, 1.5, "column")[0], weight), "exactly at the bound"
    assert clip(weight, WHOLE, 1.4999, "column")[1].clipped == 2


def test_clip_the_whole_tile() -> None:
    """In tile units both columns are (1, -1/3, -1/3, -1/3): squares 2 (1 + 1/3), over 7: deviation sqrt(8/21)."""
    weight = torch.tensor([[3.0, -1, -1, -1], [300, -100, -100, -100]])
    clipped, done = clip(weight, TileGrid(rows=[(0, 4)], columns=[(0, 2)]), 1.0, "tile")
    bound = math.sqrt(8 / 21)
    expected = torch.tensor([[3 * bound, -1, -1, -1], [300 * bound, -100, -100, -100]])
    assert torch.allclose(clipped, expected)
    assert done.clipped == 2


def test_clip_sees_each_tile_for_itself() -> None:
    weight = torch.tensor([[3.0, -1, -1, -1, 30, -10, -10, -10]])
    two = TileGrid(rows=[(0, 4), (4, 8)], columns=[(0, 1)])
    for scope, bound in (("column", 2 / 3), ("tile", 2 / 3)):
        clipped, _ = clip(weight, two, 1.0, scope)
        expected = torch.tensor([[3 * bound, -1, -1, -1, 30 * bound, -10, -10, -10]])
        assert torch.allclose(clipped, expected)
    side_by_side = torch.tensor([[3.0, -1, -1, -1], [1, 1, -1, -1]])
    apart, _ = clip(side_by_side, TileGrid(rows=[(0, 4)], columns=[(0, 1), (1, 2)]), 1.0, "tile")
    assert torch.allclose(apart, torch.tensor([[2.0, -1, -1, -1], [1, 1, -1, -1]]))


def test_columns_without_spread_stay() -> None:
    weight = torch.tensor([[0.0, 0, 0, 0], [2, 2, 2, 2], [3, -1, -1, -1]])
    clipped, done = clip(weight, WHOLE, 1.0, "column")
    assert torch.equal(clipped[:2], weight[:2])
    assert done.clipped == 1
    clipped, _ = clip(weight, WHOLE, 1.0, "tile")
    assert torch.equal(clipped[0], weight[0])
    for scope in ("column", "tile"):
        for single in (torch.tensor([[5.0]]), torch.tensor([[5.0], [-4.0]])):
            grid = TileGrid(rows=[(0, 1)], columns=[(0, len(single))])
            clipped, _ = clip(single, grid, 3.0, scope)
            assert torch.isfinite(clipped).all()
        zeros, done = clip(torch.zeros(3, 4), WHOLE, 3.0, scope)
        assert torch.equal(zeros, torch.zeros(3, 4))
        assert done == clip(torch.zeros(3, 4), WHOLE, 0.0, scope)[1]


@pytest.mark.parametrize("scope", ["column", "tile"])
def test_weights_in_double_precision_are_clipped_as_others(scope: str) -> None:
    weight = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    clipped, done = clip(weight.double(), WHOLE, 1.0, scope)
    expected, single = clip(weight, WHOLE, 1.0, scope)
    torch.testing.assert_close(clipped.float(), expected)
    assert done.clipped == single.clipped > 0 and done.change == pytest.approx(single.change, rel=1e-5)


def test_zero_switches_clipping_off() -> None:
    weight = torch.randn(3, 4)
    clipped, done = clip(weight, WHOLE, 0.0, "column")
    assert torch.equal(clipped, weight)
    assert (done.clipped, done.change) == (0, 0.0)


def test_heavy_tails() -> None:
    """A few weights a hundred times the rest: the scale falls to three deviations, and only outliers move."""
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(64, 512, generator=generator)
    weight[:, 7] *= 100
    grid = TileGrid(rows=[(0, 512)], columns=[(0, 64)])
    clipped, done = clip(weight, grid, 3.0, "column")
    limit = 3 * weight.double().std(dim=1, correction=1)
    moved = clipped != weight
    assert torch.allclose(column_scales(clipped, grid)[0].double(), torch.minimum(limit, weight.abs().amax(1).double()))
    assert torch.equal(moved, weight.abs().double() > limit[:, None] * (1 + 1e-6))
    assert torch.equal(clipped.sign(), weight.sign())
    assert done.clipped == int(moved.sum())
    assert 50 <= done.clipped < 400


def clipped_at_once(
    weight: torch.Tensor, grid: TileGrid, sigma: float, scope: str, scales: torch.Tensor | None
) -> torch.Tensor:
    """The definition: whole tiles, and another matrix for the result."""
    clipped = weight.clone()
    for tile in grid:
        block = clipped[tile.weights]
        if scope == "tile":
            scale = block.abs().amax(dim=1, keepdim=True) if scales is None else scales[tile.columns][:, None]
            bound = (block / scale).double().std() * sigma * scale
        else:
            bound = block.double().std(dim=1, keepdim=True) * sigma
        bound = bound.to(block.dtype)
        block.copy_(torch.maximum(torch.minimum(block, bound), -bound))
    return clipped


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("scope", ["column", "tile"])
@pytest.mark.parametrize("with_scales", [False, True])
def test_blocks_give_the_bits_of_the_whole(
    scope: str, with_scales: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights of earlier checkpoints' chips: every block size gives them."""
    for shape, tile in (((48, 64), (0, 0)), ((50, 70), (24, 20)), ((7, 300), (128, 3))):
        weight = torch.randn(shape, generator=torch.Generator().manual_seed(shape[0])).mul_(0.03).to(dtype)
        grid = TileGrid.of(*shape, HardwareConfig(tile_rows=tile[0], tile_columns=tile[1]))
        scales = 1.1 * column_scales(weight, grid) if with_scales else None
        expected = clipped_at_once(weight, grid, 1.5, scope, scales)
        for block in (1 << 18, 500, 150, 1):
            monkeypatch.setattr(mapping, "BLOCK", block)
            clipped, effect = clip(weight, grid, 1.5, scope, scales)
            assert torch.equal(clipped, expected)
            assert effect.clipped == int((expected != weight).sum()) > 0
            change = (expected.double() - weight.double()).norm() / weight.double().norm()
            assert effect.change == pytest.approx(float(change), rel=1e-12)


@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    tile=st.tuples(st.integers(0, 20), st.integers(0, 20)),
    sigma=st.floats(0.1, 5.0),
    scope=st.sampled_from(["column", "tile"]),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, max_examples=100)
def test_clipping_only_shrinks(
    shape: tuple[int, int], tile: tuple[int, int], sigma: float, scope: str, seed: int
) -> None:
    """Signs stay, magnitudes never grow, the order within a column stays, and the report is right."""
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    grid = TileGrid.of(*shape, HardwareConfig(tile_rows=tile[0], tile_columns=tile[1]))
    clipped, done = clip(weight, grid, sigma, scope)
    assert (clipped.abs() <= weight.abs()).all()
    assert (clipped * weight >= 0).all()
    for start, stop in grid.rows:
        part, after = weight[:, start:stop], clipped[:, start:stop]
        moved = after != part
        for column in range(shape[0]):
            if moved[column].any():
                # What was clipped all ends at the column's largest magnitude.
                assert torch.equal(after[column][moved[column]].abs().unique(), after[column].abs().max().view(1))
    assert done.clipped == int((clipped != weight).sum())
    assert done.change == pytest.approx(float((clipped - weight).norm() / weight.norm()), rel=1e-5)
