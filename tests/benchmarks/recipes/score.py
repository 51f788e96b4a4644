"""The score of a recipe: its mean drop against the digital model over the logarithm of time, with an interval.

    score = 1 / (x_T - x_1)  *  integral of drop(t) dx,     x = ln(1 + t / 25 s),

by the trapezoidal rule over the measured times; `drop` is the digital recipe's mean minus the recipe's, each the mean
over training seeds, a run's the mean over its chips. 25 s is the time at which the drift of phase-change memory begins
(Joshi et al., Nature Communications 11, 2473). Training seeds are the unit, as for `train --seeds`: intervals of drops
and gains are Welch's (95 %), of two recipes whose seeds are not paired, on the same chips and samples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analog_lora_cli.evaluation.training_seeds import welch
from tests.benchmarks.recipes.runs import Outcome

DRIFT_BEGINS = 25.0
"""Seconds after programming."""


@dataclass(frozen=True)
class Estimate:
    """A difference of two recipes with its 95 % interval over training seeds."""

    value: float
    interval: tuple[float, float] | None
    """None: a recipe has one seed, which says nothing about its spread."""

    def __str__(self) -> str:
        if self.interval is None:
            return f"{self.value:.2f}"
        low, high = self.interval
        return f"{self.value:.2f} [{low:.2f}, {high:.2f}]"


def difference(first: Sequence[float], second: Sequence[float]) -> Estimate:
    """The first recipe's mean minus the second's: with the digital one first a drop, with the baseline second a gain.

    Args:
        first: one value for each training seed.
        second: the same of the other recipe.
    """
    value = float(np.mean(first) - np.mean(second))
    if min(len(first), len(second)) < 2:
        return Estimate(value, None)
    low, high = welch(np.asarray(first, dtype=float), np.asarray(second, dtype=float))[0]
    return Estimate(value, (low, high))


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


def share(digital: Sequence[float], baseline: Sequence[float], analog: Sequence[float]) -> float:
    """A recipe's drop divided by the baseline's: 0.5 loses half as much; NaN where the baseline loses nothing.

    Args:
        digital: one value for each training seed of the digital recipe.
        baseline: of the baseline.
        analog: of the recipe.
    """
    dropped = float(np.mean(digital) - np.mean(baseline))
    return float(np.mean(digital) - np.mean(analog)) / dropped if dropped else math.nan
