"""Classification and regression of texts, or pairs of texts, in columns of any name."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from analog_lora_cli.config.metrics import Compared
from analog_lora_cli.config.sections.classification import (
    ClassificationSection,
    LabelledTextSection,
    RegressionSection,
)
from analog_lora_cli.config.sections.task import TaskSection
from analog_lora_cli.tasks.chosen_metrics import ChosenMetrics
from analog_lora_cli.tasks.classification.answers import Answers, Classes, ClassSet, Number, OneClass, Weights
from analog_lora_cli.tasks.classification.class_weights import (
    check_weights,
    class_weights,
    show_weights,
    warn_of_rare_classes,
)
from analog_lora_cli.tasks.classification.labelled_texts import LabelledTexts, Rows, at_rows
from analog_lora_cli.tasks.classification.labels import (
    check_classes,
    class_name,
    class_names,
    in_order,
    number,
    unknown_class,
)
from analog_lora_cli.tasks.classification.scan import LabelScan
from analog_lora_cli.tasks.data.files import text_value
from analog_lora_cli.tasks.data.source import DataSource
from analog_lora_cli.tasks.scores import Column

if TYPE_CHECKING:
    import datasets
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase
    from transformers.utils import ModelOutput

_DEFAULT_METRICS: Mapping[Compared, Sequence[str]] = {
    "classes": ("accuracy", "f1"),
    "sets of classes": ("f1_micro", "f1_macro", "accuracy"),
    "numbers": ("pearson", "spearman"),
}


class OwnLabelledTexts(LabelledTexts):
    """Base of the tasks with one label for a text or a pair of texts on a user's own columns."""

    config: LabelledTextSection

    def __init__(self, config: LabelledTextSection, seed: int) -> None:
        super().__init__(config, seed)
        self.source = DataSource(config)

    @property
    def text_columns(self) -> Sequence[str]:
        return self.config.text_columns

    @cached_property
    def chosen(self) -> ChosenMetrics:
        compared = self.config.compares
        choices = self.config.metrics
        return ChosenMetrics(
            list(_DEFAULT_METRICS[compared]) if choices is None else choices, compared, self.answers.width
        )

    @abstractmethod
    def rows_of(self, role: str) -> int:
        """Number of rows of the file that `train` or `validation` is in."""

    def indices(self, role: str) -> Rows:
        """Rows of the file of `train` or `validation` that belong to it."""
        return self.source.share_of(role, self.rows_of(role))

    def texts(self, split: str, rows: Rows) -> Iterator[tuple[str, ...]]:
        name, columns = self.source.name(split), self.config.text_columns
        texts = (
            tuple(text_value(row.values[one], f"{name}, {row.where}: column {one!r}") for one in columns)
            for row in self.source.rows(split, columns)
        )
        return at_rows(texts, self.indices(split)[rows])

    def values(self, role: str) -> Iterator[tuple[str, object]]:
        """The value of the label column of all rows of the file of a role, and its place for messages."""
        source, column = self.source.name(role), self.config.label_column
        for row in self.source.rows(role, [*self.config.text_columns, column]):
            yield f"{source}, {row.where}, column {column!r}", row.values[column]

    def data_files(self) -> dict[str, Path]:
        return self.source.files()


class TextClassification(OwnLabelledTexts):
    """One of several classes, or any number of them, found in the training data or given in `task.labels`."""

    section = ClassificationSection
    config: ClassificationSection

    def __init__(self, config: ClassificationSection, seed: int) -> None:
        super().__init__(config, seed)
        self._scans: dict[str, LabelScan] = {}

    @cached_property
    def names(self) -> list[str]:
        """Names of the classes, in the order of the model's outputs.

        Raises:
            DataError, HubError, UsageError: the training data, which are asked where `task.labels` is null, cannot be
                read, or have no classes.
        """
        if self.config.labels is not None:
            return self.config.labels
        rows = self.indices("train")
        names = in_order(self.scan("train").names_in(rows))
        check_classes(names, len(rows), self.source.name("train"), self.config.label_column)
        return names

    @cached_property
    def answers(self) -> Classes:
        return ClassSet(self.names, self.config.threshold) if self.config.multi_label else OneClass(self.names)

    def settled(self) -> TaskSection:
        check_weights(self.config.class_weights, self.names)
        return self.config.model_copy(update={"labels": self.names})

    def train_features(self, tokenizer: PreTrainedTokenizerBase) -> datasets.Dataset:
        labels = self.labels("train")
        counts = self.answers.counts(labels)
        warn_of_rare_classes(self.names, counts, len(labels), self._weights is not None)
        if self._weights is not None:
            show_weights(self.names, counts, self._weights)
        return super().train_features(tokenizer)

    def batch_loss(self, result: ModelOutput, inputs: Mapping[str, Tensor]) -> Tensor | None:
        """The loss with `task.class_weights`; None without."""
        import torch

        if self._weights is None:
            return None
        logits = result["logits"]
        return self.answers.weighted_loss(logits, inputs["labels"], torch.from_numpy(self._weights).to(logits.device))

    def scan(self, role: str) -> LabelScan:
        """The labels of all rows of the file that `train` or `validation` is in."""
        role = self.source.file_role(role)
        if role not in self._scans:
            self._scans[role] = LabelScan.of((where, self._classes(value, where)) for where, value in self.values(role))
        return self._scans[role]

    def rows_of(self, role: str) -> int:
        return self.scan(role).rows

    def labels(self, split: str) -> Column:
        scan, rows = self.scan(split), self.indices(split)
        unknown = [name for name in scan.names_in(rows) if name not in set(self.names)]
        if unknown:
            stored = self.config.labels is not None
            raise unknown_class(unknown[0], scan.place(unknown[0]), self.names, split, stored)
        return (scan.sets if self.config.multi_label else scan.classes)(rows, self.names)

    @cached_property
    def _weights(self) -> Weights | None:
        """Weight of each class in the training loss; None: all have the same."""
        return class_weights(
            self.config.class_weights, self.names, lambda: self.answers.balanced_weights(self.labels("train"))
        )

    def _classes(self, value: object, where: str) -> list[str]:
        if self.config.multi_label:
            return class_names(value, self.config.label_separator, where)
        return [class_name(value, where)]


class TextRegression(OwnLabelledTexts):
    """A number."""

    section = RegressionSection
    config: RegressionSection

    def __init__(self, config: RegressionSection, seed: int) -> None:
        super().__init__(config, seed)
        self._numbers: dict[str, npt.NDArray[np.float64]] = {}

    @property
    def answers(self) -> Answers:
        return Number()

    def scan(self, role: str) -> npt.NDArray[np.float64]:
        """The numbers of all rows of the file that `train` or `validation` is in."""
        role = self.source.file_role(role)
        if role not in self._numbers:
            self._numbers[role] = np.fromiter((number(value, where) for where, value in self.values(role)), np.float64)
        return self._numbers[role]

    def rows_of(self, role: str) -> int:
        return len(self.scan(role))

    def labels(self, split: str) -> Column:
        return self.scan(split)[self.indices(split)]
