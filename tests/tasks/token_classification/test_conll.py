"""CoNLL text."""

from __future__ import annotations

from pathlib import Path

import pytest

from analog_lora_cli.errors import DataError
from analog_lora_cli.tasks.data.files import Row
from analog_lora_cli.tasks.token_classification.conll import COLUMNS, read_tagged


def read(path: Path, content: str | bytes, columns: tuple[str, ...] = COLUMNS) -> list[Row]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(read_tagged(path, columns))


@pytest.mark.parametrize("name", ["eng.train", "train", "a.txt", "a.conll"])
def test_sentences_of_a_file(name: str, tmp_path: Path) -> None:
    text = "-DOCSTART- -X- -X- O\n\nEU NNP B-NP  B-ORG\nrejects VBZ B-VP O\n\n\nPeter\tB-PER\r\n \nNew York\tB-LOC"
    assert read(tmp_path / name, "\ufeff" + text) == [
        Row("lines 3 to 4", {"tokens": ["EU", "rejects"], "tags": ["B-ORG", "O"]}),
        Row("line 7", {"tokens": ["Peter"], "tags": ["B-PER"]}),
        Row("line 9", {"tokens": ["New York"], "tags": ["B-LOC"]}),
    ]


def test_a_document_ends_a_sentence(tmp_path: Path) -> None:
    rows = read(tmp_path / "a.txt", "one O\n-DOCSTART- O\ntwo O\n")
    assert [row.where for row in rows] == ["line 1", "line 3"]


def test_a_table_is_read_as_one(tmp_path: Path) -> None:
    rows = read(tmp_path / "a.jsonl", '{"w": ["a"], "t": [1]}\n', ("w", "t"))
    assert rows == [Row("line 1", {"w": ["a"], "t": [1]})]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a O\nb\n", "a.conll, line 2: 'b' has no tag; expected a word and its tag"),
        ("\n\n", "a.conll holds no sentences"),
        ("", "a.conll holds no sentences"),
        (b"a O\n\xff O\n", "line 2: not UTF-8 text"),
    ],
)
def test_other_content(content: str | bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path / "a.conll", content)


def test_columns_of_other_names(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"CoNLL text: the column 'token' is missing.*is 'tokens' meant\?"):
        read(tmp_path / "a.conll", "a O\n", ("token", "tags"))
