"""Questions from files: which files, and one clear error for each thing that is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from analog_lora_cli.errors import DataError, HubError
from analog_lora_cli.tasks.causal.benchmarks.benchmarks import Benchmarks
from analog_lora_cli.tasks.causal.benchmarks.definitions import find_definition
from analog_lora_cli.tasks.causal.benchmarks.documents import Documents, read_documents
from tests.tasks.causal.benchmarks.questions import ROWS, byte_tokenizer, write_questions

pytest.importorskip("lm_eval")


def read(folder: Path, name: str, limit: int | None = None) -> Documents:
    return read_documents(find_definition(name), folder, limit)


def write(folder: Path, name: str, rows: list[dict[str, Any]]) -> Path:
    file = folder / f"{name}.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in rows))
    return file


def test_the_limit_is_that_of_each_benchmark(tmp_path: Path) -> None:
    write_questions(tmp_path)
    for name in ("piqa", "hellaswag", "gsm8k"):
        assert len(read(tmp_path, name, 1).entries) == 1 and len(read(tmp_path, name).entries) == len(ROWS[name])
    sets = Benchmarks(["piqa", "arc_easy"], str(tmp_path), 1).eval_sets(byte_tokenizer())
    assert [(one.name, len(one.features)) for one in sets] == [("piqa", 1), ("arc_easy", 1)]


def test_the_files_of_each_split_enter_the_identity_of_a_measurement(tmp_path: Path) -> None:
    write_questions(tmp_path)
    (tmp_path / "gsm8k.jsonl").rename(tmp_path / "gsm8k_test.jsonl")
    files = Benchmarks(["piqa", "gsm8k"], str(tmp_path)).files()
    assert {role: path.name for role, path in files.items()} == {
        "benchmark piqa validation": "piqa.jsonl",
        "benchmark gsm8k test": "gsm8k_test.jsonl",
        "benchmark gsm8k train": "gsm8k_train.jsonl",
    }
    assert Benchmarks(["piqa"]).files() == {}


def test_solved_examples_come_from_their_own_file(tmp_path: Path) -> None:
    write_questions(tmp_path)
    prompt = read(tmp_path, "gsm8k").instances[0].args[0]
    assert prompt.count("plus 1?") == 5 and prompt.count("####") == 5 and prompt.endswith("What is 3 plus 3?\nAnswer:")
    (tmp_path / "gsm8k_train.jsonl").unlink()
    with pytest.raises(DataError, match=r"task\.benchmark_folder.*no file .*gsm8k_train\.jsonl"):
        read(tmp_path, "gsm8k")


def test_boolq_may_have_the_columns_of_its_other_data_set(tmp_path: Path) -> None:
    write_questions(tmp_path)
    expected = read(tmp_path, "boolq")
    renamed = [
        {**{k: v for k, v in row.items() if k != "label"}, "answer": bool(row["label"])} for row in ROWS["boolq"]
    ]
    write(tmp_path, "boolq", renamed)
    found = read(tmp_path, "boolq")
    assert [one.gold for one in found.entries] == [one.gold for one in expected.entries] == [[0], [1]]
    assert [one.args for one in found.instances] == [one.args for one in expected.instances]


@pytest.mark.parametrize(
    ("name", "column", "expected"),
    [
        ("piqa", "sol2", "the column 'sol2' is missing"),
        ("piqa", "label", "the column 'label' is missing"),
        ("openbookqa", "question_stem", "the column 'question_stem' is missing"),
        ("hellaswag", "endings", "the column 'endings' is missing"),
        ("winogrande", "option1", "the column 'option1' is missing"),
        ("gsm8k", "question", "the column 'question' is missing"),
        ("boolq", "label", "the column 'label' is missing"),
    ],
)
def test_a_missing_column(name: str, column: str, expected: str, tmp_path: Path) -> None:
    write_questions(tmp_path)
    file = write(tmp_path, name, [{k: v for k, v in row.items() if k != column} for row in ROWS[name]])
    with pytest.raises(DataError) as error:
        read(tmp_path, name)
    assert str(file) in str(error.value) and expected in str(error.value)


def test_a_column_that_only_a_later_row_lacks(tmp_path: Path) -> None:
    first, second = ROWS["hellaswag"]
    file = write(tmp_path, "hellaswag", [first, {k: v for k, v in second.items() if k != "ctx_b"}])
    with pytest.raises(DataError) as error:
        read(tmp_path, "hellaswag")
    assert f"{file}, line 2: the column 'ctx_b' is missing" in str(error.value)


@pytest.mark.parametrize("label", [2, -1, "1", "left"])
def test_an_answer_that_is_no_choice(label: object, tmp_path: Path) -> None:
    file = write(tmp_path, "piqa", [ROWS["piqa"][0], {**ROWS["piqa"][1], "label": label}])
    with pytest.raises(DataError) as error:
        read(tmp_path, "piqa")
    assert str(file) in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"), [("", "is empty"), ("{", "malformed JSON"), ("[1]", "expected an object")]
)
def test_a_damaged_file(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "piqa.jsonl").write_text(content)
    with pytest.raises(DataError, match=message):
        read(tmp_path, "piqa")


def test_a_file_or_folder_that_is_not_there(tmp_path: Path) -> None:
    write(tmp_path, "piqua", ROWS["piqa"])
    with pytest.raises(DataError, match=r"there is no file .*piqa\.jsonl; is .*piqua\.jsonl meant"):
        read(tmp_path, "piqa")
    with pytest.raises(DataError, match=r"task\.benchmark_folder: there is no folder .*nowhere"):
        read(tmp_path / "nowhere", "piqa")


def test_without_a_folder_and_without_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def fail(*_: object, **__: object) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(
        HubError, match=r"(?s)piqa could not be loaded: no network.*piqa\.jsonl.*task\.benchmark_folder"
    ):
        read_documents(find_definition("piqa"), None, None)
