"""Sentences and their tags, as files have them."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import compress

import numpy as np
import numpy.typing as npt

from analog_lora_cli.config.sections.token_classification import TokenClassificationSection
from analog_lora_cli.errors import DataError
from analog_lora_cli.tasks.classification.labels import class_name
from analog_lora_cli.tasks.data.files import Row, shorten, text_value
from analog_lora_cli.tasks.data.source import DataSource
from analog_lora_cli.tasks.token_classification.conll import read_tagged
from analog_lora_cli.tasks.token_classification.entities import Codes

Numbers = npt.NDArray[np.integer]


@dataclass(frozen=True)
class Sentence:
    """The words of one row."""

    where: str
    """File and row, for messages."""
    words: list[str]


@dataclass(frozen=True)
class TagColumn:
    """The tags of all sentences of a file."""

    codes: Codes
    """(words,) index into `names`, of all sentences one after another."""
    lengths: npt.NDArray[np.int32]
    """(sentences,) numbers of words."""
    names: list[str]
    """Names of tags in the order in which they first occur."""
    places: list[str]
    """Position of the first word with each."""

    def mask(self, sentences: Numbers) -> npt.NDArray[np.bool_]:
        """Whether each sentence of the file is one of some, given by their numbers."""
        chosen = np.zeros(len(self.lengths), dtype=bool)
        chosen[sentences] = True
        return chosen

    def of(self, sentences: Numbers) -> Codes:
        """The tags of some sentences, given by ascending numbers, (words,)."""
        codes: Codes = self.codes[np.repeat(self.mask(sentences), self.lengths)]
        return codes


class TaggedSentences:
    """The sentences of a task for training and validation. Files are read once for the tags, and for words when these
    are tokenized.

    Args:
        config: the `task` section.
    """

    def __init__(self, config: TokenClassificationSection) -> None:
        self.source = DataSource(config, read_tagged)
        self._words_column, self._tags_column = config.tokens_column, config.tags_column
        self._scans: dict[str, TagColumn] = {}

    def tags(self, role: str) -> TagColumn:
        """The tags of the file that `train` or `validation` is taken from.

        Raises:
            DataError, HubError, UsageError: the data cannot be read, or are of another form.
        """
        role = self.source.file_role(role)
        if role not in self._scans:
            self._scans[role] = self._scan(role)
        return self._scans[role]

    def numbers(self, role: str) -> npt.NDArray[np.intp]:
        """Numbers of the sentences of the file that belong to `train` or `validation`, ascending."""
        return self.source.share_of(role, len(self.tags(role).lengths))

    def sentences(self, role: str, numbers: Numbers) -> Iterator[Sentence]:
        """Some sentences, given by ascending numbers. All are read, so that a mistake in the last is known."""
        return compress(self._sentences(role), self.tags(role).mask(numbers))

    def _scan(self, role: str) -> TagColumn:
        numbers: dict[str, int] = {}
        places: list[str] = []
        codes, lengths = array("i"), array("i")
        for where, row in self._rows(role):
            words, tags = (_list(row, column, where) for column in (self._words_column, self._tags_column))
            if len(words) != len(tags):
                raise DataError(
                    f"{where}: {len(words)} words in column {self._words_column!r}, but {len(tags)} tags in "
                    f"{self._tags_column!r}; each word needs one"
                )
            for number, tag in enumerate(tags, start=1):
                place = f"{where}, column {self._tags_column!r}, word {number}"
                name = class_name(tag, place)
                if name not in numbers:
                    numbers[name] = len(numbers)
                    places.append(place)
                codes.append(numbers[name])
            lengths.append(len(tags))
        return TagColumn(np.array(codes, dtype=np.int32), np.array(lengths, dtype=np.int32), list(numbers), places)

    def _sentences(self, role: str) -> Iterator[Sentence]:
        column = self._words_column
        for where, row in self._rows(role):
            words = enumerate(_list(row, column, where), start=1)
            texts = [text_value(word, f"{where}: column {column!r}, word {number}") for number, word in words]
            yield Sentence(where, texts)

    def _rows(self, role: str) -> Iterator[tuple[str, Row]]:
        """The rows of a file, each with its position for messages."""
        name = self.source.name(role)
        for row in self.source.rows(role, [self._words_column, self._tags_column]):
            yield f"{name}, {row.where}", row


def _list(row: Row, column: str, where: str) -> list[object]:
    """The list in a column of a row.

    Raises:
        DataError: there is something else, or nothing in it.
    """
    value = row.values[column]
    if not isinstance(value, list):
        raise DataError(
            f"{where}: column {column!r} must hold a list, not {shorten(repr(value))}; tables with lists are JSON, "
            "JSONL, Parquet or Arrow"
        )
    if not value:
        raise DataError(f"{where}: column {column!r} holds an empty list; leave the row out")
    return value
