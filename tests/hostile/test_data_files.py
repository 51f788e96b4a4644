"""Data files that nobody wrote by hand: a clear, short error, or the rows as they stand; never another exception."""

from __future__ import annotations

import csv
import io
import json
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from analog_lora_cli.errors import DataError
from analog_lora_cli.tasks.data.files import Row, read_table
from analog_lora_cli.tasks.squad.data import Question, read_squad
from tests.hostile.test_fuzz import BYTES, changed, damaged

COLUMNS = ("sentence", "label")
ROWS = [{"sentence": 'the "tile", it\ndrifts', "label": 1}, {"sentence": "caf\xe9 \u2028", "label": 0}]
SQUAD = {
    "version": "1.1",
    "data": [
        {
            "title": "t",
            "paragraphs": [
                {
                    "context": "the tile reads caf\xe9",
                    "qas": [{"id": "q", "question": "what?", "answers": [{"text": "tile", "answer_start": 4}]}],
                }
            ],
        }
    ],
}
LONGEST_MESSAGE = 2000
"""Characters; a message of the size of the file is no message."""
QUICK = settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
LONG = settings(max_examples=5000, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
FORMS = ["a.csv", "a.json", "a.jsonl", "squad.json"]


def content(name: str) -> bytes:
    """A valid file."""
    if name == "squad.json":
        return json.dumps(SQUAD, ensure_ascii=False).encode()
    if name.endswith(".json"):
        return json.dumps(ROWS, ensure_ascii=False).encode()
    if name.endswith(".jsonl"):
        return "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS).encode()
    stream = io.StringIO(newline="")
    csv.writer(stream).writerows([COLUMNS, *(row.values() for row in ROWS)])
    return stream.getvalue().encode()


def read(path: Path) -> list[Row] | list[Question]:
    return read_squad(path, unanswerable=False) if path.name == "squad.json" else list(read_table(path, COLUMNS))


def reads_or_explains(path: Path) -> None:
    try:
        rows = read(path)
    except DataError as error:
        assert str(error).startswith(str(path)) and len(str(error)) < LONGEST_MESSAGE
        return
    assert rows
    for row in rows:
        if isinstance(row, Row):
            assert set(COLUMNS) <= set(row.values)
        else:
            spans = [row.context[at : at + len(text)] for text, at in zip(row.answers, row.starts, strict=True)]
            assert spans == list(row.answers) and all(spans)


def fuzzed(path: Path, data: st.DataObject) -> None:
    raw = content(path.name)
    for how in data.draw(st.lists(BYTES, min_size=1, max_size=4)):
        raw = damaged(raw, how)
    path.write_bytes(raw)
    reads_or_explains(path)


def restructured(path: Path, whole: Any) -> None:
    path.write_text(json.dumps(whole), encoding="utf-8")
    reads_or_explains(path)


@pytest.mark.parametrize("name", FORMS)
class TestBytes:
    """Valid files with some of their bytes changed."""

    @QUICK
    @given(data=st.data())
    def test_some(self, name: str, tmp_path: Path, data: st.DataObject) -> None:
        fuzzed(tmp_path / name, data)

    @pytest.mark.slow
    @LONG
    @given(data=st.data())
    def test_many(self, name: str, tmp_path: Path, data: st.DataObject) -> None:
        fuzzed(tmp_path / name, data)


class TestStructure:
    """Valid JSON of another form."""

    @QUICK
    @given(whole=changed(SQUAD))
    @example(whole={"data": [{"paragraphs": [{"context": "a", "qas": [{"id": "q", "question": "\ud800"}]}]}]})
    def test_some(self, tmp_path: Path, whole: Any) -> None:
        restructured(tmp_path / "squad.json", whole)

    @pytest.mark.slow
    @LONG
    @given(whole=changed(SQUAD))
    def test_many(self, tmp_path: Path, whole: Any) -> None:
        restructured(tmp_path / "squad.json", whole)

    @QUICK
    @given(whole=changed(ROWS))
    def test_tables(self, tmp_path: Path, whole: Any) -> None:
        restructured(tmp_path / "a.json", whole)


SIZE = 1_000_000
"""Characters in one line. With 100 times as much the same kinds of file end within 11 s too, tried by hand."""
ONE_LINE = {
    "header.csv": ",".join(f"column{number}" for number in range(SIZE // 13)) + "\n1\n",
    "cells.csv": "sentence,label\n" + "," * SIZE + "\n",
    "quote.csv": 'sentence,label\n"' + "word " * (SIZE // 5),
    "columns.jsonl": "{" + ",".join(f'"column{number}":1' for number in range(SIZE // 17)) + "}\n",
    "records.jsonl": '{"sentence":"a","label":1}' * (SIZE // 26),
    "digits.json": '[{"sentence":"a","label":' + "9" * SIZE + "}]",
    "lists.json": "[" + ",".join(["[]"] * (SIZE // 3)) + "]",
    "deep.json": "[" * SIZE,
    "deep/squad.json": '{"data":' * (SIZE // 8),
    "title/squad.json": json.dumps({"data": [{"title": "x" * SIZE, "paragraphs": 1}]}),
    "id/squad.json": json.dumps({"data": [{"paragraphs": [{"context": "a", "qas": [{"id": "x" * SIZE}]}]}]}),
    "keys/squad.json": json.dumps({"data": [{f"key{number}": 1 for number in range(SIZE // 12)}]}),
}


@pytest.mark.parametrize("name", ONE_LINE)
def test_one_endless_line(name: str, tmp_path: Path) -> None:
    """A short error, in about the time and memory that reading takes."""
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(ONE_LINE[name], encoding="utf-8")
    tracemalloc.start()
    started = time.process_time()
    try:
        with pytest.raises(DataError) as caught:
            read(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(str(caught.value)) < LONGEST_MESSAGE
    assert time.process_time() - started < 10
    assert peak < 60 * path.stat().st_size


@pytest.mark.parametrize("name", ["a.jsonl", "squad.json"])
def test_one_long_text_is_read_whole(name: str, tmp_path: Path) -> None:
    text = "word " * (SIZE // 5)
    path = tmp_path / name
    path.write_bytes(content(name).replace(b"caf\xc3\xa9", text.encode()))
    longest = max(len(row.values["sentence"] if isinstance(row, Row) else row.context) for row in read(path))
    assert longest > SIZE
