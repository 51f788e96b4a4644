"""The `task` section of questions with several choices."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from analog_lora_cli.config.effects import Affects
from analog_lora_cli.config.registry import TASKS
from analog_lora_cli.config.sections.own_data import OwnDataSection, check_different

AnswerForm = Literal["index", "number", "letter", "text", "name"]


class MultipleChoiceSection(OwnDataSection):
    """Questions with several choices, one of which is right, in columns of any name."""

    name: Annotated[Literal["multiple_choice"], Affects("architecture", "score", "training")] = "multiple_choice"
    """Questions with choices. Files are CSV, TSV, JSON, JSONL, Parquet or Arrow with columns of any name."""

    context_column: Annotated[str | None, Affects("architecture", "score", "training")] = None
    """Column of a text that the question is about, such as a passage: read as a pair with the question followed by the
    choice. null: question and choice are the pair."""

    question_column: Annotated[str, Affects("architecture", "score", "training")] = "question"
    """Column of the question, or of a text that the choices go on with."""

    choice_columns: Annotated[list[str], Affects("score", "training")] = Field(default=["choices"], min_length=1)
    """Columns of the choices, one each: rows with fewer leave the last ones empty. A single column holds a list of
    texts, or `{text: [...], label: [...]}`, as ARC has it."""

    label_column: Annotated[str, Affects("training", "score")] = "label"
    """Column of the right choice."""

    label_form: Annotated[AnswerForm | Literal["auto"], Affects("training", "score")] = "auto"
    """How the right choice is named: `index` counts from 0, `number` from 1, `letter` from A; `text` is its text;
    `name` its column or, in ARC's form, its label. `auto`: the form that suits all training data; a checkpoint holds
    it."""

    @property
    def columns(self) -> list[str]:
        """All columns that are read."""
        context = [] if self.context_column is None else [self.context_column]
        return [*context, self.question_column, *self.choice_columns, self.label_column]

    @property
    def smooths_labels(self) -> bool:
        return False

    @property
    def own_loss(self) -> str:
        return f"task {self.name}"

    @model_validator(mode="after")
    def _columns_differ(self) -> MultipleChoiceSection:
        check_different(self.columns, "context_column, question_column, choice_columns and label_column")
        return self


TASKS.register(["multiple_choice"], MultipleChoiceSection)
