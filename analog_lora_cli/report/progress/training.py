"""Progress of a training."""

from __future__ import annotations

import time

from analog_lora_cli.report.progress.meter import Meter, listed
from analog_lora_cli.runtime import log as run_log
from analog_lora_cli.training.callbacks.progress import TrainingObserver

SHOWN = {
    "loss": ("loss", ".3f"),
    "reward": ("reward", ".2f"),
    "completions/mean_length": ("length", ".0f"),
    "kl": ("kl", ".2g"),
    "learning_rate": ("lr", ".1e"),
}
"""Logged values that are shown, where there are any, each with its label and format."""


class TrainingMeter(TrainingObserver):
    """Loss, learning rate, samples per second and time left; with completions their reward, length and divergence."""

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
        run_log.record("training", f"step {step}: {listed(values)}")
        known = ((*SHOWN[name], values[name]) for name in SHOWN if values.get(name) is not None)
        self._logged = "".join(f"{label} {value:{form}} " for label, form, value in known)

    def __exit__(self, *error: object) -> None:
        self.meter.end()
