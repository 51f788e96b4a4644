"""Writing so that nothing half-written is taken for whole: beside, flushed, then renamed."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from analog_lora_cli.errors import CheckpointError, UsageError


def check_writable(folder: Path) -> None:
    """See that a folder exists or can be made, and be written to; writes nothing.

    Raises:
        UsageError: it cannot; the message names `--output`.
    """
    existing = next(parent for parent in [folder, *folder.absolute().parents] if parent.exists())
    if not existing.is_dir():
        raise UsageError(f"{existing}: is a file, expected a folder; choose another --output")
    if not os.access(existing, os.W_OK):
        raise UsageError(f"{existing}: no permission to write; choose another --output")


def write_text(path: Path, text: str) -> None:
    """Write a text file in one step: readers see the old content or the new one."""
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON in one step."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


SEAL = "sha256"
"""Key of a sealed file: the sha256 of everything else in it."""


def write_sealed(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON object with the sha256 of its content in it, so that a changed digit is noticed."""
    write_json(path, value | {SEAL: _seal(value)})


def read_sealed(path: Path) -> dict[str, Any]:
    """Read what `write_sealed` has written, without the seal.

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
            "that made it"
        )
    return value


def _seal(value: dict[str, Any]) -> str:
    # Through JSON once, as reading does: tuples become lists, numbers as keys become text.
    plain = json.loads(json.dumps(value))
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write a file or a folder at, which takes the place of `path` if the block succeeds.

    A folder that is replaced is moved aside first and removed last.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        yield beside
        _flush(beside)
        if path.is_dir():
            aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.old")
            path.rename(aside)
            beside.rename(path)
            shutil.rmtree(aside)
        else:
            os.replace(beside, path)
    finally:
        if beside.is_dir():
            shutil.rmtree(beside, ignore_errors=True)
        else:
            beside.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    for file in [path] if path.is_file() else [entry for entry in path.rglob("*") if entry.is_file()]:
        with file.open("rb") as handle:
            os.fsync(handle.fileno())


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        CheckpointError: it is missing, unreadable or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise CheckpointError(f"{path}: cannot be read: {reason}") from None


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def locked(folder: Path, wait: bool = False) -> Iterator[None]:
    """Hold a folder for this process; the lock ends with the process, however it ends.

    Args:
        folder: is made if it does not exist.
        wait: until the lock is free, where it is held for moments only.

    Raises:
        UsageError: another process holds it and `wait` is false, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / ".lock").open("w")
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written: {error.strerror}") from None
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError:
            raise UsageError(
                f"{folder}: another process is writing to this folder; wait for it or use another"
            ) from None
        yield
