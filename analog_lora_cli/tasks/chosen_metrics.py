"""The metrics that `task.metrics` asks for, of predicted and true classes, sets of classes, tags or numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from analog_lora_cli.config.metrics import METRICS, Compared, ModuleMetric
from analog_lora_cli.errors import AnaloraError, UsageError
from analog_lora_cli.tasks.class_statistics import (
    BinaryScore,
    ClassScore,
    ClassSetScore,
    Determination,
    MultiMatthews,
    NumberError,
)
from analog_lora_cli.tasks.metric import Metric
from analog_lora_cli.tasks.sample_statistics import LABEL, Accuracy, Correlation, SampleStatistic
from analog_lora_cli.tasks.scores import PREDICTION, Column, Columns, columns_of
from analog_lora_cli.tasks.tag_statistics import TAG_STATISTICS

Statistic = Callable[[int], SampleStatistic]
"""Function from the number of classes to a metric's function of the samples."""

_CLASSES: Mapping[str, Statistic] = {
    "accuracy": lambda classes: Accuracy(),
    "f1": lambda classes: BinaryScore(2, "f1") if classes == 2 else ClassScore(classes, "f1"),
    "precision": lambda classes: BinaryScore(2, "precision") if classes == 2 else ClassScore(classes, "precision"),
    "recall": lambda classes: BinaryScore(2, "recall") if classes == 2 else ClassScore(classes, "recall"),
    "f1_micro": lambda classes: ClassScore(classes, "f1", "micro"),
    "f1_macro": lambda classes: ClassScore(classes, "f1", "macro"),
    "f1_weighted": lambda classes: ClassScore(classes, "f1", "weighted"),
    "matthews_correlation": MultiMatthews,
}
_CLASS_SETS: Mapping[str, Statistic] = {
    "accuracy": lambda classes: Accuracy(),
    "f1": lambda classes: ClassSetScore(classes, "f1"),
    "precision": lambda classes: ClassSetScore(classes, "precision"),
    "recall": lambda classes: ClassSetScore(classes, "recall"),
    "f1_micro": lambda classes: ClassSetScore(classes, "f1", "micro"),
    "f1_macro": lambda classes: ClassSetScore(classes, "f1", "macro"),
    "f1_weighted": lambda classes: ClassSetScore(classes, "f1", "weighted"),
}
_TAGS: Mapping[str, Statistic] = {
    "accuracy": lambda classes: TAG_STATISTICS["accuracy"],
    "f1": lambda classes: TAG_STATISTICS["f1"],
    "precision": lambda classes: TAG_STATISTICS["precision"],
    "recall": lambda classes: TAG_STATISTICS["recall"],
}
_NUMBERS: Mapping[str, Statistic] = {
    "pearson": lambda classes: Correlation(),
    "spearman": lambda classes: Correlation(ranks=True),
    "r2": lambda classes: Determination(),
    "mean_absolute_error": lambda classes: NumberError("absolute"),
    "mean_squared_error": lambda classes: NumberError("squared"),
    "root_mean_squared_error": lambda classes: NumberError("root"),
}
_STATISTICS: Mapping[Compared, Mapping[str, Statistic]] = {
    "classes": _CLASSES,
    "sets of classes": _CLASS_SETS,
    "tags": _TAGS,
    "numbers": _NUMBERS,
}
MULTI_LABEL = "multilabel"
"""Configuration of modules of `evaluate` that compares sets of classes, as 0 or 1 for each class."""
TAGS = "tags"
"""Configuration of the modules that come along that compares tags, a list of names for each sentence."""


def built_in(name: str, compared: Compared, classes: int) -> Metric:
    """A metric that comes along.

    Args:
        name: one of `METRICS`.
        compared: what labels and predictions are.
        classes: number of classes; of no use for numbers.
    """
    facts = METRICS[name]
    return Metric(name, facts.unit, facts.higher_is_better, _STATISTICS[compared][name](classes))


def metric_of(choice: str | ModuleMetric, compared: Compared, classes: int) -> Metric:
    """The metric of an entry of `task.metrics`; a module's intervals cover chips only."""
    if isinstance(choice, str):
        return built_in(choice, compared, classes)
    return Metric(choice.key, choice.unit, choice.higher_is_better)


def compute(name: str, compared: Compared, predicted: Column, gold: Column, classes: int | None = None) -> float:
    """A metric that comes along, of some samples, in its unit.

    Args:
        name: one of `METRICS`.
        compared: what labels and predictions are.
        predicted: (N,) class numbers 0, 1, ..., or numbers; (N, C) 0 or 1 for each class, for sets.
        gold: the same.
        classes: number of classes; None: as many as occur, but at least two.
    """
    if classes is None:
        classes = gold.shape[1] if gold.ndim == 2 else max(2, int(max(predicted.max(), gold.max())) + 1)
    return value_of(built_in(name, compared, classes), compared_columns(predicted, gold))


def compared_columns(predicted: Column, gold: Column) -> Columns:
    """Predictions and labels as columns."""
    return {**columns_of(PREDICTION, predicted), **columns_of(LABEL, gold)}


def value_of(metric: Metric, columns: Columns) -> float:
    """A metric of all samples of some columns."""
    assert metric.statistic is not None
    return float(metric.statistic.value(metric.statistic.moments(columns).mean(axis=0)))


@dataclass(frozen=True)
class ChosenMetrics:
    """The metrics of one evaluation set."""

    choices: Sequence[str | ModuleMetric]
    compared: Compared
    """What labels and predictions are."""
    classes: int
    """Number of classes; of no use for numbers."""

    @cached_property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics, the headline first."""
        return tuple(metric_of(choice, self.compared, self.classes) for choice in self.choices)

    @cached_property
    def _modules(self) -> dict[str, Any]:
        kind = MULTI_LABEL if self.compared == "sets of classes" else None
        return {one.key: load_module(one.name, kind) for one in self.choices if isinstance(one, ModuleMetric)}

    def load(self) -> None:
        """Load the modules, so that a missing one is known before the training.

        Raises:
            UsageError: one cannot be loaded.
        """
        _ = self._modules

    def values(self, predicted: Column, gold: Column) -> dict[str, float]:
        """The metrics by name, each in its unit.

        Args:
            predicted: predictions, see `compute`.
            gold: labels.

        Raises:
            UsageError, AnaloraError: as for `values_of`.
        """
        return self.values_of(compared_columns(predicted, gold), predicted.tolist(), gold.tolist())

    def values_of(self, columns: Columns, predicted: Sequence[Any], gold: Sequence[Any]) -> dict[str, float]:
        """The metrics by name, each in its unit.

        Args:
            columns: what the statistics of the metrics are functions of.
            predicted: predictions as modules of `evaluate` take them, one entry for each sample.
            gold: labels likewise.

        Raises:
            UsageError: a module cannot be loaded.
            AnaloraError: a module failed, or gave no such number.
        """
        return {
            metric.name: value_of(metric, columns)
            if isinstance(choice, str)
            else module_value(self._modules[choice.key], choice, predicted, gold)
            for choice, metric in zip(self.choices, self.metrics, strict=True)
        }


def load_module(name: str, configuration: str | None = None) -> Any:
    """A module of `evaluate`, which keeps its samples in memory.

    Args:
        name: local folder or hub id.
        configuration: `MULTI_LABEL` for sets of classes.

    Raises:
        UsageError: there is no such module, or it cannot be loaded.
    """
    import evaluate

    folder = Path(name).expanduser()
    local = folder.exists()
    try:
        return evaluate.load(str(folder) if local else name, configuration, keep_in_memory=True)
    except Exception as error:  # Code of the module's author may raise anything.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        remedy = (
            "a local module is a folder NAME with NAME.py, which defines one subclass of evaluate.Metric"
            if local
            else "name a local folder with NAME.py in it, or fill the cache where there is a network"
        )
        raise UsageError(f"task.metrics: {name} cannot be loaded by evaluate: {reason}\n  {remedy}.") from error


def module_value(module: Any, choice: ModuleMetric, predicted: Sequence[Any], gold: Sequence[Any]) -> float:
    """One entry of a module's result, scaled.

    Raises:
        AnaloraError: the module failed, or its result has no such number.
    """
    try:
        result = module.compute(predictions=predicted, references=gold, **choice.options)
    except Exception as error:  # As above.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise AnaloraError(f"task.metrics: {choice.name} failed: {type(error).__name__}: {reason}") from error
    name = choice.value or (choice.key if choice.key in result or len(result) != 1 else next(iter(result)))
    value = result.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise AnaloraError(
            f"task.metrics: the result of {choice.name} has no number {name!r}; it has {', '.join(map(str, result))}: "
            "name one of them with `value`"
        )
    return choice.scale * float(value)
