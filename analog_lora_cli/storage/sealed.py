"""JSON files that carry the sha256 of their own content, so that a changed digit is noticed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from analog_lora_cli.errors import CheckpointError
from analog_lora_cli.storage.files import read_json, write_json

SEAL = "sha256"
"""Key of a sealed file: the sha256 of everything else in it."""


def write_sealed(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON object with the sha256 of its content in it, so that a changed digit is noticed."""
    write_json(path, value | {SEAL: _seal(value)})


def read_sealed(path: Path) -> dict[str, Any]:
    """Read a file of `write_sealed`, without the seal.

    Raises:
        CheckpointError: it is missing, unreadable or damaged.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: damaged: expected a JSON object, got {type(value).__name__}")
    seal = value.pop(SEAL, None)
    if seal != _seal(value):
        raise CheckpointError(
            f"{path}: damaged: not as it was written (sha256 differs); restore it, or write it anew with the command "
            "that wrote it"
        )
    return value


def _seal(value: dict[str, Any]) -> str:
    # Through JSON once, as reading does: tuples become lists, numbers as keys become text.
    plain = json.loads(json.dumps(value))
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
