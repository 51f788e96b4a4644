"""The four commands that write, each with its arguments, its result, and what must hold at any moment."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analog_lora_cli.errors import CheckpointError
from analog_lora_cli.storage.checkpoint import read_checkpoint, verify_adapter
from analog_lora_cli.storage.layout import MANIFEST
from analog_lora_cli.storage.sealed import SEAL
from analog_lora_cli.storage.workspace import is_workspace

Undisturbed = Callable[[str], tuple[Path, float]]
"""For the name of a command, a folder with the result of an undisturbed run, and the seconds that it took."""

VOLATILE = {"seconds", "samples_per_second", "resumed_from", "written"}
"""What differs between two runs with the same result: durations, dates, where a run was continued."""


@dataclass(frozen=True)
class Work:
    """A command to be disturbed.

    Attributes:
        name: of the command.
        arguments: with `{}` for the folder that it works in.
        start: a checkpoint that is copied into that folder first, as `c`; None for nothing.
        again: further arguments with which the command goes on after a disturbance.
    """

    name: str
    arguments: tuple[str, ...]
    start: Path | None = None
    again: tuple[str, ...] = ()

    def prepare(self, folder: Path) -> Path:
        folder.mkdir()
        if self.start is not None:
            shutil.copytree(self.start, folder, dirs_exist_ok=True)
        return folder

    def command(self, folder: Path) -> list[str]:
        return [part.replace("{}", str(folder)) for part in self.arguments]


def result(folder: Path) -> dict[str, Any]:
    """What a command has left, without what differs between equal runs: content of JSON, hashes of other files."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_file() or "trainer" in path.parts or path.name in (".lock", "log.txt"):
            continue
        if path.suffix == ".json":
            content = json.loads(path.read_text())
            if path.name == MANIFEST:
                del content[SEAL]  # Of the times in it, too.
            found[name] = _steady(content)
        elif path.name == "measurements.jsonl":
            found[name] = {line for line in path.read_text().splitlines() if line.endswith("}")}
        else:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def _steady(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _steady(part) for key, part in value.items() if key not in VOLATILE}
    return [_steady(part) for part in value] if isinstance(value, list) else value


def left_over(folder: Path) -> list[Path]:
    """Workspaces that nobody works in any more."""
    # os.walk does not mind folders that vanish while it looks.
    paths = [Path(place, name) for place, folders, _ in os.walk(folder) for name in folders]
    return [path for path in paths if is_workspace(path)]


def log_texts(folder: Path) -> list[str]:
    """Texts of all log.txt in a folder that a command may be writing to."""
    logs = [Path(place, "log.txt") for place, _, files in os.walk(folder) if "log.txt" in files]
    return [log.read_text() for log in logs]


def see_that_nothing_is_half(folder: Path) -> None:
    """What lies in its place is whole: every JSON file, every adapter in a manifest, every export."""
    for path in folder.rglob("*.json"):
        if not any(is_workspace(parent) for parent in path.parents) and "trainer" not in path.parts:
            json.loads(path.read_text())
    for manifest in folder.rglob("export.json"):
        if any(is_workspace(parent) for parent in manifest.parents):
            continue
        for name, digest in json.loads(manifest.read_text())["files"].items():
            assert hashlib.sha256((manifest.parent / name).read_bytes()).hexdigest() == digest, name
    if (folder / "c").is_dir():
        try:
            checkpoint = read_checkpoint(folder / "c")
        except CheckpointError as error:
            assert "not complete" in str(error) or "not a checkpoint folder" in str(error), error
        else:
            for name in checkpoint.adapters:
                verify_adapter(checkpoint, name)
