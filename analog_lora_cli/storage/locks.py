"""Locks on folders, so that two processes never write to one; a lock ends with its process, however that ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from analog_lora_cli.errors import BusyError, UsageError
from analog_lora_cli.storage.layout import LOCK
from analog_lora_cli.storage.workspace import remove_left_overs

PATIENCE = 0.5
"""Seconds to wait for a lock: `check_free` takes one for an instant, which must not look like a process at work."""


def check_free(folder: Path) -> None:
    """Check that no other process has locked a folder with `locked`; writes nothing.

    Raises:
        UsageError: another process has, or the lock cannot be read.
    """
    if (folder / LOCK).exists():
        with _lock(folder, PATIENCE):
            pass


@contextmanager
def locked(folder: Path, wait: bool = False) -> Iterator[None]:
    """Lock a folder for this process, and remove what killed processes have left half-written in it.

    Args:
        folder: created if it does not exist.
        wait: wait until the lock is free, for locks that last moments only.

    Raises:
        UsageError: another process has locked it and `wait` is false, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written: {error.strerror}") from None
    with _lock(folder, -1 if wait else PATIENCE):
        remove_left_overs(folder)
        yield


@contextmanager
def _lock(folder: Path, timeout: float) -> Iterator[None]:
    try:
        lock = FileLock(folder / LOCK).acquire(timeout=timeout, poll_interval=0.05)
    except Timeout:
        raise BusyError(f"{folder}: another process is writing to this folder; wait for it or use another") from None
    except (OSError, NotImplementedError) as error:  # The latter where a file system has no locks.
        reason = error.strerror if isinstance(error, OSError) else "its file system has no locks"
        raise UsageError(f"{folder}: cannot be written: {reason}; use another folder") from None
    with lock:
        yield
