"""Entities that tags mark, counted as seqeval counts them in its default mode.

An entity is what lies between two changes of type, as conlleval has it; a `B` or `S` begins one, an `E` or `S` ends
one, and an `I` or `E` after an `O` begins one too. It is right if its first word, its last word and its type are.
BILOU's L and U, and the M of BMES, are taken for E, S and I.

Suffix of arrays: W words, of all sentences one after another.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]
OUTSIDE = "O"
_FORM = re.compile(r"O|([BIMELSU])(?:-(.*))?", re.DOTALL)
_SYNONYMS = {"L": "E", "U": "S", "M": "I"}


@dataclass(frozen=True)
class Spans:
    """The entities of tagged sentences."""

    ends_W: Mask
    """Whether a word is the last of an entity."""
    begins_W: npt.NDArray[np.intp]
    """Where that entity begins; where none ends, without meaning."""
    types_W: Codes
    """Number of its type; likewise."""

    def common(self, other: Spans) -> Mask:
        """Whether a word is the last of an entity that both have, (W,)."""
        same_W: Mask = (self.begins_W == other.begins_W) & (self.types_W == other.types_W)
        return self.ends_W & other.ends_W & same_W


@dataclass(frozen=True)
class TagSet:
    """The tags of a task."""

    names: Sequence[str]
    """By the number of the model's output."""

    @property
    def unmarked(self) -> str | None:
        """The first tag that marks neither an entity nor its absence, such as NOUN; None if all do."""
        return next((name for name in self.names if not _FORM.fullmatch(name)), None)

    @property
    def marks_entities(self) -> bool:
        """Whether the tags mark entities, as B-PER and I-PER do."""
        return self.unmarked is None and any(name != OUTSIDE for name in self.names)

    def spans(self, tags_W: Codes, firsts: npt.NDArray[np.intp]) -> Spans:
        """The entities of sentences, one after another.

        Args:
            tags_W: numbers of the words' tags.
            firsts: index of the first word of each sentence.
        """
        opens_W, closes_W, outside_W = (self._have(prefixes)[tags_W] for prefixes in ("BS", "ES", OUTSIDE))
        types_W = self._types[tags_W]
        closed_before_W, opened_after_W = np.roll(closes_W | outside_W, 1), np.roll(opens_W | outside_W, -1)
        closed_before_W[firsts], opened_after_W[firsts - 1] = True, True
        starts_W = ~outside_W & (opens_W | closed_before_W | (types_W != np.roll(types_W, 1)))
        ends_W = ~outside_W & (closes_W | opened_after_W | (types_W != np.roll(types_W, -1)))
        begins_W = np.maximum.accumulate(np.where(starts_W, np.arange(len(tags_W)), 0))
        return Spans(ends_W, begins_W, types_W)

    def _have(self, prefixes: str) -> Mask:
        """Whether each tag has one of some prefixes, (tags,)."""
        return np.array([_SYNONYMS.get(name[:1], name[:1]) in prefixes for name in self.names])

    @cached_property
    def _types(self) -> Codes:
        """(tags,) numbers of the types."""
        types = [name[2:] for name in self.names]
        numbers = {name: number for number, name in enumerate(dict.fromkeys(types))}
        return np.array([numbers[name] for name in types], dtype=np.int32)
