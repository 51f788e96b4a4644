"""Progress of a run on the console: stages, placement, training, measurements. Imports no torch by itself."""

from __future__ import annotations

import time
from functools import cached_property
from typing import TYPE_CHECKING

from analog_lora_cli.config.times import duration
from analog_lora_cli.report.progress.meter import Meter, listed
from analog_lora_cli.runtime import console
from analog_lora_cli.runtime import log as run_log
from analog_lora_cli.runtime.ranks import world_size

if TYPE_CHECKING:
    from analog_lora_cli.evaluation.measurement import Measurement
    from analog_lora_cli.models.build import TrainingModel
    from analog_lora_cli.training.callbacks.progress import TrainingObserver

SHORT = 20.0
"""Seconds of remaining work below which no estimate is printed."""


class ConsoleObserver:
    """Shows a run on the console; as a context it takes the bars down at the end, whatever happens."""

    def __init__(self) -> None:
        self._drift: Meter | None = None
        self._metric = ""
        self._measured: list[float] = []
        """When each measurement of this run was finished, in seconds of the monotonic clock."""

    def __enter__(self) -> ConsoleObserver:
        return self

    def __exit__(self, *error: object) -> None:
        self._close()

    @cached_property
    def training(self) -> TrainingObserver:
        """Shows the optimizer steps."""
        from analog_lora_cli.report.progress.training import TrainingMeter

        return TrainingMeter()

    def stage(self, text: str) -> None:
        """Print the beginning of a stage."""
        run_log.record("stage", text)
        console.stage(f"{text} ...")
        self._measured.clear()

    def built(self, model: TrainingModel) -> None:
        """Show what became analog."""
        from analog_lora_cli.report.tiles.placement import placement_table

        self._metric = model.loaded.task.headline.name
        if model.analog is not None:
            console.note(placement_table(model.analog.placement))

    def expected(self, measurements: int, seconds: float) -> None:
        """Print how long the measurements will take."""
        if seconds > SHORT:
            console.stage(
                f"the {measurements} measurements after the training will take {duration(seconds)} or more, by the "
                "time of the digital model"
            )

    def measured(self, count: int, total: int, measurement: Measurement, metrics: dict[str, float]) -> None:
        """Show one finished measurement, and after two of them how long all will take."""
        name = measurement.label()
        run_log.record("measured", f"{name}: {listed(metrics)}")
        if self._drift is None:
            self._drift = Meter("drift")
            self._drift.begin(count - 1, total)
        self._measured.append(time.monotonic())
        metric = self._metric or next(iter(metrics))
        self._drift.values = f"{name}: {metric} {metrics[metric]:.2f}"
        self._drift.update(count, total)
        if len(self._measured) == 2:
            # The second is the first on tiles, and so costs what most of the others do.
            left = (self._measured[1] - self._measured[0]) * (total - count) / world_size()
            if left > SHORT:
                console.stage(f"about {duration(left)} for the other {total - count} measurements")
        if count == total:
            self._close()

    def _close(self) -> None:
        if self._drift is not None:
            self._drift.end()
            self._drift = None
