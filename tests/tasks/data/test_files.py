from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analog_lora_cli.errors import DataError, UsageError
from analog_lora_cli.tasks.data.files import Row, locate, read_json, read_table, read_text

COLUMNS = ("sentence", "label")


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def table(path: Path, columns: Sequence[str]) -> list[Row]:
    return list(read_table(path, columns))


def test_a_missing_file_names_the_key_and_a_neighbour(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", "x")
    with pytest.raises(
        DataError, match=r"task\.train_file: there is no file .*tran\.csv; is .*train\.csv meant\?"
    ) as e:
        locate(str(tmp_path / "tran.csv"), "task.train_file")
    assert "set task.train_file to null" in str(e.value)
    with pytest.raises(DataError, match="there is no file"):
        locate(str(tmp_path / "no" / "such"), "task.train_file")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a folder"):
        locate(str(tmp_path), "task.validation_file")


def test_files_inside_packages_and_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert locate("package:analog_lora_cli/errors.py", "task.train_file").name == "errors.py"
    with pytest.raises(UsageError, match="pip install not-there-x"):
        locate("package:not_there_x/a.csv", "task.train_file")
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "a.csv", "x")
    assert locate("~/a.csv", "task.train_file") == tmp_path / "a.csv"


def test_other_encodings_are_named_with_their_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"latin\.csv, line 2: not UTF-8"):
        read_text(write(tmp_path / "latin.csv", "sentence,label\ncaf\xe9,1\n".encode("latin-1")))


@pytest.mark.parametrize("content", ["", " \n\n", "\ufeff"])
def test_empty_files(tmp_path: Path, content: str) -> None:
    with pytest.raises(DataError, match="is empty"):
        read_text(write(tmp_path / "empty.json", content))


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_text(tmp_path / "gone.json")


def test_malformed_json_names_line_and_column(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"line 2, column 9: malformed JSON"):
        read_json(write(tmp_path / "bad.json", '{"a": 1,\n "b": 2 "c"}'))
    with pytest.raises(DataError, match=r"line 3, column 2: malformed JSON"):
        table(write(tmp_path / "bad.jsonl", '{"sentence": "a", "label": 1}\n\n{x}\n'), COLUMNS)
    with pytest.raises(DataError, match="nested too deeply"):
        read_json(write(tmp_path / "deep.json", "[" * 200_000))


def test_the_three_formats_agree(tmp_path: Path) -> None:
    rows = [{"sentence": 'so, "he" said\nand left', "label": "1"}, {"sentence": "caf\xe9\u2028bar", "label": "0"}]
    with (tmp_path / "a.csv").open("w", newline="", encoding="utf-8-sig") as stream:
        writer = csv.DictWriter(stream, ["label", "sentence"])
        writer.writeheader()
        writer.writerows(rows)
    write(tmp_path / "a.json", json.dumps(rows))
    lines = "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    write(tmp_path / "a.JSONL", lines)
    for name in ("a.csv", "a.json", "a.JSONL"):
        assert [row.values for row in table(tmp_path / name, COLUMNS)] == rows
    # The first CSV record spans two lines.
    assert [row.where for row in table(tmp_path / "a.csv", COLUMNS)] == ["line 2", "line 4"]
    assert [row.where for row in table(tmp_path / "a.json", COLUMNS)] == ["row 1", "row 2"]
    assert [row.where for row in table(tmp_path / "a.JSONL", COLUMNS)] == ["line 1", "line 2"]


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")), min_size=1))
def test_any_text_survives_csv(tmp_path: Path, texts: list[str]) -> None:
    with (tmp_path / "any.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([COLUMNS, *([text, "1"] for text in texts)])
    assert [row.values["sentence"] for row in table(tmp_path / "any.csv", COLUMNS)] == texts


def test_other_suffixes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"must end in \.csv, \.tsv, \.json, \.jsonl, \.parquet or \.arrow"):
        table(write(tmp_path / "a.xlsx", "sentence\tlabel\n"), COLUMNS)


@pytest.mark.parametrize(
    ("name", "content", "where"),
    [
        ("a.csv", "sentance,label\nx,1\n", "line 1"),
        ("a.json", '[{"sentance": "x", "label": 1}]', "row 1"),
        ("a.jsonl", '\n{"sentance": "x", "label": 1}', "line 2"),
    ],
)
def test_missing_columns(tmp_path: Path, name: str, content: str, where: str) -> None:
    expected = rf"{where}: the column 'sentence' is missing; present: 'sentance', 'label'; is 'sentance' meant\?"
    with pytest.raises(DataError, match=expected) as caught:
        table(write(tmp_path / name, content), COLUMNS)
    assert "needs the columns sentence, label" in str(caught.value)


def test_files_without_rows(tmp_path: Path) -> None:
    for name, content in (("a.csv", "sentence,label\n\n"), ("a.json", "[]")):
        with pytest.raises(DataError, match="holds no rows"):
            table(write(tmp_path / name, content), COLUMNS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("sentence,label\na,1\nb,c,1\n", r"line 3: 3 cells, but the header has 2"),
        ("sentence,label\na\n", r"line 2: 1 cells, but the header has 2"),
        ("sentence,label,label\na,1,1\n", r"line 1: the column 'label' stands there 2 times"),
        ('sentence,label\nfine,1\n"open,1\nb,0\n', r"line 3: malformed CSV: unexpected end of data"),
        ('sentence,label\n"a"b,1\n', r"line 2: malformed CSV"),
    ],
)
def test_malformed_csv(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        table(write(tmp_path / "bad.csv", content), COLUMNS)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", '{"data": []}', "expected a list of objects"),
        ("a.json", '[["x", 1]]', "row 1: expected an object"),
        ("a.jsonl", '["x", 1]', "line 1: expected an object"),
    ],
)
def test_json_of_another_form(tmp_path: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        table(write(tmp_path / name, content), COLUMNS)
