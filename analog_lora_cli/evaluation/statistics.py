"""Statistics of a metric over chips and samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypedDict

import numpy as np

from analog_lora_cli.evaluation.bootstrap import CHIPS, LEVEL, SAMPLES, Array, Deviations, correction, over_members


class Components(TypedDict):
    """Standard deviations of a metric by their cause, in its unit; None: unknown."""

    chip: float | None
    """Between chips; needs two. Without the share of their readings, if those are known apart."""
    read: float | None
    """Between readings of one chip: read noise and output noise; needs two readings."""
    samples: float | None
    """Of the mean over the chips, from the choice of the evaluation samples."""


class Statistics(TypedDict):
    """Statistics over chips and samples, in the unit of the metric."""

    mean: float
    std: float | None
    """Standard deviation of the chips (n - 1); None with one chip."""
    ci95: list[float] | None
    """95 % confidence interval of the mean over chips and samples, see `bootstrap`; None with one chip, or where the
    metric is no function of scores of samples."""
    ci95_chips: list[float] | None
    """95 % confidence interval of the mean over chips alone, for these samples, Student's t; None with one chip."""
    values: list[float]
    """One value for each chip."""


def interval_of(statistics: Statistics) -> list[float] | None:
    """The 95 % interval to show: over chips and samples, or over chips where the samples are unknown."""
    return statistics["ci95"] or statistics["ci95_chips"]


class Summary(Statistics):
    """Statistics of a metric at one time."""

    ci95_all_times: list[float] | None
    """95 % confidence interval that holds at all measured times together; None where `ci95` is."""
    components: Components
    worst: float
    """Value of the worst chip."""


@dataclass(frozen=True)
class MetricOverChips:
    """A metric of some chips, and what it would be on other samples."""

    readings: Sequence[Sequence[float]]
    """The metric of each reading of each chip."""
    over_samples: Array | None
    """(replicates, chips) on resampled samples; None: unknown."""
    clusters: int = 0
    """Number of clusters of samples that were resampled."""
    way: str = CHIPS
    """Name of the rows' draws in the bootstrap; differs where these are not chips."""

    @cached_property
    def values(self) -> Array:
        """(chips,) the mean over each chip's readings."""
        return np.array([np.mean(chip) for chip in self.readings])

    @property
    def mean(self) -> float:
        """Mean over the chips."""
        return float(self.values.mean())

    def __sub__(self, other: MetricOverChips) -> MetricOverChips:
        """The difference chip by chip, of two measurements on the same chips and samples."""
        differences = [[value] for value in self.values - other.values]
        if self.over_samples is None or other.over_samples is None or self.clusters != other.clusters:
            return MetricOverChips(differences, None, way=self.way)
        return MetricOverChips(differences, self.over_samples - other.over_samples, self.clusters, self.way)

    @classmethod
    def average(cls, rows: Sequence[MetricOverChips]) -> MetricOverChips:
        """The average chip by chip, of measurements on the same chips and samples."""
        values = np.mean([row.values for row in rows], axis=0)
        known = [row.over_samples for row in rows if row.over_samples is not None]
        over_samples = np.mean(known, axis=0) if len(known) == len(rows) else None
        return cls([[value] for value in values], over_samples, rows[0].clusters, rows[0].way)

    @cached_property
    def deviations(self) -> Deviations | None:
        """Deviations of the mean with other chips and samples; None if either is unknown."""
        if len(self.values) < 2 or self.over_samples is None or self.clusters < 2:
            return None
        return Deviations({self.way: over_members(self.way, self.values), SAMPLES: self.deviations_over_samples})

    @property
    def deviations_over_samples(self) -> Array:
        """Deviations of the mean with other samples, (replicates,)."""
        assert self.over_samples is not None
        means: Array = self.over_samples.mean(axis=1)
        return correction(self.clusters) * (means - self.mean)

    def interval_over_samples(self) -> list[float] | None:
        """95 % interval of the mean over samples, for these chips; None: unknown."""
        if self.over_samples is None or self.clusters < 2:
            return None
        return Deviations({SAMPLES: self.deviations_over_samples}).interval(self.mean)

    def statistics(self) -> Statistics:
        """Mean, spread and intervals."""
        std, over_chips = student(self.values)
        # Two or three chips give the bootstrap few values: never narrower than Student's interval.
        wide = None if self.deviations is None else wider(self.deviations.interval(self.mean), over_chips)
        return Statistics(mean=self.mean, std=std, ci95=wide, ci95_chips=over_chips, values=self.values.tolist())

    def components(self) -> Components:
        """Standard deviations by cause: chips, readings, samples."""
        repeated = [chip for chip in self.readings if len(chip) > 1]
        read = float(np.mean([np.var(chip, ddof=1) for chip in repeated])) if repeated else None
        chip = None
        if len(self.values) > 1:
            share = 0.0 if read is None else read * float(np.mean([1 / len(chip) for chip in self.readings]))
            chip = math.sqrt(max(0.0, float(self.values.var(ddof=1)) - share))
        spread = None
        if self.over_samples is not None and self.clusters > 1:
            scale = math.sqrt(self.clusters / (self.clusters - 1))
            spread = scale * float(self.over_samples.mean(axis=1).std())
        return Components(chip=chip, read=None if read is None else math.sqrt(read), samples=spread)


def student(values: Array) -> tuple[float | None, list[float] | None]:
    """Standard deviation (n - 1) of some values, and Student's 95 % interval of their mean; None with one value."""
    count = len(values)
    if count < 2:
        return None, None
    from scipy.stats import t

    mean, std = float(values.mean()), float(values.std(ddof=1))
    half = float(t.ppf((1 + LEVEL) / 2, count - 1)) * std / math.sqrt(count)
    return std, [mean - half, mean + half]


def wider(*intervals: list[float] | None) -> list[float] | None:
    """The widest of the known intervals."""
    known = [interval for interval in intervals if interval is not None]
    return max(known, key=lambda interval: interval[1] - interval[0], default=None)
