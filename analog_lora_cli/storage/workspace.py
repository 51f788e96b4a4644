"""Folders beside a target in which its new content is written, and the step that puts it in the target's place."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from analog_lora_cli.errors import UsageError
from analog_lora_cli.storage.layout import LOCK

_SUFFIX = ".part"
_OLD = ".old"
"""The folder that is being replaced, inside the workspace."""


def is_workspace(path: Path) -> bool:
    """Whether a path is that of a workspace: one in use, or one that a killed process has left."""
    return path.name.startswith(".") and path.name.endswith(_SUFFIX)


def remove_left_overs(folder: Path) -> None:
    """Remove, anywhere in a folder, the workspaces of killed processes; those in use are left alone."""
    for parent, names, _ in os.walk(folder):
        for path in [Path(parent, name) for name in names]:
            if is_workspace(path):
                names.remove(path.name)
                _remove(path)


@contextmanager
def workspace(target: Path, alone: bool = False) -> Iterator[Path]:
    """Lend a folder beside a target to this process; what killed processes have left for this target goes first.

    The folder is locked, so that one without a lock is known to be left over.

    Args:
        target: what will be replaced.
        alone: refuse to begin while another process is replacing the same target.

    Raises:
        UsageError: `alone`, and another process is replacing it.
    """
    _remove_left_overs_of(target)
    folder, lock = _make(target, alone)
    try:
        yield folder
    finally:
        _settle(folder)
        lock.release()


def complete_replacement(target: Path) -> None:
    """Take the second step of a replacement of `target` that a kill has broken off, before it is read.

    Does nothing while the replacing process is at work, nor where the parent folder cannot be written.
    """
    if not target.exists():
        with suppress(OSError):
            _remove_left_overs_of(target)


def put_in_place(new: Path, target: Path) -> None:
    """Let new content that was written in a workspace take the target's place.

    All of it is on disk before, and the new name is when this returns. A folder takes two steps, because no system call
    of Python's exchanges two folders: the old one is moved into the workspace, the new one out of it. A process
    that is killed in between leaves both in the workspace, and the next one there takes the second step, see
    `remove_left_overs` and `complete_replacement`.
    """
    flush(new)
    if target.is_dir():
        target.rename(new.with_name(_OLD))
    new.replace(target)
    flush_folder(target.parent)


def flush(path: Path) -> None:
    """Wait until a file, or all files of a folder, are on disk."""
    for entry in [path] if path.is_file() else [path, *path.rglob("*")]:
        if entry.is_dir():
            flush_folder(entry)
        else:
            with entry.open("rb") as handle:
                os.fsync(handle.fileno())


def flush_folder(folder: Path) -> None:
    """Wait until the names in a folder are on disk, where the file system can do so."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(descriptor)


def _remove_left_overs_of(target: Path) -> None:
    for path in target.parent.iterdir():
        if path.name.startswith(f".{target.name}.") and is_workspace(path):
            _remove(path)


def _make(target: Path, alone: bool) -> tuple[Path, FileLock]:
    while True:
        name = f".{target.name}{_SUFFIX}" if alone else f".{target.name}.{uuid.uuid4().hex[:8]}{_SUFFIX}"
        folder = target.with_name(name)
        folder.mkdir(exist_ok=alone)
        lock = _take(folder)
        if lock is None and alone and folder.exists():
            raise UsageError(f"{target}: another process is writing to this folder; wait for it or use another")
        if lock is None:
            continue
        if any(entry.name != LOCK for entry in folder.iterdir()):
            _settle(folder)
            lock.release()
            continue
        return folder, lock


def _take(folder: Path) -> FileLock | None:
    """Lock a workspace; None if another process holds it, or has removed it meanwhile."""
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(blocking=False)
    except (Timeout, FileNotFoundError):
        return None
    return lock


def _remove(folder: Path) -> None:
    lock = _take(folder) if folder.is_dir() else None
    if lock is not None:
        _settle(folder)
        lock.release()


def _settle(folder: Path) -> None:
    """Remove a workspace, after taking the second step of a replacement that was broken off between the two."""
    if (folder / _OLD).exists():
        for new in folder.iterdir():
            if new.name not in (_OLD, LOCK) and not folder.with_name(new.name).exists():
                new.rename(folder.with_name(new.name))
    shutil.rmtree(folder, ignore_errors=True)
