"""GLUE's tasks: their columns, labels and metrics, and their data from files or the hub.

Wang et al., "GLUE: A Multi-Task Benchmark and Analysis Platform for Natural Language Understanding", 2019: Matthews
correlation for CoLA, Pearson and Spearman correlation for STS-B, accuracy for the rest, with F1 of class 1 beside it
for MRPC and QQP.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from analog_lora_cli.errors import DataError
from analog_lora_cli.tasks.data.files import read_table, shorten, text_value

if TYPE_CHECKING:
    import datasets

LABEL = "label"
LARGEST_SIMILARITY = 5.0


@dataclass(frozen=True)
class GlueSpec:
    """Columns, labels and metrics of one GLUE task."""

    columns: tuple[str, ...]
    """The text columns: one, or two that are read as a pair."""
    labels: tuple[str, ...]
    """Names of the classes, in the hub's order; none for regression."""
    metrics: tuple[str, ...] = ("accuracy",)
    """Names of the metrics in `METRICS`, the headline first."""

    @property
    def regression(self) -> bool:
        """Whether the label is a number rather than a class."""
        return not self.labels


GLUE = {
    "cola": GlueSpec(("sentence",), ("unacceptable", "acceptable"), ("matthews_correlation",)),
    "mnli": GlueSpec(("premise", "hypothesis"), ("entailment", "neutral", "contradiction")),
    "mrpc": GlueSpec(("sentence1", "sentence2"), ("not_equivalent", "equivalent"), ("accuracy", "f1")),
    "qnli": GlueSpec(("question", "sentence"), ("entailment", "not_entailment")),
    "qqp": GlueSpec(("question1", "question2"), ("not_duplicate", "duplicate"), ("accuracy", "f1")),
    "rte": GlueSpec(("sentence1", "sentence2"), ("entailment", "not_entailment")),
    "sst2": GlueSpec(("sentence",), ("negative", "positive")),
    "stsb": GlueSpec(("sentence1", "sentence2"), (), ("pearson", "spearman")),
    "wnli": GlueSpec(("sentence1", "sentence2"), ("not_entailment", "entailment")),
}


class GlueSample(NamedTuple):
    """One sample of a GLUE split."""

    texts: tuple[str, ...]
    """One for each of `GlueSpec.columns`."""
    label: int | float
    """Class 0, 1, ...; for regression a number."""


def read_glue(path: Path, spec: GlueSpec) -> Iterator[GlueSample]:
    """The samples of a CSV, JSON or JSONL file with GLUE's column names and `label`, one by one.

    Classes stand there as numbers, in the hub's order, or by name; STS-B's similarities as numbers from 0 to 5.

    Raises:
        DataError: as `read_table`; a text that is none; a label that is no number or name of this task, out of range,
            or -1, GLUE's mark for unlabelled data.
    """
    parse = _similarity if spec.regression else _class_index
    for row in read_table(path, (*spec.columns, LABEL)):
        where = f"{path}, {row.where}"
        texts = tuple(text_value(row.values[name], f"{where}: column {name!r}") for name in spec.columns)
        yield GlueSample(texts, parse(row.values[LABEL], spec, where))


def glue_from_hub(dataset: datasets.Dataset, spec: GlueSpec) -> Iterator[GlueSample]:
    """The samples of a split of the hub's GLUE, one by one."""
    convert: type = float if spec.regression else int
    for row in dataset:
        yield GlueSample(tuple(row[name] for name in spec.columns), convert(row[LABEL]))


def _number(value: object) -> float | None:
    """Number that a value is or spells; None if it is none."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _refuse_unlabelled(number: float | None, where: str) -> None:
    if number == -1:
        raise DataError(
            f"{where}: label -1 marks unlabelled data, as in GLUE's test sets; use a file with labels, such as the "
            "validation set"
        )


def _similarity(value: object, spec: GlueSpec, where: str) -> float:
    number = _number(value)
    _refuse_unlabelled(number, where)
    if number is None or not 0 <= number <= LARGEST_SIMILARITY:
        raise DataError(f"{where}: the label {shorten(repr(value))} must be a number from 0 to {LARGEST_SIMILARITY:g}")
    return number


def _class_index(value: object, spec: GlueSpec, where: str) -> int:
    if isinstance(value, str) and value.strip().lower() in spec.labels:
        return spec.labels.index(value.strip().lower())
    number = _number(value)
    _refuse_unlabelled(number, where)
    if number is None or number not in range(len(spec.labels)):
        classes = ", ".join(f"{index} ({name})" for index, name in enumerate(spec.labels))
        raise DataError(f"{where}: the label {shorten(repr(value))} must be one of {classes}, as a number or by name")
    return int(number)
