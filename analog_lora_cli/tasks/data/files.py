"""Local data files: finding and reading them, with errors that say where and what to do."""

from __future__ import annotations

import csv
import difflib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TextIO

from analog_lora_cli.errors import DataError
from analog_lora_cli.runtime.package_files import is_package_path, resolve_package_path

if TYPE_CHECKING:
    from _csv import Reader

    from pyarrow import RecordBatch

TABLE_SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".parquet", ".arrow")
LONGEST_TEXT = 10_000_000
"""Characters; a sample's text beyond it is taken for a file that has lost its line ends or quotes."""
ARROW_ROWS = 2000
"""Rows of a Parquet file that are read at a time."""
NAMES_SHOWN = 20
"""Most columns that a message lists; a damaged file can have millions."""
NAMES_SEARCHED = 1000
"""Most columns among which a similar name is looked for."""


class Row(NamedTuple):
    """One record of a table."""

    where: str
    """Position in its file: `line 3`, or `row 3` in a JSON list; both count from 1."""

    values: dict[str, object]
    """Values by column. CSV values are strings, JSON values have the type of the file."""


def locate(name: str, key: str) -> Path:
    """The local file that a configuration names.

    Args:
        name: a path, `~` allowed, or `package:PACKAGE/PATH`.
        key: the dotted configuration key, for messages.

    Raises:
        DataError: there is no such file, or it is a folder.
        UsageError: the package is not installed or holds no such file.
    """
    path = resolve_package_path(name) if is_package_path(name) else Path(name).expanduser()
    if path.is_dir():
        raise DataError(f"{key}: {path} is a folder; name the data file in it")
    if not path.is_file():
        close = _close(path.name, [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else [])
        hint = f"; is {path.parent / close} meant?" if close else ""
        raise DataError(
            f"{key}: there is no file {path}{hint}\n"
            f"  Correct the path, or set {key} to null to take the data set from the hub."
        )
    return path


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, without a byte order mark.

    Raises:
        DataError: the file cannot be read, is empty, or is not UTF-8 (says in which line).
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}, line {line}: not UTF-8 text; save the file with UTF-8 encoding") from error
    if not text.strip():
        raise DataError(f"{path} is empty")
    return text


def read_json(path: Path) -> object:
    """The content of a JSON file.

    Raises:
        DataError: as `read_text`, or malformed JSON (says line and column).
    """
    return _parse_json(read_text(path), str(path))


def read_table(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """The rows of a CSV or TSV file with a header line, a JSON list of objects, or a JSONL, Parquet or Arrow file, as
    the suffix says.

    All but JSON are read part by part, so that files larger than the memory can be. Other columns than `columns` are
    kept.

    Raises:
        DataError: as `read_text`; another suffix; malformed content; a column of `columns` is missing; no rows.
    """
    suffix = path.suffix.lower()
    if suffix not in TABLE_SUFFIXES:
        raise DataError(f"{path}: the name must end in {', '.join(TABLE_SUFFIXES[:-1])} or {TABLE_SUFFIXES[-1]}")
    readers = {
        ".csv": _csv_rows,
        ".tsv": _tsv_rows,
        ".json": _json_rows,
        ".jsonl": _jsonl_rows,
        ".parquet": _arrow_rows,
        ".arrow": _arrow_rows,
    }
    row = None
    for row in readers[suffix](path, columns):
        yield row
    if row is None:
        read_text(path)
        raise DataError(f"{path} holds no rows")


def text_value(value: object, what: str) -> str:
    """`value` itself, if it is text that can be encoded.

    Args:
        value: value of a file.
        what: position of the value, with which the message begins.

    Raises:
        DataError: `value` is no string, is too long to be a sample, or holds half of a surrogate pair (a broken JSON
            escape).
    """
    if not isinstance(value, str):
        raise DataError(f"{what} must be text, not {shorten(json.dumps(value, default=repr))}")
    if len(value) > LONGEST_TEXT:
        raise DataError(
            f"{what} has {len(value)} characters, more than {LONGEST_TEXT}; a line end or a closing quote is missing, "
            "or the text is to be cut into several samples"
        )
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(f"{what} holds a broken character escape (half of a surrogate pair)") from error
    return value


def shorten(text: str, width: int = 60) -> str:
    """`text` on one line, cut to about `width` characters."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 3] + "..."


def _close(name: str, candidates: Sequence[str]) -> str | None:
    matches = difflib.get_close_matches(name, candidates, n=1)
    return matches[0] if matches else None


def _parse_json(text: str, where: str, first_line: int = 1) -> object:
    try:
        content: object = json.loads(text)
        return content
    except json.JSONDecodeError as error:
        line = error.lineno + first_line - 1
        raise DataError(f"{where}, line {line}, column {error.colno}: malformed JSON: {error.msg}") from error
    except RecursionError as error:
        raise DataError(f"{where}: malformed JSON: nested too deeply") from error
    except ValueError as error:  # Python's limit on the digits of a whole number
        raise DataError(f"{where}: a whole number with more digits than any label or position has") from error


def require_columns(where: str, present: Sequence[str], columns: Sequence[str]) -> None:
    """Check that all columns are there.

    Args:
        where: the place, with which a message begins.
        present: the columns that are there.
        columns: those that must be.

    Raises:
        DataError: one is missing; the message suggests what was meant.
    """
    for column in columns:
        if column not in present:
            close = _close(column, present[:NAMES_SEARCHED])
            hint = f"; is {close!r} meant?" if close else ""
            listed = ", ".join(repr(shorten(name, 40)) for name in present[:NAMES_SHOWN]) or "none"
            if len(present) > NAMES_SHOWN:
                listed += f" and {len(present) - NAMES_SHOWN} more"
            raise DataError(
                f"{where}: the column {column!r} is missing; present: {listed}{hint}\n"
                f"  This task needs the columns {', '.join(columns)}."
            )


@contextmanager
def text_lines(path: Path, newline: str) -> Iterator[TextIO]:
    """A UTF-8 file, to be read line by line.

    Raises:
        DataError: it cannot be read, or is not UTF-8.
    """
    try:
        with path.open(encoding="utf-8-sig", newline=newline) as file:
            yield file
    except (OSError, UnicodeDecodeError):
        read_text(path)  # Says where.
        raise


def _csv_rows(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    with text_lines(path, newline="") as file:
        yield from _parsed_csv(path, csv.reader(file, strict=True), columns)


def _arrow_rows(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    from pyarrow import ArrowInvalid

    number = 0
    try:
        for batch in _arrow_batches(path):
            require_columns(str(path), batch.schema.names, columns)
            for values in batch.to_pylist():
                number += 1
                yield Row(f"row {number}", values)
    except (ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: no {path.suffix[1:]} file, or a damaged one: {error}") from error
    if not number:
        raise DataError(f"{path} holds no rows")


def _arrow_batches(path: Path) -> Iterator[RecordBatch]:
    """Parts of a Parquet file, or of an Arrow file of either form."""
    import pyarrow
    from pyarrow import ipc, parquet

    if path.suffix.lower() == ".parquet":
        with parquet.ParquetFile(path) as file:
            yield from file.iter_batches(batch_size=ARROW_ROWS)
        return
    with pyarrow.memory_map(str(path)) as source:
        try:
            reader = ipc.open_file(source)
        except pyarrow.ArrowInvalid:  # `datasets` writes streams.
            source.seek(0)
            yield from ipc.open_stream(source)
            return
        for index in range(reader.num_record_batches):
            yield reader.get_batch(index)


def _tsv_rows(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    with text_lines(path, newline="") as file:
        yield from _parsed_csv(path, csv.reader(file, strict=True, delimiter="\t"), columns)


def _parsed_csv(path: Path, reader: Reader, columns: Sequence[str]) -> Iterator[Row]:
    header: list[str] = []
    line = 1
    try:
        for cells in reader:
            first, line = line, reader.line_num + 1
            if not cells:
                continue
            if not header:
                header = _csv_header(path, cells, columns)
                continue
            if len(cells) != len(header):
                raise DataError(
                    f"{path}, line {first}: {len(cells)} cells, but the header has {len(header)}; "
                    'text with commas or quotes must stand in "double quotes", inner quotes doubled'
                )
            yield Row(f"line {first}", dict(zip(header, cells, strict=True)))
    except csv.Error as error:
        hint = "; most likely a quote is not closed, if not, use JSONL" if "field limit" in str(error) else ""
        raise DataError(f"{path}, line {line}: malformed CSV: {error}{hint}") from error


def _csv_header(path: Path, cells: list[str], columns: Sequence[str]) -> list[str]:
    header = [cell.strip() for cell in cells]
    require_columns(f"{path}, line 1", header, columns)
    for name in columns:
        if header.count(name) > 1:
            raise DataError(f"{path}, line 1: the column {name!r} stands there {header.count(name)} times")
    return header


def _json_rows(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    content = read_json(path)
    if not isinstance(content, list):
        raise DataError(f"{path}: expected a list of objects, [{{...}}, ...]; one object a line belongs in .jsonl")
    for number, values in enumerate(content, start=1):
        yield _object_row(path, f"row {number}", values, columns)


def _jsonl_rows(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    with text_lines(path, newline="\n") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                values = _parse_json(line, str(path), number)
                yield _object_row(path, f"line {number}", values, columns)


def _object_row(path: Path, where: str, values: object, columns: Sequence[str]) -> Row:
    if not isinstance(values, dict):
        raise DataError(f"{path}, {where}: expected an object, {{...}}, with the columns {', '.join(columns)}")
    require_columns(f"{path}, {where}", list(values), columns)
    return Row(where, values)
