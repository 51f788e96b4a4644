"""The content of conductances.json, which describes the tensors of an export; see `conductance_file`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypedDict, cast

from analog_lora_cli.errors import CheckpointError

FORMAT = "analora-conductances"
VERSION = 2
"""1 had no reference columns."""
MAP = "conductances.json"


class CellEntry(TypedDict):
    """The devices of a cell in the JSON."""

    devices: list[str]
    """Names of the tensors of a tile that hold conductances."""
    significance: list[float]
    """Factor of each pair of devices; empty for a single device."""
    g_min: float
    """Smallest conductance, in uS."""
    g_max: float
    """Largest conductance, in uS."""
    reference_columns: int
    """Reference columns of each tile; 0 for pairs."""


class TileEntry(TypedDict):
    """One tile in the JSON."""

    row: int
    column: int
    inputs: list[int]
    """First input of the layer on this tile, and the one after the last."""
    outputs: list[int]
    """First output of the layer on this tile, and the one after the last."""
    scale: float
    """Conductance of a tile unit of weight, in uS."""
    offset: float
    """Weight at g_min in tile units."""


class LayerEntry(TypedDict):
    """One layer in the JSON."""

    name: str
    in_features: int
    out_features: int
    bias: bool
    tiles: list[TileEntry]


class ChipEntry(TypedDict):
    """The chip whose conductances an export holds."""

    seed: int
    seconds: float
    """Time after programming."""


class ConductanceMap(TypedDict):
    """The whole content."""

    format: str
    version: int
    unit: str
    """Unit of conductances."""
    axes: list[str]
    """Names of the axes of conductance tensors."""
    cell: CellEntry
    chip: ChipEntry | None
    hardware: dict[str, object]
    """The `hardware` section of the configuration."""
    layers: list[LayerEntry]


def read_map(folder: Path) -> ConductanceMap:
    """Read conductances.json.

    Args:
        folder: an export of the format `conductances`.

    Raises:
        CheckpointError: it is missing, damaged, or of a later version.
    """
    try:
        content = json.loads((folder / MAP).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder / MAP}: cannot be read: {error}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{folder / MAP}: not an export of conductances")
    if content.get("version") == 1:
        content["cell"]["reference_columns"] = content["hardware"]["reference_columns"] = 0
    elif content.get("version") != VERSION:
        raise CheckpointError(f"{folder / MAP}: version {content.get('version')}, expected {VERSION}")
    return cast(ConductanceMap, content)
