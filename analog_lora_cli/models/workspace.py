"""Layers in groups, where what is needed of all of them does not fit in memory at once."""

from __future__ import annotations

from collections.abc import Mapping

WORKSPACE = 1 << 30
"""Bytes that are used for some layers at a time."""


def in_groups(sizes: Mapping[str, int]) -> list[list[str]]:
    """Names of layers in groups that fit the workspace, in their order; a larger layer by itself.

    Args:
        sizes: bytes that are needed of each layer, by its name.
    """
    groups: list[list[str]] = []
    left = 0
    for name, size in sizes.items():
        if not groups or size > left:
            groups.append([])
            left = WORKSPACE
        groups[-1].append(name)
        left -= size
    return groups
