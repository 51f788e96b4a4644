"""Metrics as functions of means over samples, so that they can be computed on resampled samples.

Each statistic gives K moments for a sample; the metric is a function of their weighted means. Axes of arrays by suffix:
N samples, K moments; `...` any number of axes in front.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analog_lora_cli.tasks.scores import PREDICTION, Columns

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
    """Share of predictions that are the label."""

    def moments(self, columns: Columns) -> Array:
        right_N: Array = np.equal(columns[PREDICTION], columns[LABEL]).astype(np.float64)
        return right_N[:, None]

    def value(self, means: Array) -> Array:
        return PERCENT * means[..., 0]


class _Confusion(SampleStatistic):
    """A metric of two classes, from the shares of true and false positives and negatives."""

    def moments(self, columns: Columns) -> Array:
        predicted, gold = columns[PREDICTION] == 1, columns[LABEL] == 1
        parts = [predicted & gold, predicted & ~gold, ~predicted & gold, ~predicted & ~gold]
        return np.stack(parts, axis=-1).astype(np.float64)


@dataclass(frozen=True)
class BinaryF1(_Confusion):
    """F1 of class 1: 2 TP / (2 TP + FP + FN); 0 where class 1 is neither predicted nor present."""

    def value(self, means: Array) -> Array:
        tp, fp, fn = means[..., 0], means[..., 1], means[..., 2]
        return PERCENT * ratio(2 * tp, 2 * tp + fp + fn)


@dataclass(frozen=True)
class Matthews(_Confusion):
    """Matthews correlation of two classes; 0 where one side is constant."""

    def value(self, means: Array) -> Array:
        tp, fp, fn, tn = np.moveaxis(means, -1, 0)
        scale = np.sqrt(np.clip((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn), 0, None))
        return PERCENT * ratio(tp * tn - fp * fn, scale)


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
        x, y = x - x.mean(), y - y.mean()  # So that the variances below lose no digits.
        return np.stack([x, y, x * x, y * y, x * y], axis=-1)

    def value(self, means: Array) -> Array:
        x, y, xx, yy, xy = np.moveaxis(means, -1, 0)
        scale = np.sqrt(np.clip((xx - x * x) * (yy - y * y), 0, None))
        return PERCENT * ratio(xy - x * y, scale)


def ratio(above: Array, below: Array) -> Array:
    """Quotient; 0 where the denominator is 0."""
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)
