"""Progress of a run: stages, training, measurements."""

from __future__ import annotations

import time

from analog_lora_cli.models.build import TrainingModel
from analog_lora_cli.report.progress.meter import Meter
from analog_lora_cli.report.tiles.placement import placement_table
from analog_lora_cli.runtime import console
from analog_lora_cli.runtime import log as run_log
from analog_lora_cli.training.callbacks import TrainingReport


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
        run_log.record("training", f"step {step}: {_listed(values)}")
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
        run_log.record("stage", text)
        console.note(f"[dim]{text} ...[/dim]")

    def built(self, model: TrainingModel) -> None:
        """Show what became analog."""
        self._metric = model.loaded.task.metric
        if model.analog is not None:
            console.note(placement_table(model.analog.placement))

    def measured(self, done: int, total: int, name: str, metrics: dict[str, float]) -> None:
        """Show one finished measurement."""
        run_log.record("measured", f"{name}: {_listed(metrics)}")
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


def _listed(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items())
