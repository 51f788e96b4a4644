"""Result of a drift evaluation: measurements, and statistics over chips."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, TypedDict, cast

import numpy as np

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.config.times import seconds
from analog_lora_cli.evaluation.log import Metrics
from analog_lora_cli.evaluation.measurement import Measurement
from analog_lora_cli.tasks.metric import Metric

FORMAT = 2


class Statistics(TypedDict):
    """Statistics over chips, in the unit of the metric."""

    mean: float
    std: float | None
    """Standard deviation of the sample (n - 1); None with one chip."""
    ci95: list[float] | None
    """95 % confidence interval of the mean, Student's t; None with one chip."""
    values: list[float]
    """One value for each chip."""


class Summary(Statistics, total=False):
    """Statistics of a metric at one time."""

    worst: float
    """Value of the worst chip."""
    read_std: float
    """Spread between the readings of one chip, from the mean variance; only with several readings."""


@dataclass(frozen=True)
class DriftResult:
    """All measurements of one adapter."""

    metrics: dict[str, Metric]
    """The task's metrics by name, the headline first."""
    adapter: str
    digital: Metrics
    """The same adapter computed digitally: with the clipped weights, or the original ones for `method: digital`."""
    converters_only: Metrics
    """On tiles with DAC, ADC and output noise, but exact weights: no programming noise, no drift."""
    hardware: HardwareConfig
    chips: list[int]
    times: list[str]
    measurements: dict[Measurement, Metrics]
    """The metrics of each reading of each chip."""
    reference: dict[str, Any] | None
    """The paper's numbers, as in the configuration; None if there are none."""

    @property
    def headline(self) -> Metric:
        """The metric that tables and plots show first."""
        return next(iter(self.metrics.values()))

    @property
    def metric(self) -> str:
        """Name of the headline metric."""
        return self.headline.name

    def readings(self, metric: str, label: str) -> list[list[float]]:
        """The metric of every reading of every chip at a time, chips in the order of `chips`."""
        by_chip: dict[int, list[float]] = {chip: [] for chip in self.chips}
        for measurement, metrics in self.measurements.items():
            if measurement.seconds == seconds(label):
                by_chip[measurement.chip].append(metrics[metric])
        return list(by_chip.values())

    def values(self, metric: str, label: str) -> list[float]:
        """The metric of every chip at a time, the mean over its readings."""
        return [float(np.mean(readings)) for readings in self.readings(metric, label)]

    def summary(self, metric: str, label: str) -> Summary:
        """Statistics over chips of a metric at a time."""
        readings = self.readings(metric, label)
        values = self.values(metric, label)
        summary = cast(Summary, {**summarize(values), "worst": self.metrics[metric].worst(values)})
        if len(readings[0]) > 1:
            summary["read_std"] = float(np.sqrt(np.mean([np.var(chip, ddof=1) for chip in readings])))
        return summary

    def without_chip(self, seed: int) -> DriftResult:
        """The same result without one of its chips."""
        return replace(
            self,
            chips=[chip for chip in self.chips if chip != seed],
            measurements={key: metrics for key, metrics in self.measurements.items() if key.chip != seed},
        )

    def as_json(self) -> dict[str, object]:
        """The content of drift.json."""
        return {
            "format": FORMAT,
            "metric": self.metric,
            "higher_is_better": self.headline.higher_is_better,
            "unit": self.headline.unit,
            "adapter": self.adapter,
            "digital": self.digital,
            "converters_only": self.converters_only,
            "hardware": self.hardware.model_dump(mode="json"),
            "chips": self.chips,
            "times": [
                {
                    "label": label,
                    "seconds": seconds(label),
                    "metrics": {name: self.summary(name, label) for name in self.digital},
                }
                for label in self.times
            ],
            "reference": self.reference,
        }


def summarize(values: list[float]) -> Statistics:
    """Statistics over chips.

    Args:
        values: one value for each chip.
    """
    mean = float(np.mean(values))
    if len(values) < 2:
        return Statistics(mean=mean, std=None, ci95=None, values=values)
    from scipy.stats import t

    std = float(np.std(values, ddof=1))
    half = float(t.ppf(0.975, len(values) - 1)) * std / math.sqrt(len(values))
    return Statistics(mean=mean, std=std, ci95=[mean - half, mean + half], values=values)


def paired_gain(before: DriftResult, after: DriftResult, label: str) -> Statistics:
    """Improvement of the second result over the first at a time, chip by chip, both measured on the same chips.

    Returns:
        statistics over chips; the interval is that of the mean gain.
    """
    pairs = zip(before.values(before.metric, label), after.values(after.metric, label), strict=True)
    return summarize([before.headline.gain(a, b) for a, b in pairs])


def paired_difference(first: DriftResult, second: DriftResult, label: str) -> Statistics:
    """The second result minus the first at a time, chip by chip, as both were measured on the same chips.

    Returns:
        statistics over chips; the interval is that of the mean difference.
    """
    pairs = zip(first.values(first.metric, label), second.values(second.metric, label), strict=True)
    return summarize([b - a for a, b in pairs])
