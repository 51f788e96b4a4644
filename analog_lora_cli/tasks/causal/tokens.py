"""Token sequences with the labels that a language model's loss counts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from analog_lora_cli.tasks.data.collator import IGNORED

OPEN_SEQUENCES = 64
"""Packed sequences that are still open to a further sample."""


@dataclass(frozen=True)
class TokenSequence:
    """Tokens of one sample."""

    tokens: list[int]
    labels: list[int]
    """The tokens themselves where they count in the loss, else IGNORED. The first never counts: nothing foretells
    it."""

    @property
    def counted(self) -> int:
        """Number of the tokens that count."""
        return sum(label != IGNORED for label in self.labels[1:])

    def features(self) -> dict[str, list[int]]:
        """The columns of a training or evaluation row."""
        return {"input_ids": self.tokens, "attention_mask": [1] * len(self.tokens), "labels": self.labels}


Sequences: TypeAlias = Sequence[TokenSequence]


def packed(sequences: Iterable[TokenSequence], length: int) -> Iterator[dict[str, list[int]]]:
    """Several samples to a row: each goes to the first open row that has room for it.

    The rows have `position_ids`, which begin anew with each sample, and no `attention_mask`: that is how transformers'
    attention knows that a token sees its own sample only.

    Args:
        sequences: the samples.
        length: tokens of a row at most.
    """
    rows: list[list[TokenSequence]] = []
    for sequence in sequences:
        size = len(sequence.tokens)
        row = next((row for row in rows if sum(len(one.tokens) for one in row) + size <= length), None)
        if row is None:
            row = []
            rows.append(row)
        row.append(sequence)
        if len(rows) > OPEN_SEQUENCES:
            yield _joined(rows.pop(0))
    for row in rows:
        yield _joined(row)


def _joined(row: list[TokenSequence]) -> dict[str, list[int]]:
    return {
        "input_ids": [token for one in row for token in one.tokens],
        # The first token of a sample follows the last of another: it must not be foretold from it.
        "labels": [label for one in row for label in (IGNORED, *one.labels[1:])],
        "position_ids": [position for one in row for position in range(len(one.tokens))],
    }
