"""Samples of instructions and answers, in the forms that data sets have."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from analog_lora_cli.errors import DataError
from analog_lora_cli.tasks.data.files import Row, shorten, text_value

Message = dict[str, str]
"""`role` (`system`, `user`, `assistant`) and `content`."""
ANSWERS = "assistant"
"""The role whose messages are answers."""


@dataclass(frozen=True)
class Sample:
    """An instruction and its answer, or a conversation."""

    where: str
    """File and row, for messages."""
    messages: list[Message]
    """As a conversation; its answers are those of the assistant."""
    prompt: str | None
    """As plain text up to the answer; None for a conversation, which has no plain form."""

    @property
    def answer(self) -> str:
        """The last answer."""
        return self.messages[-1]["content"]

    @property
    def expected(self) -> str:
        """What an answer is compared with."""
        return self.answer


class Form(ABC):
    """A form of the rows of a data set."""

    columns: tuple[str, ...]
    """Columns that it needs."""

    def includes(self, columns: Collection[str]) -> bool:
        """Whether a row with these columns is of this form."""
        return set(self.columns) <= set(columns)

    @abstractmethod
    def sample(self, row: Row, where: str) -> Sample:
        """The sample of a row.

        Args:
            row: the row.
            where: file and row, for messages.

        Raises:
            DataError: a value is of another form, or an answer is empty.
        """


class Conversation(Form):
    """`messages`: a list of objects with `role` and `content`."""

    columns = ("messages",)

    def sample(self, row: Row, where: str) -> Sample:
        messages = row.values["messages"]
        if not isinstance(messages, list) or not messages:
            raise DataError(f"{where}: 'messages' must be a list of objects with 'role' and 'content'")
        turns = [_message(message, f"{where}, message {number}") for number, message in enumerate(messages, start=1)]
        answers = [turn for turn in turns if turn["role"] == ANSWERS]
        if turns[-1]["role"] != ANSWERS:
            raise DataError(f"{where}: the last message is of {turns[-1]['role']!r}, expected an answer of {ANSWERS!r}")
        for answer in answers:
            _require_answer(answer["content"], where)
        return Sample(where, turns, None)


class PromptCompletion(Form):
    """`prompt` and `completion`."""

    columns = ("prompt", "completion")

    def sample(self, row: Row, where: str) -> Sample:
        prompt, completion = (text_value(row.values[column], f"{where}: {column}") for column in self.columns)
        _require_answer(completion, where)
        return Sample(where, _exchange(prompt, completion), prompt)


class Alpaca(Form):
    """`instruction`, perhaps `input`, and `output`."""

    columns = ("instruction", "output")

    def sample(self, row: Row, where: str) -> Sample:
        instruction, output = (text_value(row.values[column], f"{where}: {column}") for column in self.columns)
        more = row.values.get("input")
        context = text_value(more, f"{where}: input") if more else ""
        _require_answer(output, where)
        parts = [("Instruction", instruction), *([("Input", context)] if context else []), ("Response", "")]
        prompt = "\n\n".join(f"### {title}:\n{text}" for title, text in parts)
        return Sample(where, _exchange(f"{instruction}\n\n{context}".strip(), output), prompt)


FORMS: tuple[Form, ...] = (Conversation(), PromptCompletion(), Alpaca())
"""A new form is a new entry; the first that includes the columns of a file is taken."""


def form_of(columns: Collection[str], where: str, forms: Sequence[Form] = FORMS) -> Form:
    """The form of a file with these columns.

    Args:
        columns: columns of the file.
        where: file and row, for messages.
        forms: forms that it may be of; the first that includes the columns is taken.

    Raises:
        DataError: none has them.
    """
    form = next((form for form in forms if form.includes(columns)), None)
    if form is None:
        known = "; ".join(" and ".join(one.columns) for one in forms)
        raise DataError(
            f"{where}: expected columns of one of the forms {known}; present: {shorten(', '.join(columns))}"
        )
    return form


def _exchange(prompt: str, answer: str) -> list[Message]:
    return [{"role": "user", "content": prompt}, {"role": ANSWERS, "content": answer}]


def _message(value: object, where: str) -> Message:
    if not isinstance(value, dict) or not {"role", "content"} <= value.keys():
        raise DataError(f"{where}: expected an object with 'role' and 'content'")
    return {key: text_value(value[key], f"{where}: {key}") for key in ("role", "content")}


def _require_answer(answer: str, where: str) -> None:
    if not answer.strip():
        raise DataError(f"{where}: the answer is empty, so there is nothing to learn; leave the sample out")
