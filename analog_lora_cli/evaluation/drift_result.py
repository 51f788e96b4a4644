"""Result of a drift evaluation: measurements, and statistics over chips."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.config.times import seconds
from analog_lora_cli.evaluation.log import Metrics
from analog_lora_cli.evaluation.measurement import Measurement
from analog_lora_cli.tasks.metric import Metric

FORMAT = 2


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
        at: dict[int, list[float]] = {chip: [] for chip in self.chips}
        for measurement, metrics in self.measurements.items():
            if measurement.seconds == seconds(label):
                at[measurement.chip].append(metrics[metric])
        return list(at.values())

    def values(self, metric: str, label: str) -> list[float]:
        """The metric of every chip at a time, the mean over its readings."""
        return [float(np.mean(readings)) for readings in self.readings(metric, label)]

    def summary(self, metric: str, label: str) -> dict[str, Any]:
        """Statistics over chips: those of `summarize`, `worst` (the worst chip) and `read_std` (the spread between
        readings of one chip, from the mean variance)."""
        readings = self.readings(metric, label)
        values = self.values(metric, label)
        summary = {**summarize(values), "worst": self.metrics[metric].worst(values)}
        if len(readings[0]) > 1:
            summary["read_std"] = float(np.sqrt(np.mean([np.var(values, ddof=1) for values in readings])))
        return summary

    def without_chip(self, seed: int) -> DriftResult:
        """The same result without one of its chips."""
        return replace(
            self,
            chips=[chip for chip in self.chips if chip != seed],
            measurements={one: metrics for one, metrics in self.measurements.items() if one.chip != seed},
        )

    def as_json(self) -> dict[str, Any]:
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


def summarize(values: list[float]) -> dict[str, Any]:
    """Statistics over chips.

    The standard deviation is the sample's (n - 1); the confidence interval is Student's t on the mean. With one chip
    neither is known, and both are null.
    """
    mean = float(np.mean(values))
    summary: dict[str, Any] = {"mean": mean, "std": None, "ci95": None, "values": values}
    if len(values) > 1:
        from scipy.stats import t

        std = float(np.std(values, ddof=1))
        half = float(t.ppf(0.975, len(values) - 1)) * std / math.sqrt(len(values))
        summary |= {"std": std, "ci95": [mean - half, mean + half]}
    return summary


def paired_gain(before: DriftResult, after: DriftResult, label: str) -> dict[str, Any]:
    """Improvement of the second result over the first at a time, chip by chip, both measured on the same chips.

    Returns:
        statistics over chips, see `summarize`: the interval is that of the mean gain.
    """
    pairs = zip(before.values(before.metric, label), after.values(after.metric, label), strict=True)
    return summarize([before.headline.gain(a, b) for a, b in pairs])


def paired_difference(first: DriftResult, second: DriftResult, label: str) -> dict[str, Any]:
    """The second result minus the first at a time, chip by chip, as both were measured on the same chips.

    Returns:
        statistics over chips, see `summarize`: the interval is that of the mean difference.
    """
    pairs = zip(first.values(first.metric, label), second.values(second.metric, label), strict=True)
    return summarize([b - a for a, b in pairs])
