"""Packing: nothing overlaps, nothing is lost, and what can be full is full."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from analog_lora_cli.inspection.packing import Block, pack

SIZES = st.tuples(st.integers(1, 64), st.integers(1, 64))


@given(sizes=st.lists(SIZES, min_size=1, max_size=40))
def test_every_block_has_cells_of_its_own(sizes: list[tuple[int, int]]) -> None:
    blocks = [Block(f"layer{index}", 0, 0, rows, columns) for index, (rows, columns) in enumerate(sizes)]
    placed = pack(blocks, 64, 64)
    assert [one.block for one in placed] == blocks
    taken: set[tuple[int, int, int]] = set()
    for one in placed:
        assert one.first_row + one.block.inputs <= 64 and one.first_column + one.block.outputs <= 64
        cells = {
            (one.array, row, column)
            for row in range(one.first_row, one.first_row + one.block.inputs)
            for column in range(one.first_column, one.first_column + one.block.outputs)
        }
        assert not cells & taken
        taken |= cells
    arrays = {one.array for one in placed}
    assert arrays == set(range(len(arrays))), "no array is empty"
    assert len(arrays) <= len(blocks)


def test_blocks_that_fill_arrays_do() -> None:
    square = [Block(f"s{index}", 0, 0, 128, 128) for index in range(32)]
    tall = [Block(f"t{index}", 0, 0, 512, 128) for index in range(8)]
    wide = [Block(f"w{index}", 0, 0, 128, 512) for index in range(8)]
    placed = pack([*square, *tall, *wide], 512, 512)
    assert 1 + max(one.array for one in placed) == 2 + 2 + 2


def test_blocks_too_large_to_share_keep_an_array_each() -> None:
    blocks = [Block(f"b{index}", 0, 0, 384, 384) for index in range(5)]
    assert sorted(one.array for one in pack(blocks, 512, 512)) == [0, 1, 2, 3, 4]
