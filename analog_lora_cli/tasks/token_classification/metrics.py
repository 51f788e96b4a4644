"""Metrics of tagged sentences, as quotients of counts over sentences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import numpy as np
import numpy.typing as npt

from analog_lora_cli.config.sections.token_classification import TagMetric
from analog_lora_cli.tasks.metric import Metric
from analog_lora_cli.tasks.sample_statistics import PERCENT, Array, SampleStatistic, ratio
from analog_lora_cli.tasks.scores import Columns, Scores
from analog_lora_cli.tasks.token_classification.entities import Codes, Spans, TagSet

WORDS, RIGHT_WORDS = "words", "right_words"
ENTITIES, PREDICTED_ENTITIES, RIGHT_ENTITIES = "entities", "predicted_entities", "right_entities"


@dataclass(frozen=True)
class Quotient(SampleStatistic):
    """Sum of one column by the sum of others; 0 where nothing is counted."""

    above: str
    below: tuple[str, ...]
    scale: float = PERCENT

    def moments(self, columns: Columns) -> Array:
        below = np.sum([columns[name] for name in self.below], axis=0, dtype=np.float64)
        return np.stack([columns[self.above].astype(np.float64), below], axis=-1)

    def value(self, means: Array) -> Array:
        return self.scale * ratio(means[..., 0], means[..., 1])


METRICS: dict[TagMetric, Metric] = {
    "f1": Metric("f1", statistic=Quotient(RIGHT_ENTITIES, (PREDICTED_ENTITIES, ENTITIES), 2 * PERCENT)),
    "precision": Metric("precision", statistic=Quotient(RIGHT_ENTITIES, (PREDICTED_ENTITIES,))),
    "recall": Metric("recall", statistic=Quotient(RIGHT_ENTITIES, (ENTITIES,))),
    "accuracy": Metric("accuracy", statistic=Quotient(RIGHT_WORDS, (WORDS,))),
}
OF_WORDS: tuple[TagMetric, ...] = ("accuracy",)
"""Those that need no entities."""
ALL: tuple[TagMetric, ...] = get_args(TagMetric)


class TagScorer:
    """Scores predicted tags against the true ones.

    Args:
        tags: the tags.
        gold: (words,) numbers of the true tags, of all sentences one after another.
        lengths: (sentences,) numbers of words, none of them 0.
        metrics: the metrics that are measured.
    """

    def __init__(
        self, tags: TagSet, gold: Codes, lengths: npt.NDArray[np.integer], metrics: tuple[Metric, ...]
    ) -> None:
        self._tags, self._gold, self._metrics = tags, gold, metrics
        self._firsts = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.intp)
        self._spans = self._spans_of(gold)
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
        columns = self.truth | samples
        values = {metric.name: _value(metric, columns) for metric in self._metrics}
        return Scores(values, samples)

    def _spans_of(self, tags: Codes) -> Spans | None:
        """The entities; None if the tags mark none."""
        return self._tags.spans(tags, self._firsts) if self._tags.marks_entities else None

    def _by_sentence(self, counted: npt.NDArray[np.bool_]) -> npt.NDArray[np.integer]:
        counts: npt.NDArray[np.integer] = np.add.reduceat(counted.astype(np.int64), self._firsts)
        return counts


def _value(metric: Metric, columns: Columns) -> float:
    assert metric.statistic is not None
    return float(metric.statistic.value(metric.statistic.moments(columns).mean(axis=0)))
