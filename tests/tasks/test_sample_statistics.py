"""Metrics from means over samples: undefined values, and means among some samples."""

from __future__ import annotations

import numpy as np
import pytest

from analog_lora_cli.config.metrics import Compared
from analog_lora_cli.tasks.chosen_metrics import compute
from analog_lora_cli.tasks.sample_statistics import Mean
from analog_lora_cli.tasks.scores import Columns


@pytest.mark.parametrize("constant", [0.0, 0.3])
@pytest.mark.parametrize("name", ["f1", "matthews_correlation", "pearson", "spearman", "r2"])
def test_constant_answers_are_0(name: str, constant: float) -> None:
    """Undefined, and no better than guessing. 0.3 has rounding errors in its mean."""
    classes = 2 if name in ("f1", "matthews_correlation") else 0
    label, same = np.arange(60) % 2, np.full(60, 0 if classes else constant)
    predicted, gold = (label, same) if name == "r2" else (same, label)
    compared: Compared = "classes" if classes else "numbers"
    assert compute(name, compared, predicted, gold, classes) == 0


def test_among_some_samples() -> None:
    columns: Columns = {"f1": np.array([1.0, 0.5, 0.0]), "has_answer": np.array([1.0, 1.0, 0.0])}
    assert value(Mean("f1"), columns) == 50.0
    assert value(Mean("f1", among="has_answer"), columns) == 75.0
    columns["has_answer"] = np.zeros(3)
    assert value(Mean("f1", among="has_answer"), columns) == 0.0


def value(statistic: Mean, columns: Columns) -> float:
    return float(statistic.value(statistic.moments(columns).mean(axis=0)))
