"""Statistics with the training seed as the unit: what a method gives, rather than one adapter.

Two methods are compared by Welch's t-test on one value for each training seed, the mean over the same chips and
samples. A mixed model with crossed effects of seed, chip and sample would give the same estimate, because every seed is
measured on every chip and sample; its variances need many more seeds than anyone trains. Welch's test does not assume
that both methods spread alike: a training with noise often spreads more. Seeds are not paired: the same seed means
another trajectory in another method.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import TypedDict

import numpy as np

from analog_lora_cli.config.recalibration import Recalibration
from analog_lora_cli.evaluation.bootstrap import Array, Deviations, over_members, simultaneous
from analog_lora_cli.evaluation.drift_result import DriftResult
from analog_lora_cli.evaluation.log import Metrics
from analog_lora_cli.evaluation.measurement import CalibrationCost
from analog_lora_cli.evaluation.statistics import MetricOverChips, student, wider
from analog_lora_cli.tasks.metric import Metric


class SeedComponents(TypedDict):
    """Standard deviations of a metric by their cause, in its unit; None: unknown."""

    training_seed: float | None
    """Between adapters of different training seeds, on the same chips and samples."""
    chip: float | None
    read: float | None
    samples: float | None


class SeedStatistics(TypedDict):
    """Statistics over training seeds, in the unit of the metric."""

    mean: float
    std: float | None
    """Standard deviation of the training seeds (n - 1); None with one."""
    ci95: list[float] | None
    """95 % confidence interval of the mean over training seeds, chips and samples; None where one is unknown."""
    ci95_seeds: list[float] | None
    """95 % confidence interval over training seeds alone, for these chips and samples, Student's t."""
    ci95_all_times: list[float] | None
    """As `ci95`, for all times together."""
    components: SeedComponents
    worst: float
    """Value of the worst training seed."""
    values: list[float]
    """One value for each training seed, the mean over its chips."""


class SeedDifference(TypedDict):
    """The difference of two methods at one time, second minus first."""

    mean: float
    ci95: list[float] | None
    """95 % confidence interval over the training seeds of both, chips and samples."""
    ci95_all_times: list[float] | None
    """As `ci95`, for all times together."""
    ci95_seeds: list[float]
    """95 % confidence interval over training seeds alone: Welch's, for these chips and samples."""
    p: float
    """Two-sided p value of Welch's t-test."""
    df: float
    """Its degrees of freedom."""


SEEDS = "training seeds"


@dataclass(frozen=True)
class SeedGroup:
    """One method in several trainings that differ in their seed, measured on the same chips and samples."""

    name: str
    results: Sequence[DriftResult]

    @property
    def first(self) -> DriftResult:
        """Result of the first training; metrics, chips and times are those of all."""
        return self.results[0]

    @property
    def warnings(self) -> list[str]:
        """The kinds of warnings of the results, each with how many trainings it is about."""
        kinds = Counter(warning.partition(":")[0] for result in self.results for warning in result.warnings)
        return [f"{self.name}: {kind}: {count} of {len(self.results)} trainings" for kind, count in kinds.items()]

    @property
    def times(self) -> list[str]:
        """Labels of the times."""
        return self.first.times

    @property
    def levels(self) -> list[str]:
        """Labels of the sizes of static Gaussian weight noise."""
        return self.first.levels

    @property
    def recalibrated(self) -> list[str]:
        """Labels of the times after a recalibration."""
        return self.first.recalibrated

    @property
    def recalibration(self) -> Recalibration | None:
        """Settings of the recalibrations; None without any."""
        return self.first.recalibration

    @property
    def calibrations(self) -> list[CalibrationCost]:
        """Costs of the recalibrations of all trainings."""
        return [cost for result in self.results for cost in result.calibrations]

    @property
    def conditions(self) -> list[str]:
        """Labels of times, recalibrated or not, and noise, see `DriftResult.conditions`."""
        return self.first.conditions

    @property
    def condition_groups(self) -> tuple[list[str], ...]:
        """The conditions by their kind, see `DriftResult.condition_groups`."""
        return self.first.condition_groups

    @property
    def digital(self) -> Metrics:
        """Digital metrics, means over the trainings."""
        return {name: float(np.mean(self.values(name, None))) for name in self.first.digital}

    @property
    def training_seeds(self) -> list[int]:
        """The seeds of the trainings."""
        return [seed for result in self.results for seed in result.training_seeds]

    @property
    def metrics(self) -> dict[str, Metric]:
        """The task's metrics by name, the headline first."""
        return self.first.metrics

    @property
    def converters_only(self) -> Metrics:
        """Metrics with converters only, means over the trainings."""
        return {name: float(np.mean([one.converters_only[name] for one in self.results])) for name in self.digital}

    def values(self, metric: str, label: str | None) -> list[float]:
        """A metric of each training at a time, the mean over its chips; None: digitally."""
        if label is None:
            return [result.digital[metric] for result in self.results]
        return [result.summary(metric, label)["mean"] for result in self.results]

    def summary(self, metric: str, label: str) -> SeedStatistics:
        """Statistics of a metric at a time."""
        return self._summaries[metric, label]

    def interval(self, metric: str, label: str) -> list[float] | None:
        """95 % interval of the mean at a time: over all, or over training seeds where the rest is unknown."""
        summary = self.summary(metric, label)
        return summary["ci95"] or summary["ci95_seeds"]

    def deviations(self, metric: str, labels: Sequence[str], way: str = SEEDS) -> list[Deviations] | None:
        """Deviations of the mean at each of some times, with other training seeds, chips and samples; None: unknown.

        Args:
            metric: name of the metric.
            labels: labels of times, or of noise.
            way: name of the draws of training seeds; those of two methods must differ.
        """
        found = []
        for label in labels:
            average = MetricOverChips.average(self._rows(metric, label)).deviations
            if average is None or len(self.results) < 2:
                return None
            over_seeds = over_members(way, np.array(self.values(metric, label)))
            found.append(Deviations({way: over_seeds, **average.ways}))
        return found

    def _rows(self, metric: str, label: str) -> list[MetricOverChips]:
        """The metric of each training over chips at a time."""
        return [result.over_chips(metric, label) for result in self.results]

    @cached_property
    def _summaries(self) -> dict[tuple[str, str], SeedStatistics]:
        summaries = {}
        for metric, labels in product(self.first.digital, self.condition_groups):
            values = [np.array(self.values(metric, label)) for label in labels]
            means, deviations = [float(one.mean()) for one in values], self.deviations(metric, labels)
            together = simultaneous(means, deviations) if deviations else None
            for index, label in enumerate(labels):
                std, over_seeds = student(values[index])
                wide = None if deviations is None else wider(deviations[index].interval(means[index]), over_seeds)
                summaries[metric, label] = SeedStatistics(
                    mean=means[index],
                    std=std,
                    ci95=wide,
                    ci95_seeds=over_seeds,
                    ci95_all_times=None if together is None else wider(together[index], wide),
                    components=_components(self._rows(metric, label), std),
                    worst=self.first.metrics[metric].worst(values[index].tolist()),
                    values=values[index].tolist(),
                )
        return summaries


def seed_differences(first: SeedGroup, second: SeedGroup) -> dict[str, SeedDifference]:
    """The second method minus the first at each time and noise; both with at least two training seeds."""
    return {
        label: difference
        for labels in first.condition_groups
        for label, difference in _differences(first, second, labels).items()
    }


def _differences(first: SeedGroup, second: SeedGroup, times: Sequence[str]) -> dict[str, SeedDifference]:
    metric = first.first.metric
    pairs = [(np.array(second.values(metric, time)), np.array(first.values(metric, time))) for time in times]
    means = [float(b.mean() - a.mean()) for b, a in pairs]
    of_first = first.deviations(metric, times)
    of_second = second.deviations(metric, times, f"{SEEDS} of the second")
    deviations = None
    if of_first is not None and of_second is not None:
        deviations = [b - a for a, b in zip(of_first, of_second, strict=True)]
    together = simultaneous(means, deviations) if deviations else None
    differences = {}
    for index, (label, mean) in enumerate(zip(times, means, strict=True)):
        interval, p, df = welch(*pairs[index])
        wide = None if deviations is None else wider(deviations[index].interval(mean), interval)
        differences[label] = SeedDifference(
            mean=mean,
            ci95=wide,
            ci95_all_times=None if together is None else wider(together[index], wide),
            ci95_seeds=interval,
            p=p,
            df=df,
        )
    return differences


def welch(second: Array, first: Array) -> tuple[list[float], float, float]:
    """95 % interval, p value and degrees of freedom of the difference of two means, each of two values or more.

    Args:
        second: one value for each training seed.
        first: those that their mean is subtracted of.
    """
    from scipy.stats import ttest_ind

    difference = float(second.mean() - first.mean())
    rounding = 1e-12 * max(np.abs(second).max(), np.abs(first).max())
    if max(np.ptp(second), np.ptp(first)) <= rounding:  # No spread: the difference is what it is.
        return [difference, difference], float(abs(difference) <= rounding), float(len(first) + len(second) - 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # Equal values on one side are no loss of precision.
        test = ttest_ind(second, first, equal_var=False)
    low, high = test.confidence_interval(0.95)
    return [float(low), float(high)], float(test.pvalue), float(test.df)


def _components(rows: Sequence[MetricOverChips], std: float | None) -> SeedComponents:
    parts = [row.components() for row in rows]

    def typical(name: str) -> float | None:
        known = [value for part in parts if (value := part[name]) is not None]  # type: ignore[literal-required]
        return float(np.sqrt(np.mean(np.square(known)))) if known else None

    read, chips = typical("read"), len(rows[0].values)
    seed = None
    if std is not None:
        # Chips are the same for all trainings, readings are not.
        share = 0.0 if read is None else read**2 * float(np.mean([1 / len(chip) for chip in rows[0].readings])) / chips
        seed = math.sqrt(max(0.0, std**2 - share))
    samples = MetricOverChips.average(rows).components()["samples"]
    return SeedComponents(training_seed=seed, chip=typical("chip"), read=read, samples=samples)
