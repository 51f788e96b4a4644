"""Scores of one evaluation: the metrics, and what they were computed from, sample by sample."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Column = npt.NDArray[np.floating] | npt.NDArray[np.integer]
Columns = dict[str, Column]
"""Columns of numbers by name, one number for each sample."""
CLUSTER = "cluster"
"""Column with the number of the cluster that a sample belongs to, such as its passage; else each sample is one."""
PREDICTION = "prediction"
"""Column with the predicted class or value."""


@dataclass(frozen=True)
class Scores:
    """Result of one evaluation."""

    metrics: dict[str, float]
    """The metrics by name, each in its unit."""
    samples: Columns = field(default_factory=dict)
    """Score of each sample, for statistics over samples. Of an `EvalSet` by column (`f1`); of a whole evaluation by
    set and column (`validation.f1`)."""
