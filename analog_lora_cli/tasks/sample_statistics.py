"""Metrics as functions of means over samples, so that they can be computed on resampled samples.

Each statistic gives K moments for a sample; the metric is a function of their weighted means. Axes of arrays by suffix:
N samples, K moments; `...` any number of axes in front.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analog_lora_cli.tasks.scores import PREDICTION, Columns, answers_in

Array = npt.NDArray[np.float64]
LABEL = "label"
PERCENT = 100.0


class SampleStatistic(ABC):
    """A metric as a function of the means of some numbers of each sample."""

    @abstractmethod
    def moments(self, columns: Columns) -> Array:
        """The numbers of each sample, (N, K).

        Args:
            columns: columns of one evaluation and those that all evaluations share.
        """

    @abstractmethod
    def value(self, means: Array) -> Array:
        """The metric in its unit, (...).

        Args:
            means: (..., K), weighted means of the moments.
        """


@dataclass(frozen=True)
class Mean(SampleStatistic):
    """Mean of a column; with `among`, over the samples where that column is 1."""

    column: str
    among: str | None = None
    scale: float = PERCENT

    def moments(self, columns: Columns) -> Array:
        score_N = columns[self.column].astype(np.float64)
        share_N = np.ones_like(score_N) if self.among is None else columns[self.among].astype(np.float64)
        return np.stack([score_N * share_N, share_N], axis=-1)

    def value(self, means: Array) -> Array:
        return self.scale * ratio(means[..., 0], means[..., 1])


@dataclass(frozen=True)
class Accuracy(SampleStatistic):
    """Share of predictions that are the label; a set of classes must be the same in all classes."""

    def moments(self, columns: Columns) -> Array:
        same = np.equal(answers_in(columns, PREDICTION), answers_in(columns, LABEL))
        right_N: Array = np.asarray(same.all(axis=-1), dtype=np.float64)
        return right_N[:, None]

    def value(self, means: Array) -> Array:
        return PERCENT * means[..., 0]


@dataclass(frozen=True)
class Correlation(SampleStatistic):
    """Pearson correlation of predictions and labels, with `ranks` Spearman's; 0 where one side is constant.

    Ranks are those among all samples: a resampled set keeps them.
    """

    ranks: bool = False

    def moments(self, columns: Columns) -> Array:
        x, y = columns[PREDICTION].astype(np.float64), columns[LABEL].astype(np.float64)
        if self.ranks:
            from scipy.stats import rankdata

            x, y = rankdata(x), rankdata(y)
        x, y = centred(x), centred(y)
        return np.stack([x, y, x * x, y * y, x * y], axis=-1)

    def value(self, means: Array) -> Array:
        x, y, xx, yy, xy = np.moveaxis(means, -1, 0)
        scale = np.sqrt(np.clip((xx - x * x) * (yy - y * y), 0, None))
        return PERCENT * ratio(xy - x * y, scale)


def centred(values_N: Array) -> Array:
    """Differences to the mean, so that variances lose no digits; exactly 0 for a constant."""
    from_first: Array = values_N - values_N[0]
    from_mean: Array = from_first - from_first.mean()
    return from_mean


def ratio(above: Array, below: Array) -> Array:
    """Quotient; 0 where the denominator is 0."""
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)
