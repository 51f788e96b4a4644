"""The `task` section of classification and regression on a user's own columns."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from analog_lora_cli.config.effects import Affects
from analog_lora_cli.config.metrics import Compared
from analog_lora_cli.config.registry import TASKS
from analog_lora_cli.config.sections.labelled import ClassesSection, LabelledSection
from analog_lora_cli.config.sections.own_data import OwnDataSection


class LabelledTextSection(LabelledSection, OwnDataSection):
    """Base of the tasks with one label for a text or a pair of texts, in columns of any name."""

    input_key: ClassVar[str] = "text_columns"

    text_columns: Annotated[list[str], Affects("architecture", "score", "training")] = Field(
        default=["text"], min_length=1, max_length=2
    )
    """Column of the text; two columns are read as a pair."""

    @property
    def input_columns(self) -> list[str]:
        """See `LabelledSection`."""
        return self.text_columns


class ClassificationSection(ClassesSection, LabelledTextSection):
    """One of several classes for a text or a pair of texts, or any number of them, in columns of any name."""

    name: Annotated[Literal["classification"], Affects("architecture", "score", "training")] = "classification"
    """Classes of texts. Files are CSV, TSV, JSON, JSONL, Parquet or Arrow with columns of any name."""


class RegressionSection(LabelledTextSection):
    """A number for a text or a pair of texts, in columns of any name."""

    name: Annotated[Literal["regression"], Affects("architecture", "score", "training")] = "regression"
    """Numbers for texts. Files are CSV, TSV, JSON, JSONL, Parquet or Arrow with columns of any name."""

    @property
    def smooths_labels(self) -> bool:
        return False

    @property
    def compares(self) -> Compared:
        """See `MeasuredSection`."""
        return "numbers"


TASKS.register(["classification"], ClassificationSection)
TASKS.register(["regression"], RegressionSection)
