"""Keys of the tasks that learn from a user's own files, or from any data set of the hub."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from analog_lora_cli.config.effects import Affects, Unit
from analog_lora_cli.config.sections.task import TaskSection, TokenSection


def check_different(columns: Sequence[str], keys: str) -> None:
    """Check that no column is named twice.

    Args:
        columns: names of columns.
        keys: the keys that name them, for the message.

    Raises:
        ValueError: one is.
    """
    twice = [name for name in columns if columns.count(name) > 1]
    if twice:
        raise ValueError(f"the column {twice[0]!r} stands twice among {keys}")


class SplitSection(TaskSection):
    """Base of the tasks whose validation data may be a share of the training data."""

    validation_share: Annotated[float, Affects("training", "score"), Unit("share of the training samples")] = Field(
        default=0.1, gt=0, lt=1
    )
    """Share of the training data that is kept apart for validation where no validation data are given. The same
    samples for every `train.seed`."""


class OwnDataSection(SplitSection, TokenSection):
    """Base of the tasks of text without a data set of their own."""

    dataset: Annotated[str | None, Affects("training", "score")] = None
    """Data set on the hub, for the files that are null: `REPOSITORY/NAME`."""

    dataset_config: Annotated[str | None, Affects("training", "score")] = None
    """Configuration of the hub's data set; null: its only one."""

    train_split: Annotated[str, Affects("training", "score")] = "train"
    """Split of the hub's data set to train on."""

    validation_split: Annotated[str | None, Affects("score")] = None
    """Split of the hub's data set to validate on; null: a share of the training data, see `validation_share`."""
