"""Scores of tagged sentences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from analog_lora_cli.tasks.chosen_metrics import ChosenMetrics
from analog_lora_cli.tasks.scores import Columns, Scores
from analog_lora_cli.tasks.tag_statistics import (
    ENTITIES,
    PREDICTED_ENTITIES,
    RIGHT_ENTITIES,
    RIGHT_WORDS,
    TAG_STATISTICS,
    WORDS,
)
from analog_lora_cli.tasks.token_classification.entities import Codes, Spans, TagSet

Names = Sequence[Sequence[str]]
"""Names of the tags of each sentence."""


class TagScorer:
    """Scores predicted tags against the true ones.

    Args:
        tags: the tags.
        gold: (words,) numbers of the true tags, of all sentences one after another.
        lengths: (sentences,) numbers of words, none of them 0.
        chosen: the metrics that are measured.
    """

    def __init__(self, tags: TagSet, gold: Codes, lengths: npt.NDArray[np.integer], chosen: ChosenMetrics) -> None:
        self._tags, self._gold, self._chosen = tags, gold, chosen
        self._firsts = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.intp)
        self._spans = self._spans_of(gold)
        self._gold_names = self._names(gold)
        self.truth: Columns = {WORDS: np.asarray(lengths)}
        """Columns that all evaluations share, one number for each sentence."""
        if self._spans is not None:
            self.truth[ENTITIES] = self._by_sentence(self._spans.ends_W)

    def score(self, predicted: Codes) -> Scores:
        """The metrics of predicted tags, and the counts of each sentence.

        Args:
            predicted: (words,) numbers of tags.
        """
        samples: Columns = {RIGHT_WORDS: self._by_sentence(predicted == self._gold)}
        spans = self._spans_of(predicted)
        if spans is not None and self._spans is not None:
            samples[PREDICTED_ENTITIES] = self._by_sentence(spans.ends_W)
            samples[RIGHT_ENTITIES] = self._by_sentence(spans.common(self._spans))
        values = self._chosen.values_of(self.truth | samples, self._names(predicted), self._gold_names)
        return Scores(values, samples)

    def _spans_of(self, tags: Codes) -> Spans | None:
        """The entities; None if the tags mark none."""
        return self._tags.spans(tags, self._firsts) if self._tags.marks_entities else None

    def _names(self, tags: Codes) -> list[list[str]]:
        names = np.array(self._tags.names)[tags]
        return [sentence.tolist() for sentence in np.split(names, self._firsts[1:])]

    def _by_sentence(self, counted: npt.NDArray[np.bool_]) -> npt.NDArray[np.integer]:
        counts: npt.NDArray[np.integer] = np.add.reduceat(counted.astype(np.int64), self._firsts)
        return counts


def check_tags(tags: TagSet, metric: str) -> None:
    """Check that a metric that comes along can be computed of some tags.

    Raises:
        ValueError: it counts entities, and the tags mark none.
    """
    if TAG_STATISTICS[metric].of_entities and not tags.marks_entities:
        such = "O alone" if tags.unmarked is None else repr(tags.unmarked)
        raise ValueError(
            f"{metric} counts entities, which tags such as B-PER, I-PER and O mark; these data have {such}: use "
            "accuracy"
        )


def compute_of_tags(name: str, predicted: Names, gold: Names) -> float:
    """A metric that comes along, of some sentences, in its unit.

    Args:
        name: one of `TAG_STATISTICS`.
        predicted: predicted tags.
        gold: true tags, as many in each sentence, and at least one.

    Raises:
        ValueError: sentences of other lengths; the metric counts entities, and the tags mark none.
    """
    lengths = [len(sentence) for sentence in gold]
    if lengths != [len(sentence) for sentence in predicted] or not all(lengths):
        raise ValueError("predictions and references need as many tags in each sentence, and at least one")
    flat = [[tag for sentence in sentences for tag in sentence] for sentences in (predicted, gold)]
    names = sorted({*flat[0], *flat[1]})
    tags = TagSet(names)
    check_tags(tags, name)
    codes = [np.array([names.index(tag) for tag in one], dtype=np.int32) for one in flat]
    scorer = TagScorer(tags, codes[1], np.array(lengths), ChosenMetrics([name], "tags", len(names)))
    return scorer.score(codes[0]).metrics[name]
