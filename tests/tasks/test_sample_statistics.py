"""Metrics from means over samples are those of the metrics' own functions, on all samples and on resampled ones."""

from __future__ import annotations

import numpy as np
import pytest

from analog_lora_cli.tasks.glue.data import ACCURACY, F1, MATTHEWS, PEARSON, SPEARMAN
from analog_lora_cli.tasks.glue.metrics import glue_metric
from analog_lora_cli.tasks.metric import Metric
from analog_lora_cli.tasks.sample_statistics import Mean
from analog_lora_cli.tasks.scores import Columns


def value(metric: Metric, columns: Columns) -> float:
    assert metric.statistic is not None
    return float(metric.statistic.value(metric.statistic.moments(columns).mean(axis=0)))


def columns_of(metric: Metric, seed: int) -> Columns:
    draw = np.random.default_rng(seed)
    if metric in (PEARSON, SPEARMAN):
        label = draw.integers(0, 11, size=60) / 2
        return {"label": label, "prediction": (label + draw.normal(size=60)).astype(np.float32)}
    label = draw.integers(2, size=60)
    return {"label": label, "prediction": np.where(draw.random(60) < 0.7, label, 1 - label)}


@pytest.mark.parametrize("metric", [ACCURACY, F1, MATTHEWS, PEARSON, SPEARMAN], ids=lambda metric: metric.name)
def test_glue(metric: Metric) -> None:
    for seed in range(5):
        columns = columns_of(metric, seed)
        expected = glue_metric(metric.name, columns["prediction"], columns["label"])
        assert value(metric, columns) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("metric", [F1, MATTHEWS, PEARSON, SPEARMAN], ids=lambda metric: metric.name)
def test_constant_answers_are_0(metric: Metric) -> None:
    columns = columns_of(metric, 0)
    assert value(metric, {**columns, "prediction": np.zeros(60)}) == pytest.approx(0, abs=1e-9)


def test_among_some_samples() -> None:
    columns: Columns = {"f1": np.array([1.0, 0.5, 0.0]), "has_answer": np.array([1.0, 1.0, 0.0])}
    assert value(Metric("f1", statistic=Mean("f1")), columns) == 50.0
    assert value(Metric("f1", statistic=Mean("f1", among="has_answer")), columns) == 75.0
    columns["has_answer"] = np.zeros(3)
    assert value(Metric("f1", statistic=Mean("f1", among="has_answer")), columns) == 0.0
