"""Labels of a user's own data: the base of the tasks on them, and of those whose labels are classes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from analog_lora_cli.config.metrics import Compared
from analog_lora_cli.config.sections.labelled import ClassesSection, LabelledSection
from analog_lora_cli.config.sections.task import TaskSection
from analog_lora_cli.tasks.chosen_metrics import ChosenMetrics
from analog_lora_cli.tasks.classification.answers import Classes, ClassSet, OneClass, Weights
from analog_lora_cli.tasks.classification.class_weights import (
    check_weights,
    class_weights,
    show_weights,
    warn_of_rare_classes,
)
from analog_lora_cli.tasks.classification.labelled import Labelled, Rows
from analog_lora_cli.tasks.classification.labels import check_classes, class_name, class_names, in_order, unknown_class
from analog_lora_cli.tasks.classification.scan import LabelScan
from analog_lora_cli.tasks.data.source import SplitSource
from analog_lora_cli.tasks.scores import Column

if TYPE_CHECKING:
    from torch import Tensor
    from transformers.utils import ModelOutput

_DEFAULT_METRICS: Mapping[Compared, Sequence[str]] = {
    "classes": ("accuracy", "f1"),
    "sets of classes": ("f1_micro", "f1_macro", "accuracy"),
    "numbers": ("pearson", "spearman"),
}


class OwnLabels(Labelled):
    """Base of the tasks with one label for a sample on a user's own data."""

    config: LabelledSection
    source: SplitSource

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

    def values(self, role: str) -> Iterator[tuple[str, object]]:
        """The value of the label column of all rows of the file of a role, and its place for messages."""
        source, column = self.source.name(role), self.config.label_column
        for row in self.source.rows(role, [*self.config.input_columns, column]):
            yield f"{source}, {row.where}, column {column!r}", row.values[column]

    def data_files(self) -> dict[str, Path]:
        return self.source.files()


class OwnClasses(OwnLabels):
    """Base of the tasks of one of several classes, or of any number of them, found in the training data or given in
    `task.labels`."""

    config: ClassesSection

    def __init__(self, config: ClassesSection, seed: int) -> None:
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

    def note_training_data(self) -> None:
        _, labels = self.training_labels()
        counts = self.answers.counts(labels)
        warn_of_rare_classes(self.names, counts, len(labels), self._weights is not None)
        if self._weights is not None:
            show_weights(self.names, counts, self._weights)

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
            self.config.class_weights, self.names, lambda: self.answers.balanced_weights(self.training_labels()[1])
        )

    def _classes(self, value: object, where: str) -> list[str]:
        if self.config.multi_label:
            return class_names(value, self.config.label_separator, where)
        return [class_name(value, where)]
