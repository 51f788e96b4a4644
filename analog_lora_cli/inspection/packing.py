"""Packing of several small layers into one array, which saves arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Block:
    """The used part of one tile of one layer."""

    layer: str
    row: int
    """Row of the tile in its layer's grid."""
    column: int
    """Column of the tile in its layer's grid."""
    inputs: int
    """Word lines that it takes."""
    outputs: int
    """Bit lines that it takes for weights."""
    references: int = 0
    """Reference columns beside them."""

    @property
    def bit_lines(self) -> int:
        """All bit lines that it takes."""
        return self.outputs + self.references


@dataclass(frozen=True)
class PackedBlock:
    """A block and its position in a shared array."""

    block: Block
    array: int
    first_row: int
    first_column: int


@dataclass
class _Shelf:
    """A strip of an array: blocks stand in it side by side."""

    array: int
    first_row: int
    inputs: int
    used: int = 0


@dataclass
class _Packer:
    rows: int
    columns: int
    shelves: list[_Shelf] = field(default_factory=list)
    filled: list[int] = field(default_factory=list)
    """Rows of each array that shelves have taken."""

    def put(self, block: Block) -> PackedBlock:
        shelf = next((s for s in self.shelves if self._fits(s, block)), None) or self._new_shelf(block.inputs)
        packed = PackedBlock(block, shelf.array, shelf.first_row, shelf.used)
        shelf.used += block.bit_lines
        return packed

    def _fits(self, shelf: _Shelf, block: Block) -> bool:
        return block.inputs <= shelf.inputs and shelf.used + block.bit_lines <= self.columns

    def _new_shelf(self, inputs: int) -> _Shelf:
        array = next((index for index, used in enumerate(self.filled) if used + inputs <= self.rows), len(self.filled))
        if array == len(self.filled):
            self.filled.append(0)
        shelf = _Shelf(array, self.filled[array], inputs)
        self.filled[array] += inputs
        self.shelves.append(shelf)
        return shelf


def pack(blocks: Sequence[Block], rows: int, columns: int) -> list[PackedBlock]:
    """Put blocks into as few arrays as a simple rule finds: tallest first, each on the first shelf with room.

    Blocks of one array can only be read one after the other: their word lines or bit lines are shared. Each keeps its
    own column scales and its own drift-compensation factor. (First-fit decreasing height: Coffman, Garey, Johnson and
    Tarjan, SIAM J. Comput. 9 (1980) 808.)

    Args:
        blocks: none larger than an array.
        rows: word lines of an array.
        columns: bit lines of an array.

    Returns:
        the blocks in the same order, each with its position.
    """
    packer = _Packer(rows, columns)
    order = sorted(range(len(blocks)), key=lambda index: (-blocks[index].inputs, -blocks[index].bit_lines, index))
    packed = {index: packer.put(blocks[index]) for index in order}
    return [packed[index] for index in range(len(blocks))]
