"""Progress of long work: bars on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from analog_lora_cli import console
from analog_lora_cli.engine.build import Built
from analog_lora_cli.engine.callbacks import TrainingReport
from analog_lora_cli.report.placement import placement_table

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


def duration(seconds: float) -> str:
    """A span of time for a person: `12 s`, `3 min 5 s`, `2 h 10 min`."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"


class Meter:
    """One piece of work with a known number of steps."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.values = ""
        self._bar: Progress | None = None
        self._task: Any = None
        self._started = self._last_line = time.monotonic()
        self._first = 0

    def begin(self, done: int, total: int) -> None:
        """Start, or continue where `done` of `total` steps are done."""
        self._started = self._last_line = time.monotonic()
        self._first = done
        if console.is_quiet():
            return
        if console.messages().is_terminal:
            self._bar = _bar()
            self._task = self._bar.add_task(self.title, total=total, completed=done, values="")
            self._bar.start()
        elif done:
            console.note(f"{self.title}: continuing at {done}/{total}")

    def update(self, done: int, total: int) -> None:
        """So many steps are done."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total, values=self.values)
        elif not console.is_quiet():
            now = time.monotonic()
            if now - self._last_line >= LINE_EVERY or done == total:
                self._last_line = now
                rate = (done - self._first) / max(now - self._started, 1e-9)
                left = duration((total - done) / rate) if rate > 0 else "?"
                console.note(f"{self.title}: {done}/{total}  {self.values}  left {left}")

    def end(self) -> None:
        """Stop, finished or not."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class TrainingMeter(TrainingReport):
    """Loss, learning rate, samples per second and time left."""

    def __init__(self) -> None:
        self.meter = Meter("training")
        self.total = 0
        self._samples = 0
        self._started = time.monotonic()
        self._logged = ""

    def begin(self, step: int, total: int) -> None:
        self.total = total
        self._started = time.monotonic()
        self.meter.begin(step, total)

    def step(self, step: int, samples: int) -> None:
        self._samples += samples
        rate = self._samples / max(time.monotonic() - self._started, 1e-9)
        self.meter.values = f"{self._logged}{rate:.0f} samples/s"
        self.meter.update(step, self.total)

    def values(self, step: int, values: dict[str, float]) -> None:
        self._logged = f"loss {values['loss']:.3f} lr {values.get('learning_rate', 0.0):.1e} "

    def __exit__(self, *error: object) -> None:
        self.meter.end()


class ConsoleReport:
    """Shows a run on the console."""

    def __init__(self) -> None:
        self.training: TrainingReport = TrainingMeter()
        self._drift: Meter | None = None
        self._metric = ""

    def stage(self, text: str) -> None:
        """Print the beginning of a stage."""
        console.note(f"[dim]{text} ...[/dim]")

    def built(self, built: Built) -> None:
        """Show what became analog."""
        self._metric = built.task.metric
        if built.placement is not None:
            console.note(placement_table(built.placement))

    def measured(self, done: int, total: int, name: str, metrics: dict[str, float]) -> None:
        """Show one finished measurement."""
        if self._drift is None:
            self._drift = Meter("drift")
            self._drift.begin(done - 1, total)
        metric = self._metric or next(iter(metrics))
        self._drift.values = f"{name}: {metric} {metrics[metric]:.2f}"
        self._drift.update(done, total)
        if done == total:
            self.close()

    def close(self) -> None:
        """Take the bars down."""
        if self._drift is not None:
            self._drift.end()
            self._drift = None
