"""One piece of work and how far it is: a bar on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from analog_lora_cli.config.times import duration
from analog_lora_cli.runtime import console

LINE_EVERY = 10.0
"""Seconds between two plain lines."""


def _bar() -> Progress:
    # Narrow enough for 80 columns with everything in it; the last column is the time left.
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=8),
        MofNCompleteColumn(),
        TextColumn("{task.fields[values]}"),
        TimeRemainingColumn(),
        console=console.messages(),
        transient=True,
        refresh_per_second=4,
    )


def listed(values: dict[str, float]) -> str:
    """Values by name in one line, for the log."""
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items())


class Meter:
    """One piece of work with a known number of steps."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.values = ""
        self._bar: Progress | None = None
        self._task: Any = None
        self._started = self._last_line = time.monotonic()
        self._first = 0

    def begin(self, count: int, total: int) -> None:
        """Start, or continue after `count` of `total` steps."""
        self._started = self._last_line = time.monotonic()
        self._first = count
        if console.is_quiet():
            return
        if console.messages().is_terminal:
            self._bar = _bar()
            self._task = self._bar.add_task(self.title, total=total, completed=count, values="")
            self._bar.start()
        elif count:
            console.note(f"{self.title}: continuing at {count}/{total}")

    def update(self, count: int, total: int) -> None:
        """Show that `count` of `total` steps are finished."""
        if self._bar is not None:
            self._bar.update(self._task, completed=count, total=total, values=self.values)
        elif not console.is_quiet():
            now = time.monotonic()
            if now - self._last_line >= LINE_EVERY or count == total:
                self._last_line = now
                rate = (count - self._first) / max(now - self._started, 1e-9)
                left = duration((total - count) / rate) if rate > 0 else "?"
                console.note(f"{self.title}: {count}/{total}  {self.values}  left {left}")

    def end(self) -> None:
        """Stop, finished or not."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
