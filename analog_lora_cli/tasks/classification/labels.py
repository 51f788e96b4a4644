"""Labels of a user's own data: names of classes, or numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from analog_lora_cli.errors import DataError
from analog_lora_cli.tasks.data.files import shorten

MOST_CLASSES = 1000
"""More names than that are no classes: say, identifiers or whole texts."""
LABELS_SHOWN = 20


def class_name(value: object, where: str) -> str:
    """Name of a class, as a file has it: text, or a whole number.

    Args:
        value: value of the file.
        where: position of the value, for messages.

    Raises:
        DataError: it is empty, or something else; -1, the mark of unlabelled data.
    """
    name = ""
    if isinstance(value, bool | int):
        name = str(value).lower()
    elif isinstance(value, float) and value.is_integer():
        name = str(int(value))
    elif isinstance(value, str):
        name = value.strip()
    elif value is not None:
        raise DataError(
            f"{where}: the label {shorten(repr(value))} must be text or a whole number; numbers of any size are for "
            "task.name: regression"
        )
    if not name:
        raise DataError(f"{where}: the label is empty; leave the row out, or give it a label")
    if name == "-1":
        raise DataError(f"{where}: label -1 marks unlabelled data; use data with labels, such as the validation set")
    return name


def class_names(value: object, separator: str, where: str) -> list[str]:
    """Names of the classes of one sample, as a file has them: a list, or text with a separator between them.

    Args:
        value: value of the file; an empty list or text has no class.
        separator: text between two names; names are stripped, and nothing between two separators is no name.
        where: position of the value, for messages.

    Raises:
        DataError: it is something else; an entry is no name of a class, or stands there twice.
    """
    if isinstance(value, str):
        entries: list[object] = [part for part in value.split(separator) if part.strip()]
    elif isinstance(value, list):
        entries = value
    else:
        raise DataError(
            f"{where}: the labels {shorten(repr(value))} must be a list, or text with task.label_separator "
            f"({separator!r}) between the labels; empty for none"
        )
    names = [class_name(entry, where) for entry in entries]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise DataError(f"{where}: the label {shorten(repr(twice[0]))} stands there twice; leave one out")
    return names


def number(value: object, where: str) -> float:
    """A label that is a number, or spells one.

    Args:
        value: value of the file.
        where: position of the value, for messages.

    Raises:
        DataError: it is none, or not finite.
    """
    try:
        result = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        result = math.nan
    if not math.isfinite(result):
        raise DataError(f"{where}: the label {shorten(repr(value))} must be a number")
    return result


def in_order(names: Iterable[str]) -> list[str]:
    """Names of classes in the order of the model's outputs: numbers by size, if all are, else by their letters."""
    names = list(names)
    if all(name.isdecimal() for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


def check_classes(names: Sequence[str], rows: int, source: str, column: str) -> None:
    """Check that the labels of a training set are classes.

    Raises:
        DataError: there is none or only one, or there are nearly as many as rows.
    """
    if not names:
        raise DataError(f"{source}: column {column!r} holds no class in any row; name another task.label_column")
    if len(names) < 2:
        raise DataError(f"{source}: column {column!r} holds only one class, {names[0]!r}; a choice needs two")
    if len(names) > MOST_CLASSES or (rows > 20 and len(names) > rows / 2):
        raise DataError(
            f"{source}: column {column!r} holds {len(names)} different values in {rows} rows, such as "
            f"{shorten(names[0])!r}: these are no classes; name another task.label_column, or use task.name: "
            "regression for numbers, or task.multi_label: true for several labels in one value"
        )


def listed(entries: Sequence[str]) -> str:
    """The first of some entries for a message, and how many more there are."""
    more = f" and {len(entries) - LABELS_SHOWN} more" if entries[LABELS_SHOWN:] else ""
    return ", ".join(entries[:LABELS_SHOWN]) + more


def unknown_class(name: str, where: str, names: Sequence[str], role: str, stored: bool) -> DataError:
    """The error for a label that is none of the classes.

    Args:
        name: the label.
        where: position of its first row.
        names: the classes.
        role: `train` or `validation`.
        stored: whether `task.labels` says the classes; else the training data.
    """
    near = get_close_matches(name, names, n=1)
    hint = f"; is {near[0]!r} meant?" if near else ""
    if stored:
        problem = f"is none of task.labels ({listed(names)}){hint}"
        remedy = "Correct the label, or set task.labels to null for a training that finds its classes anew."
    else:
        problem = f"appears in the {role} data only; the training data have {listed(names)}{hint}"
        remedy = "Correct the label, leave such rows out, or add rows with it to the training data."
    return DataError(f"{where}: the label {shorten(name)!r} {problem}\n  {remedy}")
