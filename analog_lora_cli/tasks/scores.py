"""Scores of one evaluation: the metrics, and what they were computed from, sample by sample."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count, takewhile
from typing import cast

import numpy as np
import numpy.typing as npt

Column = npt.NDArray[np.floating] | npt.NDArray[np.integer]
Columns = dict[str, Column]
"""Columns of numbers by name, one number for each sample."""
CLUSTER = "cluster"
"""Column with the number of the cluster that a sample belongs to, such as its passage; else each sample is one."""
PREDICTION = "prediction"
"""Column with the predicted class or value; of sets of classes one for each class, see `columns_of`."""


def columns_of(name: str, answers: Column) -> Columns:
    """Answers as columns: (N,) as the column `name`, (N, C) as the columns `name_0`, ... of the classes."""
    if answers.ndim == 1:
        return {name: answers}
    return {f"{name}_{number}": column for number, column in enumerate(answers.T)}


def has_answers(columns: Columns, name: str) -> bool:
    """Whether `answers_in` finds any."""
    return name in columns or f"{name}_0" in columns


def answers_in(columns: Columns, name: str) -> Column:
    """The answers that `columns_of` made columns of, (N, 1) or (N, C).

    Raises:
        KeyError: there are none of this name.
    """
    if not has_answers(columns, name):
        raise KeyError(name)
    if name in columns:
        return columns[name][:, None]
    names = takewhile(columns.__contains__, (f"{name}_{number}" for number in count()))
    return cast(Column, np.stack([columns[one] for one in names], axis=-1))


@dataclass(frozen=True)
class Scores:
    """Result of one evaluation."""

    metrics: dict[str, float]
    """The metrics by name, each in its unit."""
    samples: Columns = field(default_factory=dict)
    """Score of each sample, for statistics over samples. Of an `EvalSet` by column (`f1`); of a whole evaluation by
    set and column (`validation.f1`)."""
