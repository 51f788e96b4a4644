"""Layers of like name and shape together: a transformer has a few kinds of layers, each many times."""

from __future__ import annotations

import re
from collections.abc import Iterable

from analog_lora_cli.engine.placement import PlacedLayer


def groups(layers: Iterable[PlacedLayer]) -> list[list[PlacedLayer]]:
    """The layers by name without numbers, and by shape; in the order of their first."""
    found: dict[tuple[object, ...], list[PlacedLayer]] = {}
    for layer in layers:
        found.setdefault((pattern(layer.name), *layer.shape), []).append(layer)
    return list(found.values())


def pattern(name: str) -> str:
    """`encoder.layer.*.attention` for `encoder.layer.3.attention`."""
    return re.sub(r"(?<=\.)\d+(?=\.|$)", "*", name)


def first_star(layers: Iterable[PlacedLayer]) -> str:
    """What stands before the first number in all names that have one, if it is the same: `bert.encoder.layer.`."""
    heads = {name.partition("*")[0] for name in map(pattern, (layer.name for layer in layers)) if "*" in name}
    return heads.pop() if len(heads) == 1 else ""
