"""A user's own data: files or a data set of the hub, with columns of any name, perhaps without validation data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from analog_lora_cli.config.sections.own_data import OwnDataSection, SplitSection
from analog_lora_cli.errors import DataError, UsageError
from analog_lora_cli.runtime.package_files import is_package_path
from analog_lora_cli.tasks.data.files import Row, locate, read_table, require_columns
from analog_lora_cli.tasks.data.hub import load_hub_split


@dataclass(frozen=True)
class SplitSource(ABC):
    """Rows for training and validation, the latter perhaps a share of the former."""

    config: SplitSection

    @property
    def splits_training_data(self) -> bool:
        """Whether a share of the training data is the validation data."""
        return self.config.validation_file is None

    @abstractmethod
    def name(self, role: str) -> str:
        """Name of the file or data set of `train` or `validation`, for messages.

        Raises:
            DataError: the file does not exist.
            UsageError: neither file nor data set is named.
        """

    @abstractmethod
    def rows(self, role: str, columns: Sequence[str]) -> Iterator[Row]:
        """The rows of `train` or `validation`; both are all of the training data where no validation data are given.

        Raises:
            DataError, HubError, UsageError: the data cannot be read.
        """

    def locate(self, name: str, key: str) -> Path:
        """The local file that a configuration names; arguments and errors as for `files.locate`."""
        return locate(name, key)

    def file_role(self, role: str) -> str:
        """Role whose file or data set holds the rows of `train` or `validation`."""
        return "train" if self.splits_training_data else role

    def files(self) -> dict[str, Path]:
        """The local files by role, as `Task.data_files`; the training file is that of the validation too, if it is
        split.

        A training file that is gone is left out where the validation data are their own: what it says about the model
        is in the checkpoint.

        Raises:
            DataError, UsageError: as `Task.data_files`.
        """
        roles = {"train": self.config.train_file, "validation": self.config.validation_file}
        files: dict[str, Path] = {}
        for role, name in roles.items():
            needed = role == "validation" or self.splits_training_data
            if name is not None and (needed or is_package_path(name) or Path(name).expanduser().exists()):
                files[role] = self.locate(name, f"task.{role}_file")
        if self.splits_training_data and "train" in files:
            files["validation"] = files["train"]
        return files

    def share_of(self, role: str, count: int) -> npt.NDArray[np.intp]:
        """Indices of those of `count` rows that belong to `train` or `validation`, ascending.

        Raises:
            DataError: too few for both.
        """
        if not self.splits_training_data:
            return np.arange(count)
        kept = max(round(count * self.config.validation_share), 1)
        if kept >= count:
            raise DataError(
                f"{self.name(role)}: {count} samples are too few to keep {kept} apart for validation: give "
                "task.validation_file, or another task.validation_share"
            )
        # The same samples whatever `train.seed` is, so that trainings can be compared.
        order = np.random.PCG64(0).random_raw(count).argsort(kind="stable")
        return np.sort(order[:kept] if role == "validation" else order[kept:])


@dataclass(frozen=True)
class DataSource(SplitSource):
    """Rows of files, or of a data set of the hub."""

    config: OwnDataSection
    read: Callable[[Path, Sequence[str]], Iterator[Row]] = read_table
    """Reader of a file, given the columns that must be there."""

    @property
    def splits_training_data(self) -> bool:
        return super().splits_training_data and self.config.validation_split is None

    def name(self, role: str) -> str:
        file, split = self.place(role)
        if file is not None:
            return str(self.locate(file, f"task.{role}_file"))
        return f"{self.config.dataset} ({split})"

    def rows(self, role: str, columns: Sequence[str]) -> Iterator[Row]:
        """The rows, as `SplitSource.rows`. Classes that the hub numbers and names are given by name, also in lists."""
        file, split = self.place(role)
        if file is not None:
            yield from self.read(self.locate(file, f"task.{role}_file"), columns)
            return
        assert self.config.dataset is not None and split is not None
        entries = load_hub_split(self.config.dataset, self.config.dataset_config, split)
        require_columns(self.name(role), entries.column_names, columns)
        names = {column: _class_names(entries.features[column]) for column in columns}
        classes = {column: own for column, own in names.items() if own is not None}
        for number, entry in enumerate(entries, start=1):
            named = {column: _named(entry[column], own) for column, own in classes.items()}
            yield Row(f"row {number}", {**entry, **named})

    def place(self, role: str) -> tuple[str | None, str | None]:
        """File of `train` or `validation` as the configuration names it, or else split of the hub's data set.

        Raises:
            UsageError: neither file nor data set is named.
        """
        config = self.config
        own = role == "validation" and not self.splits_training_data
        file, split = (
            (config.validation_file, config.validation_split) if own else (config.train_file, config.train_split)
        )
        if file is None and (config.dataset is None or split is None):
            missing = f"task.{role}_file" if own else "task.train_file"
            raise UsageError(
                f"{missing}: task {config.name} has no data set of its own: name a file, or a data set of the hub with "
                "task.dataset"
            )
        return file, split


def _class_names(feature: Any) -> list[str] | None:
    """Names of the classes of a column of the hub, or of those in its lists; None if it holds something else."""
    names: list[str] | None = getattr(getattr(feature, "feature", feature), "names", None)
    return names


def _named(value: Any, names: Sequence[str]) -> Any:
    """A class, or a list of classes, by name; -1, the mark of unlabelled data, stays."""
    if isinstance(value, list):
        return [_named(one, names) for one in value]
    return value if value is None or value == -1 else names[value]
