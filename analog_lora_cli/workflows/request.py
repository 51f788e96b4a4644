"""Options of a command as one object, which the command line and Python callers share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar


@dataclass(frozen=True, kw_only=True)
class Request:
    """Base of the requests; Python callers may give a path as text, and one value where several are possible."""

    PATHS: ClassVar[tuple[str, ...]] = ()
    """Names of the fields that hold a path."""
    LISTS: ClassVar[tuple[str, ...]] = ()
    """Names of the fields that hold several values."""

    def __post_init__(self) -> None:
        for name in self.PATHS:
            value = getattr(self, name)
            if isinstance(value, str):
                object.__setattr__(self, name, Path(value))
        for name in self.LISTS:
            value = getattr(self, name)
            if isinstance(value, (str, Path)):
                object.__setattr__(self, name, [value])
