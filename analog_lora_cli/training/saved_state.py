"""Saved states of a training that `--resume` continues from: complete ones only."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from analog_lora_cli.errors import CheckpointError
from analog_lora_cli.runtime import processes
from analog_lora_cli.runtime.ranks import is_main
from analog_lora_cli.storage.files import file_sha256, write_json
from analog_lora_cli.storage.workspace import flush

COMPLETE = "complete.json"
"""Written last into a saved state: names and hashes of its files. A state without it is not used."""


def mark_complete(state: Path) -> None:
    """Declare a state complete, once all of its files are on disk."""
    flush(state)
    files = sorted(path.relative_to(state).as_posix() for path in state.rglob("*") if path.is_file())
    write_json(state / COMPLETE, {name: file_sha256(state / name) for name in files if name != COMPLETE})


def newest_state(folder: Path) -> Path | None:
    """The newest complete state to resume from; incomplete ones are removed.

    Args:
        folder: the run's `trainer` folder.
    """
    newest: tuple[int, Path] | None = None
    for state in folder.glob("checkpoint-*"):
        number = state.name.rpartition("-")[2]
        if not number.isdigit():
            continue
        if not is_complete(state):
            if is_main():
                shutil.rmtree(state, ignore_errors=True)
        elif newest is None or int(number) > newest[0]:
            newest = (int(number), state)
    processes.wait_for_all()
    return None if newest is None else newest[1]


def is_complete(state: Path) -> bool:
    """Whether all files of a saved state are there and as they were written."""
    try:
        hashes = json.loads((state / COMPLETE).read_text(encoding="utf-8"))
        return all(file_sha256(state / name) == digest for name, digest in hashes.items())
    except (OSError, ValueError, AttributeError, TypeError):
        return False


@contextmanager
def loading(state: str | None) -> Iterator[None]:
    """Turn any error in the block into one message that names the state.

    Its files are complete, so the state is one of another kind of training.

    Raises:
        CheckpointError: for any error in the block.
    """
    try:
        yield
    except Exception as error:  # Strange files raise other classes in each release of the libraries.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].partition(". ")[0]
        raise CheckpointError(
            f"{state}: this state cannot be loaded: {reason}. Delete its folder to continue from the one before"
        ) from error


def step_of(state: Path) -> int:
    """Optimizer step of a state, from its folder's name."""
    return int(state.name.rpartition("-")[2])
