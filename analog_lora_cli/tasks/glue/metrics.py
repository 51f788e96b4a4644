"""GLUE's metrics, in percent.

Wang et al., "GLUE: A Multi-Task Benchmark and Analysis Platform for Natural Language Understanding", 2019: Matthews
correlation for CoLA, Pearson and Spearman correlation for STS-B, accuracy for the rest, with F1 of class 1 beside it
for MRPC and QQP.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.number]


class Correlation(Protocol):
    """Result of scipy's functions."""

    statistic: float


def glue_metric(name: str, predicted: Array, gold: Array) -> float:
    """One metric in percent; correlations lie in -100..100.

    A correlation with constant predictions (or constant gold labels) is undefined and counts as 0, no better than
    guessing. So does F1 if class 1 is neither predicted nor present.

    Args:
        name: `accuracy`, `f1`, `matthews_correlation`, `pearson` or `spearman`.
        predicted: (samples,) classes, or values for the last two.
        gold: (samples,) the same.

    Raises:
        KeyError: another name.
    """
    return 100.0 * _METRICS[name](predicted, gold)


def _constant(values: Array) -> bool:
    return bool((values == values[0]).all())


def _accuracy(predicted: Array, gold: Array) -> float:
    return float(np.mean(predicted == gold))


def _f1(predicted: Array, gold: Array) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(gold, predicted, pos_label=1, average="binary", labels=[0, 1], zero_division=0))


def _matthews(predicted: Array, gold: Array) -> float:
    from sklearn.metrics import matthews_corrcoef

    return 0.0 if _constant(predicted) or _constant(gold) else float(matthews_corrcoef(gold, predicted))


def _pearson(predicted: Array, gold: Array) -> float:
    from scipy.stats import pearsonr

    return _correlation(pearsonr, predicted, gold)


def _spearman(predicted: Array, gold: Array) -> float:
    from scipy.stats import spearmanr

    return _correlation(spearmanr, predicted, gold)


def _correlation(function: Callable[[Array, Array], Correlation], predicted: Array, gold: Array) -> float:
    if _constant(predicted) or _constant(gold):
        return 0.0
    with warnings.catch_warnings():
        # Values that differ only by rounding errors make scipy warn, and may make it return NaN.
        warnings.simplefilter("ignore")
        value = float(function(predicted.astype(np.float64), gold.astype(np.float64)).statistic)
    return value if np.isfinite(value) else 0.0


_METRICS = {
    "accuracy": _accuracy,
    "f1": _f1,
    "matthews_correlation": _matthews,
    "pearson": _pearson,
    "spearman": _spearman,
}
