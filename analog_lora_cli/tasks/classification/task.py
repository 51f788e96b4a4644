"""Classification and regression of texts, or pairs of texts, in columns of any name."""

from __future__ import annotations

from abc import abstractmethod
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from analog_lora_cli.config.metrics import ModuleMetric
from analog_lora_cli.config.sections.classification import (
    ClassificationSection,
    LabelledTextSection,
    RegressionSection,
)
from analog_lora_cli.config.sections.task import TaskSection
from analog_lora_cli.runtime import console
from analog_lora_cli.runtime.package_files import is_package_path
from analog_lora_cli.tasks.base import EvalSet, Example, FloatArray, Task
from analog_lora_cli.tasks.chosen_metrics import ChosenMetrics
from analog_lora_cli.tasks.classification.labels import check_classes, class_name, in_order, number, unknown_class
from analog_lora_cli.tasks.data.features import mapped_features
from analog_lora_cli.tasks.data.files import locate, text_value
from analog_lora_cli.tasks.data.source import DataSource
from analog_lora_cli.tasks.data.texts import encoded_texts
from analog_lora_cli.tasks.metric import Metric
from analog_lora_cli.tasks.sample_statistics import LABEL
from analog_lora_cli.tasks.scores import PREDICTION, Column, Scores

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedTokenizerBase
    from transformers.utils import ModelOutput

FEW_SAMPLES = 10
"""A class with fewer training samples is hardly learned."""
RARE = 0.02
"""A class with a smaller share of the training samples is named in a warning."""


@dataclass(frozen=True)
class _Labels:
    """The labels of all rows of a file, which is read once for them."""

    codes: npt.NDArray[np.int32] | npt.NDArray[np.float64]
    """(rows,) index into `names`; numbers themselves."""
    names: list[str]
    """Names of classes in the order of their first rows; empty for numbers."""
    places: list[str]
    """Position of the first row of each."""


class LabelledTexts(Task):
    """Base of the tasks with one label for a text or a pair of texts. Texts are read when they are tokenized."""

    section: ClassVar[type[TaskSection]]
    config: LabelledTextSection
    auto_class_name = "AutoModelForSequenceClassification"
    peft_task_type = "SEQ_CLS"
    pipeline_tag = "text-classification"
    default_metrics: ClassVar[tuple[str, ...]]

    def __init__(self, config: LabelledTextSection, seed: int) -> None:
        super().__init__(config, seed)
        self.source = DataSource(config)
        self._scans: dict[str, _Labels] = {}

    @property
    @abstractmethod
    def width(self) -> int:
        """Number of the model's outputs."""

    @property
    @abstractmethod
    def chosen(self) -> ChosenMetrics:
        """The metrics that are measured."""

    @abstractmethod
    def scan(self, role: str) -> _Labels:
        """The labels of all rows of `train` or `validation`, in the order of the file."""

    @abstractmethod
    def labels(self, role: str) -> Column:
        """The labels of the samples of `train` or `validation`: numbers of classes, or numbers."""

    @abstractmethod
    def predicted(self, outputs: npt.NDArray[np.floating]) -> Column:
        """Predicted classes or numbers of (samples, width) outputs, (samples,)."""

    @abstractmethod
    def constant(self, gold: Column) -> float | int:
        """The best answer that ignores the input."""

    @property
    def metrics(self) -> tuple[Metric, ...]:  # type: ignore[override]
        """The metrics, the headline first."""
        return self.chosen.metrics

    @property
    def choices_of_metrics(self) -> list[str | ModuleMetric]:
        """`task.metrics`, or the defaults."""
        return list(self.default_metrics) if self.config.metrics is None else self.config.metrics

    @property
    def example(self) -> Example:
        pair = ("The weights lie on tiles.", "The tiles hold the weights.")
        return Example(pair[: len(self.config.text_columns)], "outputs.logits")

    def train_features(self, tokenizer: PreTrainedTokenizerBase) -> datasets.Dataset:
        self.chosen.load()
        labels = self.labels("train")
        # As arrays: a million rows as Python numbers would take tens of megabytes.
        chosen = np.array(self.training_subset(len(labels)), dtype=np.int32)
        labels, rows = labels[chosen], self._indices("train")[chosen]
        del chosen
        inputs = encoded_texts(self._texts("train", rows), tokenizer, self.config.max_length)
        return mapped_features({**one, "labels": label.item()} for one, label in zip(inputs, labels, strict=True))

    def eval_sets(self, tokenizer: PreTrainedTokenizerBase) -> list[EvalSet]:
        gold = self._gold
        rows = self._indices("validation")[: len(gold)]
        features = mapped_features(encoded_texts(self._texts("validation", rows), tokenizer, self.config.max_length))

        def scorer(outputs: Sequence[FloatArray]) -> Scores:
            values = np.stack(outputs)
            if values.shape[1:] != (self.width,):
                raise ValueError(f"outputs of shape {values.shape[1:]}, expected ({self.width},)")
            predicted = self.predicted(values)
            return Scores(self.chosen.values(predicted, gold), {PREDICTION: predicted})

        return [EvalSet("validation", features, scorer, {LABEL: gold})]

    def outputs(self, result: ModelOutput, lengths: Sequence[int]) -> list[FloatArray]:
        """Logits or the number, (width,)."""
        return list(result.logits.float().cpu().numpy())

    def baseline_score(self) -> dict[str, float]:
        """Metrics of the best constant answer: the most frequent class, or the mean."""
        return self.chosen.values(np.full(len(self._gold), self.constant(self._gold)), self._gold)

    def data_files(self) -> dict[str, Path]:
        """As `Task.data_files`; the training file is that of the validation too, if it is split.

        A training file that is gone is left out where the validation data are their own: what it says about the model
        is in the checkpoint.
        """
        roles = {"train": self.config.train_file, "validation": self.config.validation_file}
        files: dict[str, Path] = {}
        for role, name in roles.items():
            needed = role == "validation" or self.source.splits_training_data
            if name is not None and (needed or is_package_path(name) or Path(name).expanduser().is_file()):
                files[role] = locate(name, f"task.{role}_file")
        if self.source.splits_training_data and "train" in files:
            files["validation"] = files["train"]
        return files

    @cached_property
    def _gold(self) -> Column:
        return self.labels("validation")[: self.config.max_eval_samples]

    def _indices(self, role: str) -> npt.NDArray[np.intp]:
        """Rows of the file of a role that belong to it."""
        return self.source.share_of(role, len(self._scanned(role).codes))

    def _scanned(self, role: str) -> _Labels:
        role = "train" if self.source.splits_training_data else role
        if role not in self._scans:
            self._scans[role] = self.scan(role)
        return self._scans[role]

    def _texts(self, role: str, rows: npt.NDArray[np.intp]) -> Iterator[tuple[str, ...]]:
        """Texts of some rows, in their order. All rows are read, so that a mistake in the last is known."""
        mask = np.zeros(len(self._scanned(role).codes), dtype=bool)
        mask[rows] = True
        del rows
        name, columns = self.source.name(role), self.config.text_columns
        texts = (
            tuple(text_value(row.values[one], f"{name}, {row.where}: column {one!r}") for one in columns)
            for row in self.source.rows(role, columns)
        )
        return compress(texts, mask)


class TextClassification(LabelledTexts):
    """One of several classes, found in the training data or given in `task.labels`."""

    section = ClassificationSection
    config: ClassificationSection
    default_metrics = ("accuracy", "f1")

    @cached_property
    def names(self) -> list[str]:
        """Names of the classes, in the order of the model's outputs.

        Raises:
            DataError, HubError, UsageError: the training data, which are asked where `task.labels` is null, cannot be
                read, or have no classes.
        """
        if self.config.labels is not None:
            return self.config.labels
        scanned = self._scanned("train")
        codes = scanned.codes[self._indices("train")]
        names = in_order(scanned.names[code] for code in np.unique(codes))
        check_classes(names, len(codes), self.source.name("train"), self.config.label_column)
        return names

    def settled(self) -> TaskSection:
        return self.config.model_copy(update={"labels": self.names})

    @property
    def width(self) -> int:
        return len(self.names)

    @cached_property
    def chosen(self) -> ChosenMetrics:
        return ChosenMetrics(self.choices_of_metrics, self.width)

    def model_options(self) -> dict[str, object]:
        """`num_labels`, `problem_type`, `id2label` and `label2id`."""
        return {
            "num_labels": self.width,
            "problem_type": "single_label_classification",
            "id2label": dict(enumerate(self.names)),
            "label2id": {name: index for index, name in enumerate(self.names)},
        }

    def train_features(self, tokenizer: PreTrainedTokenizerBase) -> datasets.Dataset:
        self._warn_of_rare_classes()
        return super().train_features(tokenizer)

    def scan(self, role: str) -> _Labels:
        numbers: dict[str, int] = {}
        places: list[str] = []
        codes = array("i")
        source, column = self.source.name(role), self.config.label_column
        for row in self.source.rows(role, [*self.config.text_columns, column]):
            name = class_name(row.values[column], f"{source}, {row.where}, column {column!r}")
            if name not in numbers:
                numbers[name] = len(numbers)
                places.append(f"{source}, {row.where}, column {column!r}")
            codes.append(numbers[name])
        return _Labels(np.array(codes, dtype=np.int32), list(numbers), places)

    def labels(self, role: str) -> Column:
        scanned = self._scanned(role)
        known = {name: index for index, name in enumerate(self.names)}
        codes = scanned.codes[self._indices(role)]
        for code in np.unique(codes):
            if scanned.names[code] not in known:
                raise unknown_class(
                    scanned.names[code], scanned.places[code], self.names, role, self.config.labels is not None
                )
        classes: Column = np.array([known.get(name, -1) for name in scanned.names], dtype=np.int32)[codes]
        return classes

    def predicted(self, outputs: npt.NDArray[np.floating]) -> Column:
        classes: Column = outputs.argmax(axis=1)
        return classes

    def constant(self, gold: Column) -> float | int:
        return int(np.bincount(gold).argmax())

    def _warn_of_rare_classes(self) -> None:
        counts = np.bincount(self.labels("train"), minlength=self.width)
        rare = [
            f"{name} ({count})"
            for name, count in zip(self.names, counts.tolist(), strict=True)
            if count < max(FEW_SAMPLES, RARE * counts.sum())
        ]
        if rare and counts.sum() >= FEW_SAMPLES * self.width:
            console.warn(
                f"task.label_column: few of the {counts.sum()} training samples are of {', '.join(rare)}; a metric "
                "such as f1_macro in task.metrics shows whether such classes are learned"
            )


class TextRegression(LabelledTexts):
    """A number."""

    section = RegressionSection
    config: RegressionSection
    default_metrics = ("pearson", "spearman")
    width = 1

    @cached_property
    def chosen(self) -> ChosenMetrics:
        return ChosenMetrics(self.choices_of_metrics, 0)

    def model_options(self) -> dict[str, object]:
        """`num_labels` and `problem_type`."""
        return {"num_labels": 1, "problem_type": "regression"}

    def scan(self, role: str) -> _Labels:
        source, column = self.source.name(role), self.config.label_column
        rows = self.source.rows(role, [*self.config.text_columns, column])
        values = [number(row.values[column], f"{source}, {row.where}, column {column!r}") for row in rows]
        return _Labels(np.array(values, dtype=np.float64), [], [])

    def labels(self, role: str) -> Column:
        return self._scanned(role).codes[self._indices(role)]

    def predicted(self, outputs: npt.NDArray[np.floating]) -> Column:
        return outputs[:, 0]

    def constant(self, gold: Column) -> float | int:
        return float(gold.mean())
