"""SQuAD questions, from the JSON files of v1.1 and v2.0 or from the hub's rows.

The file format is SQuAD's own: `{"data": [{"title", "paragraphs": [{"context", "qas": [{"id", "question",
"answers": [{"text", "answer_start"}], "is_impossible"}]}]}]}`; `is_impossible` only in v2.0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from analog_lora_cli.errors import DataError
from analog_lora_cli.tasks.data.files import read_json, shorten, text_value


@dataclass(frozen=True, slots=True)
class Question:
    """One question about one context."""

    id: str
    question: str
    context: str
    answers: tuple[str, ...]
    """Gold answers; empty for a question without an answer (v2 only)."""
    starts: tuple[int, ...]
    """Position of each answer in the context, in characters."""


class HubAnswers(TypedDict):
    """Gold answers of a row of the hub's SQuAD."""

    text: list[str]
    answer_start: list[int]


class HubRow(TypedDict):
    """One row of the hub's SQuAD."""

    id: str
    question: str
    context: str
    answers: HubAnswers


def read_squad(path: Path, unanswerable: bool) -> list[Question]:
    """The questions of a SQuAD JSON file, in its order.

    Args:
        path: path of the file.
        unanswerable: whether questions without an answer may occur (SQuAD v2).

    Raises:
        DataError: the file is unreadable, not of SQuAD's form, holds no questions, a question's id twice, a question
            without answer although `unanswerable` is false, or an answer that does not stand at its `answer_start`.
    """
    if path.suffix.lower() != ".json":
        raise DataError(f"{path}: SQuAD data must be SQuAD's JSON format, in a file whose name ends in .json")
    content = read_json(path)
    questions: list[Question] = []
    first_at: dict[str, str] = {}
    for where, context, entry in _entries(content, path):
        question = _question(where, context, entry, unanswerable)
        if question.id in first_at:
            raise DataError(
                f"{where}: the question id {shorten(question.id)!r} stands in the file twice, "
                f"first at {first_at[question.id]}; ids must be unique"
            )
        first_at[question.id] = where.removeprefix(f"{path}, ")
        questions.append(question)
    if not questions:
        raise DataError(f"{path} holds no questions")
    return questions


def questions_from_hub(rows: Iterable[HubRow]) -> list[Question]:
    """The questions of the hub's SQuAD."""
    return [
        Question(
            row["id"],
            row["question"],
            row["context"],
            tuple(row["answers"]["text"]),
            tuple(row["answers"]["answer_start"]),
        )
        for row in rows
    ]


def _entries(content: object, path: Path) -> Iterator[tuple[str, str, object]]:
    """Position, context and raw entry of each question."""
    if not isinstance(content, dict) or not isinstance(content.get("data"), list):
        raise DataError(
            f'{path} is not of SQuAD\'s form: expected an object {{"data": [{{"title": ..., "paragraphs": [...]}}, '
            "...]}, as in the files train-v1.1.json and dev-v2.0.json"
        )
    for number, article in enumerate(content["data"], start=1):
        title = article.get("title") if isinstance(article, dict) else None
        where = f"{path}, article {number}" + (f" ({shorten(title, 40)})" if isinstance(title, str) else "")
        for count, paragraph in enumerate(_list(article, "paragraphs", where), start=1):
            place = f"{where}, paragraph {count}"
            entries = _list(paragraph, "qas", place)
            context = text_value(_field(paragraph, "context", place), f"{place}: context")
            if not context.strip():
                raise DataError(f"{place}: the context is empty")
            for entry in entries:
                yield place, context, entry


def _field(value: object, name: str, where: str) -> object:
    if not isinstance(value, dict) or name not in value:
        present = ", ".join(value) if isinstance(value, dict) else type(value).__name__
        raise DataError(f"{where}: expected an object with {name!r}, SQuAD's form; found: {shorten(present) or 'none'}")
    field: object = value[name]
    return field


def _list(value: object, name: str, where: str) -> list[object]:
    items = _field(value, name, where)
    if not isinstance(items, list):
        raise DataError(f"{where}: {name!r} must be a list")
    return items


def _question(where: str, context: str, entry: object, unanswerable: bool) -> Question:
    identifier = text_value(_field(entry, "id", where), f"{where}: a question's id")
    place = f"{where}, question {shorten(identifier)!r}"
    question = text_value(_field(entry, "question", place), f"{place}: question")
    answers = _list(entry, "answers", place)
    impossible = isinstance(entry, dict) and entry.get("is_impossible", False)
    if impossible and answers:
        raise DataError(f"{place}: is_impossible is true, but there are answers; one of the two is wrong")
    if not answers and not unanswerable:
        raise DataError(f"{place}: has no answer; for data with unanswerable questions use task.name squad_v2")
    pairs = [_answer(place, context, answer) for answer in answers]
    return Question(identifier, question, context, tuple(text for text, _ in pairs), tuple(at for _, at in pairs))


def _answer(place: str, context: str, answer: object) -> tuple[str, int]:
    text = text_value(_field(answer, "text", place), f"{place}: an answer's text")
    start = _field(answer, "answer_start", place)
    if not text.strip():
        raise DataError(f"{place}: an answer is empty; a question without an answer has an empty list of answers")
    if not isinstance(start, int) or isinstance(start, bool):
        raise DataError(f"{place}: answer_start must be a whole number of characters, not {shorten(repr(start))}")
    if start < 0 or context[start : start + len(text)] != text:
        first = context.find(text)
        hint = f"the text stands at {first}" if first >= 0 else "the text does not occur in the context at all"
        if first >= 0 and context.find(text, first + 1) >= 0:
            hint = f"the text first stands at {first}, and again later"
        raise DataError(
            f"{place}: the answer {shorten(text)!r} is not in its context at answer_start {start}; {hint}\n"
            "  answer_start counts characters (Unicode code points, not bytes) from 0."
        )
    return text, start
