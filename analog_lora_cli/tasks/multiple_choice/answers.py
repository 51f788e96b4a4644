"""The right choices, in whatever form a file names them."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import get_args

import numpy as np
import numpy.typing as npt

from analog_lora_cli.config.sections.multiple_choice import AnswerForm
from analog_lora_cli.errors import DataError
from analog_lora_cli.tasks.data.files import shorten
from analog_lora_cli.tasks.multiple_choice.questions import Question

FORMS: tuple[AnswerForm, ...] = get_args(AnswerForm)[::-1]
"""All forms, the most specific first."""
_MOST_DIGITS = 4
"""A longer number counts no choices."""


@dataclass(frozen=True)
class Answers:
    """The right choices of all rows of a file."""

    forms: Mapping[AnswerForm, npt.NDArray[np.int32]]
    """(rows,) positions of the right choices, in each form that suits all rows."""
    counts: npt.NDArray[np.int32]
    """(rows,) numbers of choices."""


def read_answers(questions: Iterable[tuple[str, Question]], forms: Iterable[AnswerForm]) -> Answers:
    """The right choices in each of some forms that suits all questions.

    Args:
        questions: position of each label, for messages, and its question.
        forms: the forms to try.

    Raises:
        DataError: none suits all.
    """
    positions, counts = {form: array("i") for form in forms}, array("i")
    for where, question in questions:
        found = {form: _POSITIONS[form](question) for form in positions}
        if all(position is None for position in found.values()):
            raise DataError(f"{where}: {_no_choice(question, positions)}")
        for form, position in found.items():
            if position is None:
                del positions[form]
            else:
                positions[form].append(position)
        counts.append(len(question.choices))
    return Answers(
        {form: np.array(rows, dtype=np.int32) for form, rows in positions.items()}, np.array(counts, dtype=np.int32)
    )


def first_difference(answers: Answers) -> tuple[AnswerForm, AnswerForm, int] | None:
    """Two forms that suit all rows and name different choices, and the first such row; None if all agree."""
    first, *others = answers.forms
    for other in others:
        differ = np.flatnonzero(answers.forms[first] != answers.forms[other])
        if len(differ):
            return first, other, int(differ[0])
    return None


def _no_choice(question: Question, forms: Iterable[AnswerForm]) -> str:
    if question.answer == "-1":
        return "label -1 marks unlabelled data; use data with labels, such as the validation set"
    wanted = [expected for form in forms if (expected := _expected(form, question)) is not None]
    return (
        f"the label {shorten(question.answer)!r} is none of the {len(question.choices)} choices; expected "
        f"{' or '.join(wanted) or 'a column of the choices, or their labels in the file, which they have not'}"
    )


def _expected(form: AnswerForm, question: Question) -> str | None:
    """Words for the labels that a question may have in a form; None if there are none."""
    last = len(question.choices) - 1
    return {
        "index": f"an index (0 to {last})",
        "number": f"a number (1 to {last + 1})",
        "letter": f"a letter (A to {chr(ord('A') + min(last, 25))})",
        "text": "the text of one choice",
        "name": f"a name ({shorten(', '.join(question.names))})" if question.names else None,
    }[form]


def _index(question: Question, first: int = 0) -> int | None:
    answer = question.answer
    if not (answer.isascii() and answer.isdecimal() and len(answer) <= _MOST_DIGITS):
        return None
    position = int(answer) - first
    return position if 0 <= position < len(question.choices) else None


def _letter(question: Question) -> int | None:
    answer = question.answer.upper()
    if not (len(answer) == 1 and "A" <= answer <= "Z"):
        return None
    position = ord(answer) - ord("A")
    return position if position < len(question.choices) else None


def _only(answer: str, names: Iterable[str]) -> int | None:
    """Position of the only name that is the answer; None if there are none or several."""
    matches = [position for position, name in enumerate(names) if name.strip() == answer]
    return matches[0] if len(matches) == 1 else None


_POSITIONS: Mapping[AnswerForm, Callable[[Question], int | None]] = {
    "index": _index,
    "number": lambda question: _index(question, first=1),
    "letter": _letter,
    "text": lambda question: _only(question.answer, question.choices),
    "name": lambda question: _only(question.answer, question.names),
}
"""Position of the right choice of a question; None where its answer has not this form."""
