"""The placement table: what became analog, what stayed digital, and why."""

from __future__ import annotations

import re
from collections.abc import Iterable

from rich.table import Table

from analog_lora_cli import console
from analog_lora_cli.engine.placement import PlacedLayer, Placement


def placement_table(placement: Placement) -> Table:
    """One row for each kind of layer, layers of like name and shape together."""
    analog = placement.analog
    on_tiles = sum(layer.parameters for layer in analog)
    total = sum(layer.parameters for layer in placement.layers)
    tiles = sum(layer.tiles[0] * layer.tiles[1] for layer in analog if layer.tiles)
    made = console.table(
        f"Placement: {len(analog)} layers on {tiles} tiles, {on_tiles / total:.1%} of {total / 1e6:.1f} M parameters",
        "layers", "shape", "where", "tiles", "clipped", "change",
        caption="clipped: share of weights moved by clipping; change: relative change of the matrix (Frobenius norm)",
        left=3,
    )
    for group in _groups(placement.layers):
        first = group[0]
        count = f" x {len(group)}" if len(group) > 1 else ""
        shape = "x".join(map(str, first.shape))
        if first.analog and first.tiles:
            weights = sum(layer.shape[0] * layer.shape[1] for layer in group)
            clipped = sum(layer.clipped for layer in group) / weights
            change = max(layer.clip_change for layer in group)
            grid = f"{first.tiles[0]}x{first.tiles[1]}"
            made.add_row(_pattern(first.name) + count, shape, "tiles", grid, f"{clipped:.2%}", f"{change:.2%}")
        else:
            made.add_row(_pattern(first.name) + count, shape, f"digital: {first.reason}", "", "", "")
    return made


def _groups(layers: Iterable[PlacedLayer]) -> list[list[PlacedLayer]]:
    groups: dict[tuple[object, ...], list[PlacedLayer]] = {}
    for layer in layers:
        # Digital layers of one kind need no rows of their own for each place that they stand in.
        place = _pattern(layer.name) if layer.analog else layer.reason
        groups.setdefault((place, tuple(layer.shape) if layer.analog else layer.kind), []).append(layer)
    return sorted(groups.values(), key=lambda group: not group[0].analog)


def _pattern(name: str) -> str:
    return re.sub(r"(?<=\.)\d+(?=\.|$)", "*", name)
