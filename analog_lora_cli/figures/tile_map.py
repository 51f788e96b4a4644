"""Where each tile stands in the picture of a model: kinds of layers below each other, their numbers side by side."""

from __future__ import annotations

import re
from dataclasses import dataclass

from analog_lora_cli.inspection.grouping import groups, row_name
from analog_lora_cli.inspection.inspect import Inspection
from analog_lora_cli.inspection.packing import Block
from analog_lora_cli.models.placement import PlacedLayer

GAP = 0.45
"""Between layers, in sides of a tile."""
ASPECT = 2.4
"""Width over height that a map should come close to."""


@dataclass(frozen=True)
class Rectangle:
    """In sides of a tile; y grows downwards."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class MappedTile:
    """One tile in the picture."""

    block: Block
    outline: Rectangle
    """The whole tile; empty when layers share arrays, which are outlined once."""
    used: Rectangle
    """The part that holds weights."""


@dataclass(frozen=True)
class TileMap:
    """All tiles and the labels beside them."""

    tiles: list[MappedTile]
    arrays: list[Rectangle]
    """Outlines of arrays or tiles."""
    rows: dict[str, float]
    """Height of the middle of each kind of layer, by its name."""
    columns: dict[str, float]
    """Position of each layer number."""
    width: float
    height: float


def tile_map(found: Inspection) -> TileMap:
    """Lay the tiles out: shared arrays in a grid, or layer by layer."""
    if found.packed is not None:
        return _shared_arrays(found)
    upright, lying = _by_layer(found, upright=True), _by_layer(found, upright=False)
    return min(upright, lying, key=lambda made: abs(made.width / made.height - ASPECT))


def _by_layer(found: Inspection, upright: bool) -> TileMap:
    """Kinds of layers as rows, numbers of layers as columns.

    Args:
        found: the model.
        upright: the longer side of each layer's grid of tiles stands; else it lies.
    """
    kinds = [_by_number(group) for group in groups(found.placement.analog)]
    numbers = sorted({number for kind in kinds for number in kind})
    sizes = {layer.name: _size(layer, upright) for layer in found.placement.analog}
    step = max(width for width, _ in sizes.values()) + GAP
    columns = {number: index * step for index, number in enumerate(numbers)}
    tiles: list[MappedTile] = []
    rows: dict[str, float] = {}
    y = 0.0
    for kind in kinds:
        top, first = y, next(iter(kind.values()))[0]
        height = max(sum(sizes[layer.name][1] + GAP for layer in layers) for layers in kind.values())
        for number, layers in kind.items():
            below = top
            for layer in layers:
                turned = sizes[layer.name] != (layer.tiles or [0, 0])[::-1]
                tiles.extend(_layer_tiles(found, layer, columns[number], below, turned))
                below += sizes[layer.name][1] + GAP
        rows[_label(found, first, kind)] = top + (height - GAP) / 2
        y += height
    labels = {str(number): x + (step - GAP) / 2 for number, x in columns.items()} if len(numbers) > 1 else {}
    outlines = [tile.outline for tile in tiles]
    return TileMap(tiles, outlines, rows, labels, len(numbers) * step - GAP, y - GAP)


def _label(found: Inspection, first: PlacedLayer, kind: dict[int, list[PlacedLayer]]) -> str:
    return row_name([first, first] if sum(map(len, kind.values())) > 1 else [first], found.placement)


def _by_number(group: list[PlacedLayer]) -> dict[int, list[PlacedLayer]]:
    """The layers of a kind by the first number in their names; 0 where there is none."""
    found: dict[int, list[PlacedLayer]] = {}
    for layer in group:
        number = re.search(r"(?<=\.)\d+(?=\.|$)", layer.name)
        found.setdefault(int(number[0]) if number else 0, []).append(layer)
    return found


def _size(layer: PlacedLayer, upright: bool) -> list[int]:
    """Width and height of a layer in tiles."""
    assert layer.tiles is not None
    short, long = sorted(layer.tiles)
    return [short, long] if upright else [long, short]


def _layer_tiles(found: Inspection, layer: PlacedLayer, x: float, y: float, turned: bool) -> list[MappedTile]:
    """The tiles of a layer: inputs downwards and outputs to the right, or the other way where it is turned."""
    hardware = found.config.hardware
    made = []
    for block in found.blocks[layer.name]:
        across, down = (block.row, block.column) if turned else (block.column, block.row)
        shares = (
            block.outputs / (hardware.tile_columns or block.outputs),
            block.inputs / (hardware.tile_rows or block.inputs),
        )
        width, height = shares[::-1] if turned else shares
        outline = Rectangle(x + across, y + down, 1.0, 1.0)
        made.append(MappedTile(block, outline, Rectangle(outline.x, outline.y, width, height)))
    return made


def _shared_arrays(found: Inspection) -> TileMap:
    assert found.packed is not None
    hardware = found.config.hardware
    per_row = max(1, round((found.arrays * ASPECT) ** 0.5))
    step = 1 + GAP / 2
    corners = [((array % per_row) * step, (array // per_row) * step) for array in range(found.arrays)]
    tiles = []
    for placed in found.packed:
        x, y = corners[placed.array]
        used = Rectangle(
            x + placed.first_column / hardware.tile_columns,
            y + placed.first_row / hardware.tile_rows,
            placed.block.outputs / hardware.tile_columns,
            placed.block.inputs / hardware.tile_rows,
        )
        tiles.append(MappedTile(placed.block, Rectangle(x, y, 1.0, 1.0), used))
    arrays = [Rectangle(x, y, 1.0, 1.0) for x, y in corners]
    width = min(found.arrays, per_row) * step - GAP / 2
    return TileMap(tiles, arrays, {}, {}, width, -(-found.arrays // per_row) * step - GAP / 2)
