"""Classification and regression of texts, or pairs of texts, in columns of any name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from analog_lora_cli.config.sections.classification import (
    ClassificationSection,
    LabelledTextSection,
    RegressionSection,
)
from analog_lora_cli.tasks.classification.answers import Answers, Number
from analog_lora_cli.tasks.classification.labelled import Rows, at_rows
from analog_lora_cli.tasks.classification.labelled_texts import LabelledTexts
from analog_lora_cli.tasks.classification.labels import number
from analog_lora_cli.tasks.classification.own_labels import OwnClasses, OwnLabels
from analog_lora_cli.tasks.data.files import text_value
from analog_lora_cli.tasks.data.source import DataSource
from analog_lora_cli.tasks.scores import Column


class OwnLabelledTexts(OwnLabels, LabelledTexts):
    """Base of the tasks with one label for a text or a pair of texts on a user's own columns."""

    config: LabelledTextSection

    def __init__(self, config: LabelledTextSection, seed: int) -> None:
        super().__init__(config, seed)
        self.source = DataSource(config)

    @property
    def text_columns(self) -> Sequence[str]:
        return self.config.text_columns

    def texts(self, split: str, rows: Rows) -> Iterator[tuple[str, ...]]:
        name, columns = self.source.name(split), self.config.text_columns
        texts = (
            tuple(text_value(row.values[one], f"{name}, {row.where}: column {one!r}") for one in columns)
            for row in self.source.rows(split, columns)
        )
        return at_rows(texts, self.indices(split)[rows])


class TextClassification(OwnClasses, OwnLabelledTexts):
    """One of several classes, or any number of them, of a text or a pair of texts."""

    section = ClassificationSection
    config: ClassificationSection


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
