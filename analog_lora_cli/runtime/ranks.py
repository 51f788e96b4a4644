"""Place of this process among those that a launcher has started, as it says in the environment."""

from __future__ import annotations

import os


def world_size() -> int:
    """Number of processes."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Number of this process, from 0."""
    return int(os.environ.get("RANK", "0"))


def is_main() -> bool:
    """Whether this is the process that prints and writes."""
    return rank() == 0
