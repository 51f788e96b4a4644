"""Base of the tasks with one label for a sample: a class, several classes, or a number."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, compress, repeat
from typing import TYPE_CHECKING, TypeVar, cast

import numpy as np
import numpy.typing as npt

from analog_lora_cli.config.sections.task import TaskSection
from analog_lora_cli.tasks.base import EvalSet, FloatArray, Processor, Scorer, Task
from analog_lora_cli.tasks.chosen_metrics import ChosenMetrics
from analog_lora_cli.tasks.classification.answers import Answers
from analog_lora_cli.tasks.data.features import FeatureValue, mapped_features
from analog_lora_cli.tasks.metric import Metric
from analog_lora_cli.tasks.sample_statistics import LABEL
from analog_lora_cli.tasks.scores import PREDICTION, Column, Scores, columns_of

if TYPE_CHECKING:
    import datasets
    from torch import Tensor
    from transformers.utils import ModelOutput

Rows = npt.NDArray[np.intp]
Sample = TypeVar("Sample")


def at_rows(samples: Iterable[Sample], rows: Rows) -> Iterator[Sample]:
    """The samples of some rows, in their order. All are read, so that a mistake in the last is known."""
    mask = np.zeros(rows.max(initial=-1) + 1, dtype=bool)
    mask[rows] = True
    del rows
    return compress(samples, chain(mask, repeat(False)))


class Labelled(Task):
    """One label for a sample.

    What is read is a split: `train`, or one of `sets`.
    """

    def __init__(self, config: TaskSection, seed: int) -> None:
        super().__init__(config, seed)
        self._gold: dict[str, Column] = {}

    @property
    def sets(self) -> tuple[str, ...]:
        """Names of the validation sets. Metrics of those after the first have the set's name in theirs."""
        return ("validation",)

    @property
    @abstractmethod
    def answers(self) -> Answers:
        """What the model's outputs stand for."""

    @property
    @abstractmethod
    def chosen(self) -> ChosenMetrics:
        """The metrics of each validation set."""

    @abstractmethod
    def labels(self, split: str) -> Column:
        """The labels of all samples of a split, (N,), or (N, C) for sets of classes."""

    @abstractmethod
    def inputs(self, split: str, rows: Rows, processor: Processor) -> Iterator[Mapping[str, FeatureValue]]:
        """The model's inputs for some samples of a split, in their order."""

    @property
    def metrics(self) -> tuple[Metric, ...]:  # type: ignore[override]
        """The metrics, the headline first."""
        return tuple(
            replace(metric, name=self._metric_name(metric.name, name), sample_set=name)
            for name in self.sets
            for metric in self.chosen.metrics
        )

    def model_options(self) -> dict[str, object]:
        """`num_labels` and `problem_type`; for classes also `id2label` and `label2id`."""
        return self.answers.model_options()

    def train_features(self, processor: Processor) -> datasets.Dataset:
        self.chosen.load()
        rows, labels = self.training_labels()
        inputs = self.inputs("train", rows, processor)
        del rows
        return mapped_features(
            {**one, "labels": self.answers.feature(label)} for one, label in zip(inputs, labels, strict=True)
        )

    def training_labels(self) -> tuple[Rows, Column]:
        """Indices of the training samples that are drawn, see `training_subset`, and their labels."""
        labels = self.labels("train")
        # As arrays: a million rows as Python numbers would take tens of megabytes.
        rows = np.array(self.training_subset(len(labels)), dtype=np.intp)
        return rows, labels[rows]

    def eval_sets(self, processor: Processor) -> list[EvalSet]:
        sets = []
        for name in self.sets:
            gold = self._gold_of(name)
            features = mapped_features(self.inputs(name, np.arange(len(gold)), processor))
            sets.append(EvalSet(name, features, self._scorer(name, gold), columns_of(LABEL, gold)))
        return sets

    def outputs(self, result: ModelOutput, lengths: Sequence[int]) -> list[FloatArray]:
        """Logits or the number, (W,)."""
        return list(result.logits.float().cpu().numpy())

    def choices(self, result: ModelOutput, inputs: Mapping[str, Tensor]) -> list[Tensor]:
        return [self.answers.choices(result["logits"])]

    def baseline_score(self) -> dict[str, float]:
        """Each metric of the constant answer that is the best for it, such as the most frequent class or the mean."""
        scores: dict[str, float] = {}
        for name in self.sets:
            gold = self._gold_of(name)
            constants = [cast(Column, np.broadcast_to(one, gold.shape)) for one in self.answers.constants(gold)]
            values = [self.chosen.values(predicted, gold) for predicted in constants]
            for metric in self.chosen.metrics:
                best = (max if metric.higher_is_better else min)(each[metric.name] for each in values)
                scores[self._metric_name(metric.name, name)] = best
        return scores

    def _scorer(self, name: str, gold: Column) -> Scorer:
        width = self.answers.width

        def scorer(outputs: Sequence[FloatArray]) -> Scores:
            values = np.stack(outputs)
            if values.shape[1:] != (width,):
                raise ValueError(f"outputs of shape {values.shape[1:]}, expected ({width},)")
            predicted = self.answers.predicted(values)
            metrics = self.chosen.values(predicted, gold)
            named = {self._metric_name(metric, name): value for metric, value in metrics.items()}
            return Scores(named, columns_of(PREDICTION, predicted))

        return scorer

    def _gold_of(self, name: str) -> Column:
        """Labels of the samples of a validation set that are measured."""
        if name not in self._gold:
            self._gold[name] = self.labels(name)[: self.config.max_eval_samples]
        return self._gold[name]

    def _metric_name(self, metric: str, name: str) -> str:
        return metric if name == self.sets[0] else f"{metric}_{name}"
