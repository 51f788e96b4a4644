"""Two-way bootstrap: how far a mean over chips and samples would move with other chips and other samples.

Let theta be a metric, averaged over C chips and measured on G clusters of samples. Each way is resampled by itself
(drawn with replacement, as often as there are members), and the deviations are added:

    theta* - theta = a_C (theta(chips*) - theta) + a_G (theta(samples*) - theta)
    a_n = t(0.975, n - 1) / z(0.975) * sqrt(n / (n - 1))

so that the variance is that of the crossed random effects, chip / C + samples / G, with the interaction counted twice:
of order 1 / (C G), and on the safe side. (Resampling both ways at once counts it three times: Owen, "The pigeonhole
bootstrap", 2007.) The factor a_n corrects for few members: a plain bootstrap of n members has the variance of n, not
n - 1, and not the tails of Student's t. The same draws are used for every time and metric, so that deviations of
differences, and of several times together, are those of the same other chips and samples.

Axes of arrays by suffix: B replicates, C chips, G clusters, N samples, K moments, R readings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from analog_lora_cli.hardware.seeds import derive_seed
from analog_lora_cli.tasks.sample_statistics import SampleStatistic
from analog_lora_cli.tasks.scores import CLUSTER, Columns

Array = npt.NDArray[np.float64]
REPLICATES = 2000
MOST_CLUSTERS = 2000
"""Clusters that are resampled; more are joined at random, which changes no expected variance but saves memory."""
LEVEL = 0.95
CHIPS, SAMPLES = "chips", "samples"


@lru_cache(maxsize=32)
def draws(way: str, count: int) -> Array:
    """Shares of each member in each replicate, (REPLICATES, count), rows that sum to 1.

    Args:
        way: what is resampled; each has draws of its own.
        count: number of its members.
    """
    generator = np.random.Generator(np.random.PCG64(derive_seed("bootstrap", way, count)))
    drawn = generator.integers(count, size=(REPLICATES, count)) + count * np.arange(REPLICATES)[:, None]
    return np.bincount(drawn.ravel(), minlength=REPLICATES * count).reshape(REPLICATES, count) / count


def correction(count: int) -> float:
    """The factor a_n for n members; 0 for one, whose spread is unknown."""
    if count < 2:
        return 0.0
    from scipy.stats import norm, t

    tail = (1 + LEVEL) / 2
    return float(t.ppf(tail, count - 1) / norm.ppf(tail)) * math.sqrt(count / (count - 1))


@dataclass(frozen=True)
class Clusters:
    """The clusters of an evaluation set, as they are resampled."""

    of_sample: npt.NDArray[np.intp]
    """(N,) number of each sample's cluster."""
    count: int
    """Number of the clusters that are resampled."""
    members: int
    """Number of the clusters before any were joined."""

    @classmethod
    def of(cls, truth: Columns, samples: int) -> Clusters:
        """The clusters that the column `cluster` says; without it each sample is one.

        Args:
            truth: columns of the evaluation set.
            samples: their length.
        """
        names = truth.get(CLUSTER, np.arange(samples))
        numbers = np.unique(names, return_inverse=True)[1]
        count = members = int(numbers.max()) + 1
        if count > MOST_CLUSTERS:
            order = np.random.Generator(np.random.PCG64(derive_seed("clusters", count))).permutation(count)
            numbers, count = order[numbers] % MOST_CLUSTERS, MOST_CLUSTERS
        return cls(numbers, count, members)

    def resampled(self, statistic: SampleStatistic, readings: Sequence[Columns]) -> Array:
        """The metric of each reading on resampled samples, (REPLICATES, R).

        Args:
            statistic: the metric.
            readings: columns of each reading, with those that all share.
        """
        sizes_G = np.bincount(self.of_sample, minlength=self.count).astype(np.float64)
        share_BG = draws(SAMPLES, self.count)
        sizes_B1 = (share_BG @ sizes_G)[:, None]
        # One reading after the other: with a thousand classes, all moments together would take gigabytes.
        sums = (self._sums(statistic.moments(columns)) for columns in readings)
        return np.stack([statistic.value(share_BG @ sums_GK / sizes_B1) for sums_GK in sums], axis=-1)

    def _sums(self, moments_NK: Array) -> Array:
        """(G, K): sums of the moments over the samples of each cluster."""
        sums_GK = np.zeros((self.count, moments_NK.shape[1]))
        np.add.at(sums_GK, self.of_sample, moments_NK)
        return sums_GK


@dataclass(frozen=True)
class Deviations:
    """Deviations of a mean in each replicate, by the way that was resampled."""

    ways: dict[str, Array]
    """(B,) for each way."""

    def __sub__(self, other: Deviations) -> Deviations:
        """Deviations of the difference of two means; a way that only one of them has is independent of the other."""
        none = np.zeros(REPLICATES)
        names = self.ways.keys() | other.ways.keys()
        return Deviations({name: self.ways.get(name, none) - other.ways.get(name, none) for name in sorted(names)})

    @property
    def total(self) -> Array:
        """(B,) deviations with all ways together."""
        return sum(self.ways.values(), start=np.zeros(REPLICATES))

    def interval(self, mean: float) -> list[float]:
        """The 95 % interval of a mean."""
        low, high = np.quantile(self.total, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return [mean + float(low), mean + float(high)]


def over_members(way: str, values: Array) -> Array:
    """Deviations of the mean of some values when their members are drawn anew, (B,)."""
    deviations: Array = draws(way, len(values)) @ values - values.mean()
    deviations *= correction(len(values))
    return deviations


def simultaneous(means: Sequence[float], deviations: Sequence[Deviations]) -> list[list[float]]:
    """Intervals that hold for all means together with 95 %, from the largest deviation in standard errors.

    Times of one chip are strongly correlated, so the intervals are far narrower than Bonferroni's.

    Args:
        means: some means.
        deviations: those of each, from the same draws.
    """
    totals = np.stack([one.total for one in deviations])
    errors = totals.std(axis=1)
    ratios = np.abs(totals) / np.where(errors > 0, errors, np.inf)[:, None]
    largest = float(np.quantile(ratios.max(axis=0), LEVEL))
    return [[mean - largest * float(e), mean + largest * float(e)] for mean, e in zip(means, errors, strict=True)]
