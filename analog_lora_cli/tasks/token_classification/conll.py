"""CoNLL text: a word and its tag on a line, an empty line between two sentences."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from analog_lora_cli.errors import DataError
from analog_lora_cli.tasks.data.files import TABLE_SUFFIXES, Row, read_table, require_columns, shorten, text_lines

COLUMNS = ("tokens", "tags")
DOCUMENT = "-DOCSTART-"
"""Word of the lines between two documents, which belong to no sentence."""


def read_tagged(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """The rows of a table, as `read_table`, or the sentences of CoNLL text if the suffix is not that of a table.

    Raises:
        DataError: as `read_table`; a line of CoNLL text without a tag.
    """
    if path.suffix.lower() in TABLE_SUFFIXES:
        yield from read_table(path, columns)
        return
    require_columns(f"{path}: CoNLL text", COLUMNS, columns)
    row = None
    for row in _sentences(path):
        yield row
    if row is None:
        raise DataError(f"{path} holds no sentences")


def _sentences(path: Path) -> Iterator[Row]:
    tokens: list[str] = []
    tags: list[str] = []
    number = 0
    with text_lines(path, newline="\n") as file:
        for number, line in enumerate(file, start=1):
            fields = _fields(line)
            if fields and fields[0] != DOCUMENT:
                if len(fields) == 1:
                    raise DataError(
                        f"{path}, line {number}: {shorten(fields[0], 40)!r} has no tag; expected a word and its tag, "
                        "with a space or a tab between them, or an empty line"
                    )
                tokens.append(fields[0])
                tags.append(fields[-1])
            elif tokens:
                yield _row(tokens, tags, number - 1)
                tokens, tags = [], []
    if tokens:
        yield _row(tokens, tags, number)


def _fields(line: str) -> list[str]:
    """The fields of a line, between tabs if it has any, else between spaces; none of an empty line."""
    line = line.rstrip("\r\n")
    if not line.strip():
        return []
    return [field.strip(" ") for field in line.split("\t")] if "\t" in line else re.split(" +", line.strip(" "))


def _row(tokens: list[str], tags: list[str], last: int) -> Row:
    """A sentence that ends with line `last`."""
    where = f"lines {last - len(tokens) + 1} to {last}" if len(tokens) > 1 else f"line {last}"
    return Row(where, dict(zip(COLUMNS, (tokens, tags), strict=True)))
