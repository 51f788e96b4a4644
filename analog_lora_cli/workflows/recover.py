"""Recovery by an adaptation: the old adapter and the new one, measured on the same chips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from analog_lora_cli.evaluation.drift_json import drift_json
from analog_lora_cli.evaluation.drift_result import DriftResult, paired_gain
from analog_lora_cli.evaluation.statistics import Statistics
from analog_lora_cli.storage.checkpoint import Checkpoint
from analog_lora_cli.workflows.adaptation import Adaptation
from analog_lora_cli.workflows.evaluate import Evaluation, evaluate
from analog_lora_cli.workflows.observer import EvaluationObserver
from analog_lora_cli.workflows.subject import Subject

FORMAT = 1


@dataclass(frozen=True)
class Cost:
    """Cost of an adaptation."""

    samples: int
    steps: int
    seconds: float
    trainable_parameters: int

    def per(self, points: float) -> dict[str, float]:
        """Cost of one recovered point of the metric."""
        return {name: value / points for name, value in vars(self).items()}


@dataclass(frozen=True)
class Recovery:
    """The measurements before and after an adaptation."""

    adaptation: Adaptation
    after: Evaluation
    cost: Cost
    before: Evaluation | None = None
    """The adapter that it started from, on the new hardware; None without `--from`."""
    original: Evaluation | None = None
    """The adapter that it started from, on the hardware that it was trained for; None if that is the same."""

    @property
    def headline_time(self) -> str:
        """Time of the summary: that of the aged chip, else the last one."""
        chip = self.adaptation.chip
        return chip.at if chip is not None else self.adaptation.config.drift.times[-1]

    def results(self) -> dict[str, DriftResult]:
        """Results over the chips of `drift`, by role: `old hardware`, `before`, `after`."""
        parts = {"old hardware": self.original, "before": self.before, "after": self.after}
        return {name: part.drift for name, part in parts.items() if part is not None and part.drift is not None}

    def on_own_chip(self) -> tuple[DriftResult, DriftResult] | None:
        """Before and after on the chip that was trained on."""
        if self.before is None or self.before.also is None or self.after.also is None:
            return None
        return self.before.also, self.after.also

    def recovered(self, label: str) -> Statistics | None:
        """Gain of after over before at a time, paired, see `summarize`; on the own chip if there is one."""
        pair = self.on_own_chip() or _pair(self.results())
        return None if pair is None else paired_gain(*pair, label)

    def elsewhere(self, label: str) -> Statistics | None:
        """Gain of after over before on the chips that were not trained on; None if there are none."""
        pair, chip = _pair(self.results()), self.adaptation.chip
        if pair is None or chip is None:
            return None
        before, after = (result.without_chip(chip.seed) for result in pair)
        return None if not before.chips else paired_gain(before, after, label)

    def lost(self, label: str) -> float | None:
        """Loss of the old adapter at a time: against the old hardware, or on an aged chip against digital."""
        pair = self.on_own_chip() or _pair(self.results())
        if pair is None:
            return None
        metric, results = self.after.headline, self.results()
        now = pair[0].summary(metric.name, label)["mean"]
        if self.adaptation.chip is None and "old hardware" in results:
            return metric.drop(results["old hardware"].summary(metric.name, label)["mean"], now)
        return metric.drop(pair[0].digital[metric.name], now)

    def as_json(self) -> dict[str, Any]:
        """The content of adaptation.json."""
        labels: Sequence[str] = self.adaptation.config.drift.times
        own = self.on_own_chip()
        results = {**self.results(), **({"own chip before": own[0], "own chip after": own[1]} if own else {})}
        return {
            "format": FORMAT,
            "adapter": self.adaptation.name,
            **self.adaptation.request(),
            "metric": self.after.metric,
            "cost": vars(self.cost),
            "results": {name: drift_json(result) for name, result in results.items()},
            "recovered": {label: self.recovered(label) for label in labels},
            "recovered_elsewhere": {label: self.elsewhere(label) for label in labels},
            "lost": {label: self.lost(label) for label in labels},
        }


def measure_recovery(
    adaptation: Adaptation, checkpoint: Checkpoint, observer: EvaluationObserver, with_chips: bool = True
) -> Recovery:
    """Measure the new adapter, and the one that it started from, on the same chips.

    Args:
        adaptation: the finished adaptation.
        checkpoint: with the new adapter in it.
        observer: watches the measurements.
        with_chips: over chips and times; else the new adapter alone, without chips.

    Raises:
        as `evaluate`.
    """
    config, chip = adaptation.config, adaptation.chip
    aged_only: dict[str, object] = {"gaussian": [], "recalibrate": None}
    also = None if chip is None else config.drift.model_copy(update={"chips": 1, "seed": chip.seed, **aged_only})
    subject = Subject(checkpoint, config, adaptation.name)
    folder = subject.own_folder
    after = evaluate(subject, folder, observer, with_chips, also)
    training = checkpoint.entry(adaptation.name)["training"]
    trainable = checkpoint.entry(adaptation.name)["parameters"]["trainable"]
    cost = Cost(training["samples"], training["steps"], training["seconds"], trainable)
    if adaptation.start is None or not with_chips:
        return Recovery(adaptation, after, cost)
    old = Subject(checkpoint, config, adaptation.start, f" in the place of {adaptation.name}")
    before = evaluate(old, folder / "before", observer, also=also)
    start_config = checkpoint.config_of(adaptation.start)
    # With the same samples and metrics, so that the hardware alone makes the difference.
    own_config = config.model_copy(update={"hardware": start_config.hardware})
    own = replace(old, config=own_config, note=" on the hardware that it was trained for")
    # Of another task there is no result on the old hardware to compare with.
    known = start_config.task.name == config.task.name and own.hardware() != old.hardware()
    original = evaluate(own, folder / "old-hardware", observer) if known else None
    return Recovery(adaptation, after, cost, before, original)


def _pair(results: dict[str, DriftResult]) -> tuple[DriftResult, DriftResult] | None:
    return (results["before"], results["after"]) if results.keys() >= {"before", "after"} else None
