"""Observers of a workflow: they are told of its stages, the built model, training steps and measurements."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from analog_lora_cli.config.sections.drift import DriftConfig

if TYPE_CHECKING:
    from analog_lora_cli.evaluation.drift_grid import Progress
    from analog_lora_cli.evaluation.log import Metrics
    from analog_lora_cli.evaluation.measurement import Measurement
    from analog_lora_cli.models.build import TrainingModel
    from analog_lora_cli.training.callbacks.progress import TrainingObserver


class EvaluationObserver(Protocol):
    """Watches an evaluation."""

    def stage(self, text: str) -> None:
        """A stage begins."""

    @property
    def measured(self) -> Progress:
        """Called after each measurement."""


class RunObserver(EvaluationObserver, Protocol):
    """Watches a training and the evaluation after it."""

    @property
    def training(self) -> TrainingObserver:
        """Told of each optimizer step."""

    def built(self, model: TrainingModel) -> None:
        """The model is built, so that its placement is known."""

    def expected(self, measurements: int, seconds: float) -> None:
        """After the training come so many measurements, which take all processes about so many seconds or more."""


class SilentObserver:
    """Observer that ignores everything."""

    @cached_property
    def training(self) -> TrainingObserver:
        """Ignores the steps."""
        from analog_lora_cli.training.callbacks.progress import TrainingObserver

        return TrainingObserver()

    def stage(self, text: str) -> None:
        """Ignore a stage."""

    def built(self, model: TrainingModel) -> None:
        """Ignore the model."""

    def expected(self, measurements: int, seconds: float) -> None:
        """Ignore the estimate."""

    def measured(self, count: int, total: int, measurement: Measurement, metrics: Metrics) -> None:
        """Ignore a measurement."""


def planned_measurements(draws: int, drifts: Sequence[DriftConfig], total: int | None = None, reused: int = 0) -> str:
    """Sentence about the coming measurements: `measuring 146 times: digital, converters only x 5, 10 chips x 7 times`.

    Args:
        draws: measurements with converters only.
        drifts: chips and times; empty: none.
        total: number of measurements, where several of `drifts` share some; None: their sum.
        reused: number of those that need not be repeated.
    """
    parts, count = ["digital", "converters only" + (f" x {draws}" if draws > 1 else "")], 1 + draws
    for drift in drifts:
        reads = f" x {drift.reads} reads" if drift.reads > 1 else ""
        chips = "1 chip" if drift.chips == 1 else f"{drift.chips} chips"
        times = "1 time" if len(drift.times) == 1 else f"{len(drift.times)} times"
        parts.append(f"{chips} x {times}{reads}")
        count += drift.chips * len(drift.times) * drift.reads
        recalibrated = len(drift.recalibrated_times)
        if recalibrated:
            times = "1 time" if recalibrated == 1 else f"{recalibrated} times"
            parts.append(f"{chips} x {times}{reads} recalibrated")
            count += drift.chips * recalibrated * drift.reads
        if drift.gaussian:
            levels = "1 noise level" if len(drift.gaussian) == 1 else f"{len(drift.gaussian)} noise levels"
            parts.append(f"{chips} x {levels}")
            count += drift.chips * len(drift.gaussian)
    count = total or count
    if reused >= count:
        return f"all {count} measurements are there already"
    repeated = f"; {reused} of them are there already" if reused else ""
    return f"measuring {count} times: {', '.join(parts)}{repeated}"
