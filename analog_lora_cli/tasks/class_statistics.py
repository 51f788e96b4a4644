"""Metrics of classes, of sets of classes, and of numbers, as functions of means over samples; see `sample_statistics`.

Axes of arrays by suffix: N samples, C classes, K moments; `...` any number of axes in front.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from analog_lora_cli.tasks.sample_statistics import LABEL, PERCENT, Array, SampleStatistic, centred, ratio
from analog_lora_cli.tasks.scores import PREDICTION, Column, Columns, answers_in

Members = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ClassScore(SampleStatistic):
    """F1, precision or recall of one class a sample, averaged as scikit-learn averages them.

    A class that is neither predicted nor present does not count; a quotient of 0 and 0 is 0.
    """

    classes: int
    kind: Literal["f1", "precision", "recall"] = "f1"
    average: Literal["macro", "weighted", "micro"] = "macro"

    def moments(self, columns: Columns) -> Array:
        """(N, 3 C): whether a class is both, predicted, and present; `micro`: (N, 3), how many are."""
        predicted_NC, present_NC = self.members(columns, PREDICTION), self.members(columns, LABEL)
        parts = [part.astype(np.float64) for part in (predicted_NC & present_NC, predicted_NC, present_NC)]
        if self.average == "micro":
            parts = [part.sum(axis=-1, keepdims=True) for part in parts]
        return np.concatenate(parts, axis=-1)

    def members(self, columns: Columns, name: str) -> Members:
        """(N, C): whether a sample is of a class, by its labels or predictions."""
        return one_hot(columns[name], self.classes)

    def counted(self, predicted: Array, present: Array) -> Array:
        """Weight of each class in the mean `macro`, from the shares of samples."""
        return ((predicted + present) > 0).astype(np.float64)

    def value(self, means: Array) -> Array:
        right, predicted, present = np.split(means, 3, axis=-1)
        above, below = {
            "f1": (2 * right, predicted + present),
            "precision": (right, predicted),
            "recall": (right, present),
        }[self.kind]
        weight = present if self.average == "weighted" else self.counted(predicted, present)
        return PERCENT * ratio((weight * ratio(above, below)).sum(axis=-1), weight.sum(axis=-1))


@dataclass(frozen=True)
class ClassSetScore(ClassScore):
    """F1, precision or recall of sets of classes. A class that is neither predicted nor present counts with 0."""

    def members(self, columns: Columns, name: str) -> Members:
        return np.equal(answers_in(columns, name), 1)

    def counted(self, predicted: Array, present: Array) -> Array:
        return np.ones_like(present)


@dataclass(frozen=True)
class BinaryScore(ClassScore):
    """F1, precision or recall of class 1 of two."""

    def value(self, means: Array) -> Array:
        return super().value(means[..., 1::2])


@dataclass(frozen=True)
class MultiMatthews(SampleStatistic):
    """Matthews correlation of several classes (Gorodkin's R_K); 0 where one side is constant."""

    classes: int

    def moments(self, columns: Columns) -> Array:
        """(N, 1 + 2 C): whether the prediction is right, which class is predicted, which is present."""
        predicted_NC, present_NC = one_hot(columns[PREDICTION], self.classes), one_hot(columns[LABEL], self.classes)
        right_N1 = (predicted_NC & present_NC).any(axis=-1, keepdims=True)
        return np.concatenate([right_N1, predicted_NC, present_NC], axis=-1).astype(np.float64)

    def value(self, means: Array) -> Array:
        right, (predicted, present) = means[..., 0], np.split(means[..., 1:], 2, axis=-1)
        spread = (1 - (predicted**2).sum(axis=-1)) * (1 - (present**2).sum(axis=-1))
        # Of a constant side nothing but rounding is left.
        spread = np.where(spread < 1e-12, 0.0, spread)
        return PERCENT * ratio(right - (predicted * present).sum(axis=-1), np.sqrt(spread))


@dataclass(frozen=True)
class NumberError(SampleStatistic):
    """Mean error of numbers, in the label's unit or its square."""

    kind: Literal["absolute", "squared", "root"]

    def moments(self, columns: Columns) -> Array:
        error_N = columns[PREDICTION].astype(np.float64) - columns[LABEL].astype(np.float64)
        return (np.abs(error_N) if self.kind == "absolute" else error_N**2)[:, None]

    def value(self, means: Array) -> Array:
        return np.sqrt(means[..., 0]) if self.kind == "root" else means[..., 0]


@dataclass(frozen=True)
class Determination(SampleStatistic):
    """Share of the labels' variance that the predictions explain, R squared; 0 where the labels are constant."""

    def moments(self, columns: Columns) -> Array:
        gold_N = columns[LABEL].astype(np.float64)
        error_N = columns[PREDICTION].astype(np.float64) - gold_N
        gold_N = centred(gold_N)
        return np.stack([error_N**2, gold_N, gold_N**2], axis=-1)

    def value(self, means: Array) -> Array:
        error, gold, square = np.moveaxis(means, -1, 0)
        variance = square - gold**2
        return np.where(variance > 0, PERCENT * (1 - ratio(error, variance)), 0.0)


def one_hot(classes_N: Column, count: int) -> Members:
    """(N, C): whether a sample is of a class."""
    hot_NC: Members = np.equal(np.asarray(classes_N)[:, None], np.arange(count))
    return hot_NC
