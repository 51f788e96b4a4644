"""The `task` section of classification and regression on a user's own columns."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from analog_lora_cli.config.effects import Affects
from analog_lora_cli.config.metrics import METRICS, Metrics, ModuleMetric, check_metrics
from analog_lora_cli.config.registry import TASKS
from analog_lora_cli.config.sections.own_data import OwnDataSection
from analog_lora_cli.config.sections.task import TaskSection


class LabelledTextSection(OwnDataSection):
    """Base of the tasks with one label for a text or a pair of texts, in columns of any name."""

    of_classes: ClassVar[bool] = True
    """Whether labels are classes; else numbers."""

    text_columns: Annotated[list[str], Affects("architecture", "score", "training")] = Field(
        default=["text"], min_length=1, max_length=2
    )
    """Column of the text; two columns are read as a pair."""

    label_column: Annotated[str, Affects("training", "score")] = "label"
    """Column of the label."""

    metrics: Annotated[list[str | ModuleMetric] | None, Field(min_length=1), Metrics(METRICS), Affects("score")] = None
    """Metrics, the headline first; f1, precision and recall are those of the second of two classes, and the mean over
    more. Any other module of `evaluate` is named with its direction, and with `unit`, `scale`, `value` (an entry of its
    result) and `options` where need be; its code is run. null: accuracy and f1, or pearson and spearman."""

    @model_validator(mode="after")
    def _metrics_suit(self) -> LabelledTextSection:
        columns = [*self.text_columns, self.label_column]
        twice = [name for name in columns if columns.count(name) > 1]
        if twice:
            raise ValueError(f"the column {twice[0]!r} stands twice among text_columns and label_column")
        if self.metrics is not None:
            try:
                check_metrics(self.metrics, self.of_classes)
            except ValueError as error:
                raise ValueError(f"metrics: {error}") from error
        return self

    @property
    def own_code(self) -> list[str]:
        return [metric.name for metric in self.metrics or [] if isinstance(metric, ModuleMetric)]


class ClassificationSection(LabelledTextSection):
    """One of several classes for a text or a pair of texts, in columns of any name."""

    name: Annotated[Literal["classification"], Affects("architecture", "score", "training")] = "classification"
    """Classes of texts. Files are CSV, TSV, JSON, JSONL, Parquet or Arrow with columns of any name."""

    labels: Annotated[list[str] | None, Affects("architecture", "score", "training")] = Field(
        default=None, min_length=2
    )
    """Names of the classes, in the order of the model's outputs; null: those in the training data, sorted. A checkpoint
    holds them."""

    def same_head(self, other: TaskSection) -> bool:
        """Whether the other task has the same classes too."""
        return super().same_head(other) and isinstance(other, ClassificationSection) and self.labels == other.labels


class RegressionSection(LabelledTextSection):
    """A number for a text or a pair of texts, in columns of any name."""

    of_classes: ClassVar[bool] = False

    name: Annotated[Literal["regression"], Affects("architecture", "score", "training")] = "regression"
    """Numbers for texts. Files are CSV, TSV, JSON, JSONL, Parquet or Arrow with columns of any name."""


TASKS.register(["classification"], ClassificationSection)
TASKS.register(["regression"], RegressionSection)
