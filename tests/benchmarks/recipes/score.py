"""The score of a recipe: its mean drop against the digital model over the logarithm of time, with an interval.

    score = 1 / (x_T - x_1)  *  integral of drop(t) dx,     x = ln(1 + t / 25 s),

by the trapezoidal rule over the measured times; `drop` is the digital recipe's mean minus the recipe's, each the mean
over training seeds, a run's the mean over its chips. 25 s is the time at which the drift of phase-change memory begins
(Joshi et al., Nature Communications 11, 2473). Training seeds are the unit: the intervals resample the seeds of both
recipes (percentile bootstrap, 95 %); all runs are measured on the same chips and samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.recipes.runs import Outcome

DRIFT_BEGINS = 25.0
"""Seconds after programming."""
RESAMPLES = 10_000

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval over training seeds."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def over_log_time(by_time: Mapping[float, float]) -> float:
    """Mean of values over ln(1 + t / 25 s), by the trapezoidal rule; of a single time, its value."""
    times = sorted(by_time)
    if len(times) == 1:
        return by_time[times[0]]
    x = [math.log1p(time / DRIFT_BEGINS) for time in times]
    return float(np.trapezoid([by_time[time] for time in times], x)) / (x[-1] - x[0])


def level(outcome: Outcome, *, recalibrated: bool = False) -> float:
    """The metric of one run: mean over chips, then over log time."""
    chips = outcome.recalibrated if recalibrated else outcome.by_time
    return over_log_time({time: float(np.mean(values)) for time, values in chips.items()})


def last(outcome: Outcome, *, recalibrated: bool = False) -> float:
    """The metric of one run at the last time: mean over chips."""
    chips = outcome.recalibrated if recalibrated else outcome.by_time
    return float(np.mean(chips[max(chips)]))


def worst(outcomes: Sequence[Outcome]) -> float:
    """The worst chip at any time, of all seeds."""
    return min(min(values) for outcome in outcomes for values in outcome.by_time.values())


def drop(digital: Sequence[float], analog: Sequence[float]) -> Estimate:
    """What a recipe loses against the digital one.

    Args:
        digital: one value for each training seed of the digital recipe.
        analog: one for each seed of the recipe.
    """
    return _estimate(lambda means: means[0] - means[1], digital, analog)


def share(digital: Sequence[float], baseline: Sequence[float], analog: Sequence[float]) -> Estimate:
    """A recipe's drop divided by the baseline's: 0.5 loses half as much."""
    return _estimate(lambda means: (means[0] - means[2]) / (means[0] - means[1]), digital, baseline, analog)


def _estimate(statistic: Callable[[list[Values]], Values], *groups: Sequence[float]) -> Estimate:
    generator = np.random.default_rng(0)
    values = [np.asarray(group, dtype=float) for group in groups]
    resampled = [one[generator.integers(0, len(one), (RESAMPLES, len(one)))].mean(axis=1) for one in values]
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = np.nanpercentile(statistic(resampled), [2.5, 97.5])
        value = statistic([np.asarray(one.mean()) for one in values])
    return Estimate(float(value), float(low), float(high))
