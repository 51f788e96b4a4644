"""Folders beside a target in which its new content is made, and the step that puts it in the target's place."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from analog_lora_cli.errors import UsageError

_SUFFIX = ".part"
_OLD = ".old"
"""The replaced folder, inside the workspace, where the system cannot exchange two folders in one step."""
_HOLD = ".lock"
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def is_workspace(path: Path) -> bool:
    """Whether a path is that of a workspace: one at work, or what a killed process has left."""
    return path.name.startswith(".") and path.name.endswith(_SUFFIX)


def remove_left_overs(folder: Path) -> None:
    """Remove, anywhere in a folder, the workspaces of killed processes; those at work are left alone."""
    for place, names, _ in os.walk(folder):
        for path in [Path(place, name) for name in names]:
            if is_workspace(path):
                names.remove(path.name)
                _remove(path)


@contextmanager
def workspace(target: Path, alone: bool = False) -> Iterator[Path]:
    """A folder beside a target, for this process; what killed processes have left for this target goes first.

    The folder is held by a lock, so that one that nobody holds is known to be left over.

    Args:
        target: what will be replaced.
        alone: refuse to begin while another process is making the same target.

    Raises:
        UsageError: `alone`, and another process is at it.
    """
    for path in target.parent.iterdir():
        if path.name.startswith(f".{target.name}.") and is_workspace(path):
            _remove(path)
    folder, hold = _make(target, alone)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        hold.close()


def put_in_place(made: Path, target: Path) -> None:
    """Let what was made in a workspace take the target's place; a replaced folder stays behind in the workspace.

    All of it is on disk before, and the new name is when this returns.
    """
    flush(made)
    if not target.is_dir():
        os.replace(made, target)
    elif not _exchange(made, target):
        target.rename(made.with_name(_OLD))
        made.rename(target)
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


def _make(target: Path, alone: bool) -> tuple[Path, IO[str]]:
    while True:
        name = f".{target.name}{_SUFFIX}" if alone else f".{target.name}.{uuid.uuid4().hex[:8]}{_SUFFIX}"
        folder = target.with_name(name)
        folder.mkdir(exist_ok=alone)
        hold = _take(folder)
        if hold is None and alone and folder.exists():
            raise UsageError(f"{target}: another process is writing to this folder; wait for it or use another")
        if hold is None:
            continue
        if any(entry.name != _HOLD for entry in folder.iterdir()):
            _settle(folder)
            hold.close()
            continue
        return folder, hold


def _take(folder: Path) -> IO[str] | None:
    """Hold a workspace; None if another process does, or has removed it meanwhile."""
    try:
        handle = (folder / _HOLD).open("w")
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(handle.fileno()).st_nlink:
            return handle
    except BlockingIOError:
        pass
    handle.close()
    return None


def _remove(folder: Path) -> None:
    hold = _take(folder) if folder.is_dir() else None
    if hold is not None:
        with hold:
            _settle(folder)


def _settle(folder: Path) -> None:
    """Finish what a killed process was at: only a folder that is whole is ever exchanged for the old one."""
    if (folder / _OLD).exists():
        for made in folder.iterdir():
            if made.name not in (_OLD, _HOLD) and not folder.with_name(made.name).exists():
                made.rename(folder.with_name(made.name))
    shutil.rmtree(folder, ignore_errors=True)


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two folders in one step; False where the system or the file system cannot."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    names = os.fsencode(first), os.fsencode(second)
    if renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        return False
    raise OSError(number, os.strerror(number), str(second))
