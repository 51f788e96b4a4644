"""Atomic writing, so that nothing half-written is taken for complete: beside, flushed, then renamed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from analog_lora_cli.errors import AnaloraError, CheckpointError, DiskFullError, UsageError
from analog_lora_cli.storage.workspace import put_in_place, workspace

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def check_writable(folder: Path) -> None:
    """Check that a folder exists or can be created, and can be written; writes nothing.

    Raises:
        UsageError: it cannot be written; the message names `--output`.
    """
    existing = next(parent for parent in [folder, *folder.absolute().parents] if parent.exists())
    if not existing.is_dir():
        raise UsageError(f"{existing}: is a file, expected a folder; choose another --output")
    if not os.access(existing, os.W_OK):
        raise UsageError(f"{existing}: no permission to write; choose another --output")


def check_new_file(option: str, path: Path, overwrite: bool) -> None:
    """Check that a file can be written, in the place of one only with `overwrite`; writes nothing.

    Args:
        option: the option that names the file, for the message.
        path: the file.
        overwrite: whether it may exist.

    Raises:
        UsageError: it cannot be written.
    """
    if path.is_dir():
        raise UsageError(f"{option} {path}: is a folder, expected a file")
    if path.exists() and not overwrite:
        raise UsageError(f"{option} {path}: exists already; replace it with --overwrite, or name another file")
    parent = next(parent for parent in path.absolute().parents if parent.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise UsageError(f"{option} {path}: cannot be written in {parent}; name another file")


def write_text(path: Path, text: str) -> None:
    """Write a text file in one step: readers see the old content or the new one."""
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")


def write_json(path: Path, value: object) -> None:
    """Write JSON in one step."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


@contextmanager
def replacing(path: Path, alone: bool = False) -> Iterator[Path]:
    """Lend a path for a file or a folder, which takes the place of `path` in one step if the block succeeds.

    Args:
        path: the file or folder.
        alone: refuse to begin while another process is replacing the same.

    Raises:
        UsageError: `alone`, and another process is replacing it.
        DiskFullError: there is no room; `path` is as it was.
    """
    with saving(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with workspace(path, alone) as folder:
            yield folder / path.name
            put_in_place(folder / path.name, path)


@contextmanager
def saving(path: Path) -> Iterator[None]:
    """Turn the errors of the libraries on a full disk into one.

    Raises:
        DiskFullError: there is no room for `path`.
    """
    try:
        yield
    except AnaloraError:
        raise
    except Exception as error:  # safetensors, tokenizers and torch have errors of their own, without a number.
        reason = _no_room(error)
        if reason is None:
            raise
        where = next(parent for parent in path.absolute().parents if parent.exists())
        free = shutil.disk_usage(where).free / 2**20
        raise DiskFullError(f"{path}: cannot be saved: {reason}; {free:.1f} MiB are free there") from error


def _no_room(error: Exception) -> str | None:
    """Reason why a disk takes no more; None if an error has another cause."""
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        return os.strerror(error.errno)
    text = str(error)
    for number in _NO_ROOM:
        if os.strerror(number) in text or f"(os error {number})" in text:
            return os.strerror(number)
    if isinstance(error, RuntimeError) and ("PytorchStreamWriter" in text or "unexpected pos" in text):
        return "the disk takes no more"
    return None


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        CheckpointError: it is missing, unreadable or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise CheckpointError(
            f"{path}: cannot be read: {reason}; restore it, or write it anew with the command that made it"
        ) from None


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
