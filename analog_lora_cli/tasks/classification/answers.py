"""What the outputs of a model say about a text: a class, a set of classes, or a number.

Axes of arrays by suffix: N samples, C classes, W outputs of the model.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from analog_lora_cli.config.metrics import Compared
from analog_lora_cli.tasks.data.features import FeatureValue
from analog_lora_cli.tasks.scores import Column

if TYPE_CHECKING:
    from torch import Tensor

Counts = npt.NDArray[np.int64]
Weights = npt.NDArray[np.float32]


class Answers(ABC):
    """Answers that a model can give, and how its outputs stand for them.

    Labels and predictions are arrays of one answer a sample: (N,), or (N, C) for sets of classes.
    """

    compared: Compared
    """What the metrics compare."""
    expression = "outputs.logits"
    """Python expression for what a reader of an exported model wants, with `outputs` for the model's result."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Number W of the model's outputs."""

    @abstractmethod
    def model_options(self) -> dict[str, object]:
        """`num_labels` and `problem_type`; for classes also `id2label` and `label2id`."""

    @abstractmethod
    def predicted(self, outputs_NW: npt.NDArray[np.floating]) -> Column:
        """Answers of some outputs."""

    @abstractmethod
    def constants(self, gold: Column) -> list[Column]:
        """The best answers that ignore the input, one of which is the best for each metric."""

    def feature(self, label: Column) -> FeatureValue:
        """The label of one sample, as the model's own loss takes it."""
        value: FeatureValue = label.tolist()
        return value

    def choices(self, logits_NW: Tensor) -> Tensor:
        """Logits of each choice among alternatives; see `Task.choices`."""
        return logits_NW


class Classes(Answers):
    """The base of answers that are made of classes."""

    names: Sequence[str]
    """Names of the classes, in the order of the model's outputs."""
    problem_type: str
    """transformers' name for it."""

    @property
    def width(self) -> int:
        return len(self.names)

    def model_options(self) -> dict[str, object]:
        return {
            "num_labels": self.width,
            "problem_type": self.problem_type,
            "id2label": dict(enumerate(self.names)),
            "label2id": {name: index for index, name in enumerate(self.names)},
        }

    @abstractmethod
    def counts(self, labels: Column) -> Counts:
        """(C,) number of samples that are of each class."""

    @abstractmethod
    def balanced_weights(self, labels: Column) -> Weights:
        """(C,) weights of the loss with which each class counts as much as any other; 1 for a class without samples."""

    @abstractmethod
    def weighted_loss(self, logits_NW: Tensor, labels: Tensor, weights_C: Tensor) -> Tensor:
        """Mean loss of a batch, in which the classes have weights; scalar."""


@dataclass(frozen=True)
class OneClass(Classes):
    """One class for each sample: the one with the largest output."""

    names: Sequence[str]
    compared = "classes"
    problem_type = "single_label_classification"

    def predicted(self, outputs_NW: npt.NDArray[np.floating]) -> Column:
        classes: Column = outputs_NW.argmax(axis=1)
        return classes

    def counts(self, labels: Column) -> Counts:
        counted: Counts = np.bincount(labels, minlength=self.width)
        return counted

    def balanced_weights(self, labels: Column) -> Weights:
        """samples / (classes * samples of the class), as in scikit-learn."""
        counts = self.counts(labels)
        balanced: Weights = np.where(counts, len(labels) / (self.width * np.maximum(counts, 1)), 1).astype(np.float32)
        return balanced

    def weighted_loss(self, logits_NW: Tensor, labels: Tensor, weights_C: Tensor) -> Tensor:
        """Cross entropy, sum(weight * loss) / sum(weight) with the weight of each sample's class."""
        from torch.nn import functional

        return functional.cross_entropy(logits_NW.float(), labels, weights_C)

    def constants(self, gold: Column) -> list[Column]:
        """The most frequent class; of two also the second, whose f1 it is that counts."""
        classes = range(2) if self.width == 2 else [self.counts(gold).argmax()]
        return [np.array(one) for one in classes]


@dataclass(frozen=True)
class Number(Answers):
    """A number for each sample: the only output."""

    compared = "numbers"
    width = 1

    def model_options(self) -> dict[str, object]:
        return {"num_labels": 1, "problem_type": "regression"}

    def predicted(self, outputs_NW: npt.NDArray[np.floating]) -> Column:
        return outputs_NW[:, 0]

    def constants(self, gold: Column) -> list[Column]:
        """The mean."""
        return [np.array(gold.mean())]


@dataclass(frozen=True)
class ClassSet(Classes):
    """Any number of classes for each sample: those whose probability reaches a threshold."""

    names: Sequence[str]
    threshold: float
    """Probability from which a class is predicted."""
    compared = "sets of classes"
    expression = "outputs.logits.sigmoid()"
    problem_type = "multi_label_classification"

    def predicted(self, outputs_NW: npt.NDArray[np.floating]) -> Column:
        reached_NC: Column = (outputs_NW >= math.log(self.threshold / (1 - self.threshold))).astype(np.int8)
        return reached_NC

    def counts(self, labels: Column) -> Counts:
        counted: Counts = labels.sum(axis=0, dtype=np.int64)
        return counted

    def balanced_weights(self, labels: Column) -> Weights:
        """samples without the class / samples with it."""
        counts = self.counts(labels)
        absent = np.maximum(len(labels) - counts, 1)
        balanced: Weights = np.where(counts, absent / np.maximum(counts, 1), 1).astype(np.float32)
        return balanced

    def weighted_loss(self, logits_NW: Tensor, labels: Tensor, weights_C: Tensor) -> Tensor:
        """Binary cross entropy, the mean over samples and classes; weights are those of samples with the class."""
        from torch.nn import functional

        return functional.binary_cross_entropy_with_logits(logits_NW.float(), labels.float(), pos_weight=weights_C)

    def constants(self, gold: Column) -> list[Column]:
        """The most frequent set, the one with the largest micro F1, and that of all classes (of the largest macro F1).

        Of k classes the most frequent ones give the largest micro F1, 2 sum(share) / (k + sum(all shares)).
        """
        sets, frequency = np.unique(gold, axis=0, return_counts=True)
        share_C = self.counts(gold) / len(gold)
        order = np.argsort(-share_C, kind="stable")
        micro_f1 = share_C[order].cumsum() / (np.arange(1, self.width + 1) + share_C.sum())
        frequent = np.zeros(self.width, dtype=np.int8)
        frequent[order[: micro_f1.argmax() + 1]] = 1
        return [sets[frequency.argmax()], frequent, np.ones(self.width, dtype=np.int8)]

    def feature(self, label: Column) -> FeatureValue:
        return [float(one) for one in label]

    def choices(self, logits_NW: Tensor) -> Tensor:
        """Each class is a choice of its own, between yes and no."""
        import torch

        return torch.stack([logits_NW, torch.zeros_like(logits_NW)], dim=-1).flatten(0, 1)
