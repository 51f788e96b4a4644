"""The `task` section of tags for the words of a text."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from analog_lora_cli.config.effects import Affects, Unit
from analog_lora_cli.config.metrics import METRICS, Compared, Metrics, ModuleMetric
from analog_lora_cli.config.registry import TASKS
from analog_lora_cli.config.sections.measured import MeasuredSection
from analog_lora_cli.config.sections.own_data import OwnDataSection
from analog_lora_cli.config.sections.task import TaskSection


class TokenClassificationSection(OwnDataSection, MeasuredSection):
    """A tag for each word: named entities, parts of speech."""

    name: Annotated[Literal["token_classification"], Affects("architecture", "score", "training")] = (
        "token_classification"
    )
    """Tags of words. Files are JSON, JSONL, Parquet or Arrow with a list of words and a list of tags in each row; files
    with another ending are CoNLL text: a word and, as the last field of its line, its tag; an empty line between two
    sentences."""

    tokens_column: Annotated[str, Affects("architecture", "score", "training")] = "tokens"
    """Column of the lists of words; CoNLL text has `tokens`."""

    tags_column: Annotated[str, Affects("training", "score")] = "tags"
    """Column of the lists of tags, names or numbers; CoNLL text has `tags`."""

    labels: Annotated[list[str] | None, Affects("architecture", "score", "training")] = Field(
        default=None, min_length=2
    )
    """Names of the tags, in the order of the model's outputs; null: those in the training data, sorted. A checkpoint
    holds them."""

    metrics: Annotated[list[str | ModuleMetric] | None, Field(min_length=1), Metrics(METRICS), Affects("score")] = None
    """Metrics, the headline first: f1, precision and recall are those of whole entities, as seqeval counts them,
    accuracy that of words. Any other module of `evaluate` gets a list of names for each sentence. null: the four, but
    accuracy alone where tags mark no entities as B-PER and I-PER do."""

    doc_stride: Annotated[int | None, Affects("architecture", "read", "training"), Unit("tokens")] = Field(
        default=None, ge=0
    )
    """Overlap of the windows of a sentence of more than `max_length` tokens; null: a quarter of it. A word counts in
    one window, where it stands farthest from the edges."""

    @model_validator(mode="after")
    def _columns_and_windows_suit(self) -> TokenClassificationSection:
        if self.tokens_column == self.tags_column:
            raise ValueError(f"tags_column: {self.tags_column!r} is the tokens_column too")
        if self.doc_stride is not None and self.doc_stride >= self.max_length:
            raise ValueError(f"doc_stride ({self.doc_stride}) must be below max_length ({self.max_length})")
        return self

    @property
    def compares(self) -> Compared:
        """See `MeasuredSection`."""
        return "tags"

    @property
    def overlap(self) -> int:
        """Tokens that two windows of a sentence share."""
        return self.max_length // 4 if self.doc_stride is None else self.doc_stride

    def same_head(self, other: TaskSection) -> bool:
        """Whether the other task has the same tags too."""
        return (
            super().same_head(other) and isinstance(other, TokenClassificationSection) and self.labels == other.labels
        )


TASKS.register(["token_classification"], TokenClassificationSection)
