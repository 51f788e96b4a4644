"""The metrics that come along: modules of `evaluate`, equal to scikit-learn's, with intervals over samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import analog_lora_cli
from analog_lora_cli.config.metrics import METRICS, Compared, ModuleMetric
from analog_lora_cli.errors import AnaloraError, UsageError
from analog_lora_cli.tasks.chosen_metrics import MULTI_LABEL, ChosenMetrics, built_in, compute, load_module
from analog_lora_cli.tasks.scores import columns_of

MODULES = Path(analog_lora_cli.__file__).parent / "data" / "metrics"


CASES = [(name, compared) for name in METRICS.names() for compared in METRICS[name].compares if compared != "tags"]
"""Each metric with what it compares; of tags: tests/tasks/token_classification/test_entities.py."""


def samples(name: str, classes: int, compared: str = "") -> tuple[Any, Any]:
    draw = np.random.default_rng(classes)
    if compared == "sets of classes":
        gold = draw.random((60, classes)) < 0.4
        return np.where(draw.random((60, classes)) < 0.7, gold, ~gold).astype(int), gold.astype(int)
    if METRICS[name].compares == ("numbers",):
        gold = draw.normal(size=60)
        return gold + draw.normal(size=60), gold
    gold = draw.integers(classes, size=60)
    return np.where(draw.random(60) < 0.6, gold, draw.integers(classes, size=60)), gold


def reference(name: str, predicted: Any, gold: Any, classes: int) -> float:
    """scikit-learn's and scipy's value, in our units."""
    from scipy.stats import pearsonr, spearmanr
    from sklearn import metrics

    average = "binary" if classes == 2 and gold.ndim == 1 else "macro"
    scores: dict[str, Any] = {
        "accuracy": metrics.accuracy_score,
        "f1": lambda g, p: metrics.f1_score(g, p, average=average, zero_division=0),
        "precision": lambda g, p: metrics.precision_score(g, p, average=average, zero_division=0),
        "recall": lambda g, p: metrics.recall_score(g, p, average=average, zero_division=0),
        "f1_micro": lambda g, p: metrics.f1_score(g, p, average="micro", zero_division=0),
        "f1_macro": lambda g, p: metrics.f1_score(g, p, average="macro", zero_division=0),
        "f1_weighted": lambda g, p: metrics.f1_score(g, p, average="weighted", zero_division=0),
        "matthews_correlation": metrics.matthews_corrcoef,
        "pearson": lambda g, p: pearsonr(g, p).statistic,
        "spearman": lambda g, p: spearmanr(g, p).statistic,
        "r2": metrics.r2_score,
        "mean_absolute_error": metrics.mean_absolute_error,
        "mean_squared_error": metrics.mean_squared_error,
        "root_mean_squared_error": metrics.root_mean_squared_error,
    }
    return float(scores[name](gold, predicted)) * (100 if METRICS[name].unit == "%" else 1)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize(("name", "compared"), CASES)
def test_equal_to_scikit_learn(name: str, compared: Compared, classes: int) -> None:
    predicted, gold = samples(name, classes, compared)
    assert compute(name, compared, predicted, gold) == pytest.approx(
        reference(name, predicted, gold, classes), abs=1e-9
    )


SCORES = ["f1_macro", "f1_weighted", "f1_micro", "f1", "precision", "recall"]


@pytest.mark.parametrize("name", SCORES)
def test_a_class_that_never_occurs_does_not_count(name: str) -> None:
    predicted, gold = np.array([0, 1, 1, 0, 3]), np.array([0, 1, 0, 1, 0])
    assert compute(name, "classes", predicted, gold, 5) == pytest.approx(reference(name, predicted, gold, 5))


@pytest.mark.parametrize("name", [*SCORES, "accuracy"])
def test_a_class_that_is_in_no_set_counts_with_0(name: str) -> None:
    """As in scikit-learn, which cannot tell it from one that the model has wrong."""
    predicted = np.array([[1, 0, 1, 0], [0, 0, 0, 0], [1, 0, 0, 0]])
    gold = np.array([[1, 0, 1, 0], [1, 1, 0, 0], [0, 0, 1, 0]])
    value = compute(name, "sets of classes", predicted, gold)
    assert value == pytest.approx(reference(name, predicted, gold, 4), abs=1e-9) and 0 < value < 100
    none = np.zeros_like(gold)
    assert compute(name, "sets of classes", none, none) == reference(name, none, none, 4)


@pytest.mark.parametrize(("name", "compared"), CASES)
def test_constant_answers_give_a_number(name: str, compared: Compared) -> None:
    for same in (np.ones((3, 2), dtype=int), np.zeros((3, 2), dtype=int)):
        predicted, gold = (same, same) if compared == "sets of classes" else (same[:, 0], np.array([0, 1, 1]))
        assert np.isfinite(compute(name, compared, predicted, gold))


def test_a_constant_side_correlates_with_nothing() -> None:
    varied, name = np.array([0, 1, 2, 0, 1, 2, 2]), "matthews_correlation"
    assert compute(name, "classes", np.full(7, 2), varied) == 0
    assert compute(name, "classes", varied, np.ones(7, dtype=int)) == 0


def test_every_metric_is_a_module_that_evaluate_loads_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import evaluate
    from datasets import config as datasets_config

    monkeypatch.setattr(datasets_config, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    assert {folder.name for folder in MODULES.iterdir() if folder.name != "__pycache__"} == set(METRICS.names())
    for name, compared in CASES:
        predicted, gold = samples(name, 4, compared)
        kind = MULTI_LABEL if compared == "sets of classes" else None
        module = evaluate.load(str(MODULES / name), kind, keep_in_memory=True, cache_dir=str(tmp_path))
        result = module.compute(predictions=predicted.tolist(), references=gold.tolist())
        assert result == {name: pytest.approx(reference(name, predicted, gold, 4), abs=1e-9)}


@pytest.fixture
def own_module(tmp_path: Path) -> str:
    """A user's module: how many predictions differ from their reference."""
    folder = tmp_path / "mistakes"
    folder.mkdir()
    folder.joinpath("mistakes.py").write_text(
        "import datasets\nimport evaluate\n\n\n"
        "class Mistakes(evaluate.Metric):\n"
        "    def _info(self):\n"
        "        kind = datasets.Features({'predictions': datasets.Value('int64'), "
        "'references': datasets.Value('int64')})\n"
        "        return evaluate.MetricInfo(description='', citation='', inputs_description='', features=kind)\n\n"
        "    def _compute(self, predictions, references, each=1):\n"
        "        wrong = sum(p != r for p, r in zip(predictions, references))\n"
        "        return {'mistakes': each * wrong, 'samples': len(references)}\n"
    )
    return str(folder)


def test_a_module_of_the_user(own_module: str) -> None:
    modules = [
        ModuleMetric(name=own_module, higher_is_better=False, options={"each": 2}),
        ModuleMetric(name=own_module, higher_is_better=True, value="samples", unit="%", scale=10.0),
    ]
    chosen = ChosenMetrics(["accuracy", *modules], "classes", 2)
    assert [metric.name for metric in chosen.metrics] == ["accuracy", "mistakes", "mistakes_samples"]
    assert [metric.higher_is_better for metric in chosen.metrics] == [True, False, True]
    values = chosen.values(np.array([0, 1, 1, 0]), np.array([0, 1, 0, 0]))
    assert values == {"accuracy": 75.0, "mistakes": 2.0, "mistakes_samples": 40.0}


def test_a_module_that_does_not_work(own_module: str, tmp_path: Path) -> None:
    wrong = ModuleMetric(name=own_module, higher_is_better=True, value="f1")
    with pytest.raises(AnaloraError, match="has no number 'f1'; it has mistakes, samples"):
        ChosenMetrics([wrong], "classes", 2).values(np.array([0]), np.array([0]))
    failing = ModuleMetric(name=own_module, higher_is_better=True, options={"unknown": 1})
    with pytest.raises(AnaloraError, match="failed: TypeError"):
        ChosenMetrics([failing], "classes", 2).values(np.array([0]), np.array([0]))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="task.metrics: .*empty cannot be loaded by evaluate"):
        load_module(str(tmp_path / "empty"))


@pytest.mark.parametrize(("name", "compared"), CASES)
def test_resampled_samples_give_the_metric_of_those_samples(name: str, compared: Compared) -> None:
    predicted, gold = samples(name, 4, compared)
    metric = built_in(name, compared, 4)
    assert metric.statistic is not None
    if name == "spearman":  # Its ranks are those among all samples.
        return
    drawn = np.random.default_rng(0).integers(60, size=60)
    moments = metric.statistic.moments({**columns_of("prediction", predicted), **columns_of("label", gold)})
    value = metric.statistic.value(moments[drawn].mean(axis=0))
    assert value == pytest.approx(compute(name, compared, predicted[drawn], gold[drawn], 4), abs=1e-9)
