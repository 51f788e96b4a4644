"""File systems of a test's own: small ones, and such as cannot be written."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def mount(*options: str) -> None:
    """Call `mount`; where that is not allowed the test is skipped."""
    done = subprocess.run(["mount", *options], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"cannot mount a file system here: {done.stderr.strip()}")


@contextmanager
def disk(folder: Path, size: str) -> Iterator[None]:
    """A file system in memory at a folder, of a size such as `900k`."""
    folder.mkdir()
    mount("-t", "tmpfs", "-o", f"size={size}", "none", str(folder))
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    """Change a disk: `size=50m`, `ro`."""
    mount("-o", f"remount,{options}", str(folder))
