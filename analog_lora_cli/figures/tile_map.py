"""Layout of the picture of a model's tiles: kinds of layers below each other, their numbers side by side."""

from __future__ import annotations

import re
from dataclasses import dataclass

from analog_lora_cli.inspection.grouping import groups, row_name
from analog_lora_cli.inspection.inspect import Inspection
from analog_lora_cli.inspection.packing import Block
from analog_lora_cli.models.placement import PlacedLayer

GAP = 0.45
"""Distance between layers, in sides of a tile."""
ASPECT = 2.4
"""Ratio of width to height that a map should come close to."""


@dataclass(frozen=True)
class Rectangle:
    """Area of the picture, in sides of a tile; y grows downwards."""

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


def tile_map(inspection: Inspection) -> TileMap:
    """Lay the tiles out: shared arrays in a grid, or layer by layer."""
    if inspection.packed is not None:
        return _shared_arrays(inspection)
    upright, lying = _by_layer(inspection, upright=True), _by_layer(inspection, upright=False)
    return min(upright, lying, key=lambda layout: abs(layout.width / layout.height - ASPECT))


def _by_layer(inspection: Inspection, upright: bool) -> TileMap:
    """Kinds of layers as rows, numbers of layers as columns.

    Args:
        inspection: the model.
        upright: the longer side of each layer's grid of tiles stands; else it lies.
    """
    kinds = [_by_number(group) for group in groups(inspection.placement.analog)]
    numbers = sorted({number for kind in kinds for number in kind})
    sizes = {layer.name: _size(layer, upright) for layer in inspection.placement.analog}
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
                tiles.extend(_layer_tiles(inspection, layer, columns[number], below, turned))
                below += sizes[layer.name][1] + GAP
        rows[_label(inspection, first, kind)] = top + (height - GAP) / 2
        y += height
    labels = {str(number): x + (step - GAP) / 2 for number, x in columns.items()} if len(numbers) > 1 else {}
    outlines = [tile.outline for tile in tiles]
    return TileMap(tiles, outlines, rows, labels, len(numbers) * step - GAP, y - GAP)


def _label(inspection: Inspection, first: PlacedLayer, kind: dict[int, list[PlacedLayer]]) -> str:
    return row_name([first, first] if sum(map(len, kind.values())) > 1 else [first], inspection.placement)


def _by_number(group: list[PlacedLayer]) -> dict[int, list[PlacedLayer]]:
    """The layers of a kind by the first number in their names; 0 where there is none."""
    by_number: dict[int, list[PlacedLayer]] = {}
    for layer in group:
        number = re.search(r"(?<=\.)\d+(?=\.|$)", layer.name)
        by_number.setdefault(int(number[0]) if number else 0, []).append(layer)
    return by_number


def _size(layer: PlacedLayer, upright: bool) -> list[int]:
    """Width and height of a layer in tiles."""
    assert layer.tiles is not None
    short, long = sorted(layer.tiles)
    return [short, long] if upright else [long, short]


def _layer_tiles(inspection: Inspection, layer: PlacedLayer, x: float, y: float, turned: bool) -> list[MappedTile]:
    """The tiles of a layer: inputs downwards and outputs to the right, or the other way where it is turned."""
    hardware = inspection.config.hardware
    tiles = []
    for block in inspection.blocks[layer.name]:
        across, down = (block.row, block.column) if turned else (block.column, block.row)
        shares = (
            block.bit_lines / (hardware.tile_columns or block.bit_lines),
            block.inputs / (hardware.tile_rows or block.inputs),
        )
        width, height = shares[::-1] if turned else shares
        outline = Rectangle(x + across, y + down, 1.0, 1.0)
        tiles.append(MappedTile(block, outline, Rectangle(outline.x, outline.y, width, height)))
    return tiles


def _shared_arrays(inspection: Inspection) -> TileMap:
    assert inspection.packed is not None
    hardware = inspection.config.hardware
    per_row = max(1, round((inspection.arrays * ASPECT) ** 0.5))
    step = 1 + GAP / 2
    corners = [((array % per_row) * step, (array // per_row) * step) for array in range(inspection.arrays)]
    tiles = []
    for packed in inspection.packed:
        x, y = corners[packed.array]
        used = Rectangle(
            x + packed.first_column / hardware.tile_columns,
            y + packed.first_row / hardware.tile_rows,
            packed.block.bit_lines / hardware.tile_columns,
            packed.block.inputs / hardware.tile_rows,
        )
        tiles.append(MappedTile(packed.block, Rectangle(x, y, 1.0, 1.0), used))
    arrays = [Rectangle(x, y, 1.0, 1.0) for x, y in corners]
    width = min(inspection.arrays, per_row) * step - GAP / 2
    return TileMap(tiles, arrays, {}, {}, width, -(-inspection.arrays // per_row) * step - GAP / 2)
