"""Layers of like name and shape together: a transformer has a few kinds of layers, each many times."""

from __future__ import annotations

import re
from collections.abc import Iterable

from analog_lora_cli.models.placement import PlacedLayer, Placement


def groups(layers: Iterable[PlacedLayer]) -> list[list[PlacedLayer]]:
    """The layers by name without numbers, and by shape; in the order of their first."""
    by_kind: dict[tuple[object, ...], list[PlacedLayer]] = {}
    for layer in layers:
        by_kind.setdefault((pattern(layer.name), *layer.shape), []).append(layer)
    return list(by_kind.values())


def pattern(name: str) -> str:
    """`encoder.layer.*.attention` for `encoder.layer.3.attention`."""
    return re.sub(r"(?<=\.)\d+(?=\.|$)", "*", name)


def first_star(layers: Iterable[PlacedLayer]) -> str:
    """Common part before the first number of all names that have one, such as `bert.encoder.layer.`; else empty."""
    heads = {name.partition("*")[0] for name in map(pattern, (layer.name for layer in layers)) if "*" in name}
    return heads.pop() if len(heads) == 1 else ""


def rows_of(placement: Placement, show_all: bool) -> list[list[PlacedLayer]]:
    """The layers of each row of a table: like layers together, or each alone."""
    return [[layer] for layer in placement.analog] if show_all else groups(placement.analog)


def row_name(row: list[PlacedLayer], placement: Placement) -> str:
    """A row's name: from the first number on (`*.output.dense`), else without the model's own name."""
    name = row[0].name if len(row) == 1 else pattern(row[0].name)
    prefix = first_star(placement.analog)
    return name.removeprefix(prefix) if prefix and name.startswith(prefix) else name.partition(".")[2] or name


def name_note(placement: Placement) -> str:
    """Remark for a caption on the part that `row_name` leaves out; empty, or a whole line with its end."""
    prefix = first_star(placement.analog)
    return f"*: numbers of the layers, in {prefix}*\n" if prefix else ""
