from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from analog_lora_cli.errors import DataError
from analog_lora_cli.tasks.squad.data import Question, questions_from_hub, read_squad

CONTEXT = "The cat sat on the mat. The cat slept."


def entry(**changes: Any) -> dict[str, Any]:
    return {"id": "q1", "question": "Who?", "answers": [{"text": "cat", "answer_start": 4}], **changes}


def write(tmp_path: Path, *entries: Any, context: Any = CONTEXT) -> Path:
    article = {"title": "Cats", "paragraphs": [{"context": context, "qas": list(entries)}]}
    return write_raw(tmp_path, {"data": [article]})


def write_raw(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "squad.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_reads_questions_in_order(tmp_path: Path) -> None:
    answers = [{"text": "mat", "answer_start": 19}, {"text": "the mat.", "answer_start": 15}]
    path = write(tmp_path, entry(), entry(id="q2", question=" Where? ", answers=answers))
    first, second = read_squad(path, unanswerable=False)
    assert first == Question("q1", "Who?", CONTEXT, ("cat",), (4,))
    assert (second.question, second.answers, second.starts) == (" Where? ", ("mat", "the mat."), (19, 15))


def test_reads_unanswerable_questions_of_version_2(tmp_path: Path) -> None:
    path = write(tmp_path, entry(answers=[], is_impossible=True, plausible_answers=[{"text": "x", "answer_start": 0}]))
    assert read_squad(path, unanswerable=True)[0].answers == ()
    with pytest.raises(DataError, match=r"question 'q1': has no answer; .* use task\.name squad_v2"):
        read_squad(path, unanswerable=False)


def test_the_hubs_rows_give_the_same(tmp_path: Path) -> None:
    row = {"id": "q1", "question": "Who?", "context": CONTEXT, "answers": {"text": ["cat"], "answer_start": [4]}}
    assert questions_from_hub([row]) == read_squad(write(tmp_path, entry()), unanswerable=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answers": [{"text": "cat", "answer_start": 5}]}, "the text first stands at 4, and again later"),
        ({"answers": [{"text": "mat", "answer_start": 5}]}, "the text stands at 19"),
        ({"answers": [{"text": "dog", "answer_start": 4}]}, "does not occur in the context at all"),
        ({"answers": [{"text": ".", "answer_start": -1}]}, "the text first stands at 22"),
        ({"answers": [{"text": " ", "answer_start": 3}]}, "an answer is empty"),
        ({"answers": [{"text": "cat", "answer_start": "4"}]}, "answer_start must be a whole number"),
        ({"answers": [{"text": "cat"}]}, "expected an object with 'answer_start', SQuAD's form; found: text"),
        ({"answers": ["cat"]}, "expected an object with 'text'"),
        ({"answers": {"text": ["cat"], "answer_start": [4]}}, "'answers' must be a list"),
        ({"question": None}, "question must be text, not null"),
        ({"question": "broken \ud83d"}, "broken character escape"),
        ({"is_impossible": True}, "is_impossible is true, but there are answers"),
    ],
)
def test_broken_questions_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_squad(write(tmp_path, entry(id="q0"), entry(**change)), unanswerable=True)
    assert f"{tmp_path / 'squad.json'}, article 1 (Cats), paragraph 1, question 'q1'" in str(caught.value)


def test_positions_count_characters(tmp_path: Path) -> None:
    context = "caf\xe9 \U0001f600 cat"
    path = write(tmp_path, entry(answers=[{"text": "cat", "answer_start": 7}]), context=context)
    assert read_squad(path, unanswerable=False)[0].starts == (7,)


def test_a_question_id_twice(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"question id 'q1' stands in the file twice, first at article 1 \(Cats\)"):
        read_squad(write(tmp_path, entry(), entry()), unanswerable=False)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "not of SQuAD's form"),
        ({"data": {}}, "not of SQuAD's form"),
        ({"data": []}, "holds no questions"),
        ({"data": [{"title": "Cats"}]}, r"article 1 \(Cats\): expected an object with 'paragraphs'.*found: title"),
        ({"data": [3]}, "article 1: expected an object with 'paragraphs'.*found: int"),
        ({"data": [{"paragraphs": [{"context": "x"}]}]}, "paragraph 1: expected an object with 'qas'"),
        ({"data": [{"paragraphs": [{"context": " ", "qas": []}]}]}, "the context is empty"),
        ({"data": [{"paragraphs": [{"context": "x", "qas": [{}]}]}]}, "expected an object with 'id'.*found: none"),
        ({"data": [{"paragraphs": [{"context": 1, "qas": []}]}]}, "context must be text"),
        ({"data": [{"paragraphs": []}]}, "holds no questions"),
    ],
)
def test_files_of_another_form(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_squad(write_raw(tmp_path, content), unanswerable=False)


def test_squad_must_be_json(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"name ends in \.json"):
        read_squad(tmp_path / "squad.csv", unanswerable=False)
