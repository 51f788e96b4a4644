"""The metrics that `task.metrics` asks for, of predicted and true classes or numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from analog_lora_cli.config.metrics import METRICS, ModuleMetric
from analog_lora_cli.errors import AnaloraError, UsageError
from analog_lora_cli.tasks.class_statistics import (
    BinaryScore,
    ClassScore,
    Determination,
    MultiMatthews,
    NumberError,
)
from analog_lora_cli.tasks.metric import Metric
from analog_lora_cli.tasks.sample_statistics import LABEL, Accuracy, Correlation, SampleStatistic
from analog_lora_cli.tasks.scores import PREDICTION, Column, Columns

_STATISTICS: Mapping[str, Callable[[int], SampleStatistic]] = {
    "accuracy": lambda classes: Accuracy(),
    "f1": lambda classes: BinaryScore(2, "f1") if classes == 2 else ClassScore(classes, "f1"),
    "precision": lambda classes: BinaryScore(2, "precision") if classes == 2 else ClassScore(classes, "precision"),
    "recall": lambda classes: BinaryScore(2, "recall") if classes == 2 else ClassScore(classes, "recall"),
    "f1_micro": lambda classes: ClassScore(classes, "f1", "micro"),
    "f1_macro": lambda classes: ClassScore(classes, "f1", "macro"),
    "f1_weighted": lambda classes: ClassScore(classes, "f1", "weighted"),
    "matthews_correlation": MultiMatthews,
    "pearson": lambda classes: Correlation(),
    "spearman": lambda classes: Correlation(ranks=True),
    "r2": lambda classes: Determination(),
    "mean_absolute_error": lambda classes: NumberError("absolute"),
    "mean_squared_error": lambda classes: NumberError("squared"),
    "root_mean_squared_error": lambda classes: NumberError("root"),
}
"""Each metric's function of the samples, given the number of classes."""


def built_in(name: str, classes: int) -> Metric:
    """A metric that comes along.

    Args:
        name: one of `METRICS`.
        classes: number of classes; 0 for numbers.
    """
    facts = METRICS[name]
    return Metric(name, facts.unit, facts.higher_is_better, _STATISTICS[name](classes))


def metric_of(choice: str | ModuleMetric, classes: int) -> Metric:
    """The metric of an entry of `task.metrics`; a module's intervals cover chips only."""
    if isinstance(choice, str):
        return built_in(choice, classes)
    return Metric(choice.key, choice.unit, choice.higher_is_better)


def compute(name: str, predictions: Sequence[float], references: Sequence[float], classes: int | None = None) -> float:
    """A metric that comes along, of some samples, in its unit.

    Args:
        name: one of `METRICS`.
        predictions: class numbers 0, 1, ..., or numbers.
        references: the same.
        classes: number of classes; None: as many as occur, but at least two.
    """
    predicted, gold = np.asarray(predictions), np.asarray(references)
    if classes is None:
        classes = max(2, int(max(predicted.max(), gold.max())) + 1) if METRICS[name].of_classes else 0
    return value_of(built_in(name, classes), {PREDICTION: predicted, LABEL: gold})


def value_of(metric: Metric, columns: Columns) -> float:
    """A metric of all samples of some columns."""
    assert metric.statistic is not None
    return float(metric.statistic.value(metric.statistic.moments(columns).mean(axis=0)))


@dataclass(frozen=True)
class ChosenMetrics:
    """The metrics of one evaluation set."""

    choices: Sequence[str | ModuleMetric]
    classes: int
    """Number of classes; 0 for numbers."""

    @cached_property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics, the headline first."""
        return tuple(metric_of(choice, self.classes) for choice in self.choices)

    @cached_property
    def _modules(self) -> dict[str, Any]:
        return {one.key: load_module(one.name) for one in self.choices if isinstance(one, ModuleMetric)}

    def load(self) -> None:
        """Load the modules, so that a missing one is known before the training.

        Raises:
            UsageError: one cannot be loaded.
        """
        _ = self._modules

    def values(self, predicted: Column, gold: Column) -> dict[str, float]:
        """The metrics by name, each in its unit.

        Raises:
            UsageError: a module cannot be loaded.
            AnaloraError: a module failed, or gave no such number.
        """
        columns = {PREDICTION: predicted, LABEL: gold}
        return {
            metric.name: value_of(metric, columns)
            if isinstance(choice, str)
            else module_value(self._modules[choice.key], choice, predicted, gold)
            for choice, metric in zip(self.choices, self.metrics, strict=True)
        }


def load_module(name: str) -> Any:
    """A module of `evaluate`, which keeps its samples in memory.

    Raises:
        UsageError: there is no such module, or it cannot be loaded.
    """
    import evaluate

    folder = Path(name).expanduser()
    local = folder.exists()
    try:
        return evaluate.load(str(folder) if local else name, keep_in_memory=True)
    except Exception as error:  # Code of the module's author may raise anything.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        remedy = (
            "a local module is a folder NAME with NAME.py, which defines one subclass of evaluate.Metric"
            if local
            else "name a local folder with NAME.py in it, or fill the cache where there is a network"
        )
        raise UsageError(f"task.metrics: {name} cannot be loaded by evaluate: {reason}\n  {remedy}.") from error


def module_value(module: Any, choice: ModuleMetric, predicted: Column, gold: Column) -> float:
    """One entry of a module's result, scaled.

    Raises:
        AnaloraError: the module failed, or its result has no such number.
    """
    try:
        result = module.compute(predictions=predicted.tolist(), references=gold.tolist(), **choice.options)
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
