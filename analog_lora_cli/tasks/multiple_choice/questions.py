"""Questions and their choices, read from the rows of a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from analog_lora_cli.config.sections.multiple_choice import MultipleChoiceSection
from analog_lora_cli.errors import DataError
from analog_lora_cli.tasks.data.files import Row, shorten, text_value


@dataclass(frozen=True)
class Question:
    """A question with its choices."""

    context: str | None
    """Text that it is about; None if it stands alone."""
    text: str
    choices: tuple[str, ...]
    names: tuple[str, ...]
    """Name of each choice: its column, or the label that the file gives it; empty if they have none."""
    answer: str
    """The right choice, in the form of the file."""

    def texts(self, choice: str) -> tuple[str, str]:
        """The pair of texts that the model reads for a choice."""
        if self.context is None:
            return self.text, choice
        return self.context, f"{self.text} {choice}".strip()


def read_question(row: Row, config: MultipleChoiceSection, source: str) -> Question:
    """The question in a row.

    Args:
        row: row with all columns of the section.
        config: the section, which names the columns.
        source: name of the file, for messages.

    Raises:
        DataError: a value is no text, or there are fewer than two choices, or none is named as the right one.
    """
    where = f"{source}, {row.where}"

    def text(column: str) -> str:
        return text_value(row.values[column], f"{where}: column {column!r}")

    choices, names = _choices(row, config.choice_columns, where)
    if len(choices) < 2:
        raise DataError(f"{where}: {len(choices)} choices in {_listed(config.choice_columns)}; a question needs two")
    context = None if config.context_column is None else text(config.context_column)
    answer = _answer(row.values[config.label_column], f"{where}, column {config.label_column!r}")
    return Question(context, text(config.question_column), choices, names, answer)


def _choices(row: Row, columns: list[str], where: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The choices of a row and their names."""
    if len(columns) > 1:
        return _from_columns(row, columns, where)
    what, value = f"{where}: column {columns[0]!r}", row.values[columns[0]]
    names: object = None
    if isinstance(value, Mapping):
        names, value = value.get("label"), value.get("text")
    if not isinstance(value, list):
        raise DataError(
            f"{what} must hold a list of choices, or {{text: [...], label: [...]}}, not "
            f"{shorten(repr(row.values[columns[0]]))}; of choices in columns of their own, name all in "
            "task.choice_columns"
        )
    texts = tuple(text_value(one, f"{what}, choice {number}") for number, one in enumerate(value, start=1))
    if names is None:
        return texts, ()
    if not isinstance(names, list) or len(names) != len(texts):
        raise DataError(f"{what}: `label` must be a list with one entry for each of the {len(texts)} in `text`")
    return texts, tuple(str(name).strip() for name in names)


def _from_columns(row: Row, columns: list[str], where: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The choices that stand in columns of their own; the last ones may be empty."""
    filled = [column for column in columns if row.values[column] not in (None, "")]
    gap = next((column for column, other in zip(columns, filled, strict=False) if column != other), None)
    if gap is not None:
        raise DataError(
            f"{where}: column {gap!r} is empty, but a later choice is not; leave only the last choices empty"
        )
    return tuple(text_value(row.values[one], f"{where}: column {one!r}") for one in filled), tuple(filled)


def _answer(value: object, where: str) -> str:
    if isinstance(value, str):
        answer = value.strip()
    elif isinstance(value, bool) or not isinstance(value, int | float | None):
        raise DataError(f"{where}: the label {shorten(repr(value))} must be text or a number")
    elif value is None:
        answer = ""
    else:
        answer = str(int(value)) if float(value).is_integer() else str(value)
    if not answer:
        raise DataError(f"{where}: the label is empty; leave the row out, or name its right choice")
    return answer


def _listed(columns: list[str]) -> str:
    return f"column {columns[0]!r}" if len(columns) == 1 else f"columns {', '.join(columns)}"
