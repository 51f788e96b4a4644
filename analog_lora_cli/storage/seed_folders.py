"""Folders of several trainings that differ in their seed: `DIR/seed-0`, `DIR/seed-1`, ..."""

from __future__ import annotations

import re
from pathlib import Path

from analog_lora_cli.storage.layout import CONFIG

_NAME = re.compile(r"seed-(0|[1-9][0-9]*)")


def seed_folder(folder: Path, index: int) -> Path:
    """The folder of one of the trainings, counted from 0."""
    return folder / f"seed-{index}"


def seed_folders(folder: Path) -> list[Path]:
    """The folders of the trainings in a folder, by number; empty if it holds none or is itself a checkpoint."""
    if not folder.is_dir() or (folder / CONFIG).exists():
        return []
    numbered = [(int(match[1]), entry) for entry in folder.iterdir() if (match := _NAME.fullmatch(entry.name))]
    return [entry for _, entry in sorted(numbered)]
