"""Metrics of tagged sentences as functions of means over sentences; see `sample_statistics`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from analog_lora_cli.tasks.sample_statistics import PERCENT, Array, SampleStatistic, ratio
from analog_lora_cli.tasks.scores import Columns

WORDS, RIGHT_WORDS = "words", "right_words"
ENTITIES, PREDICTED_ENTITIES, RIGHT_ENTITIES = "entities", "predicted_entities", "right_entities"
"""Columns with the counts of each sentence."""


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

    @property
    def of_entities(self) -> bool:
        """Whether it counts entities; else words."""
        return self.above == RIGHT_ENTITIES


TAG_STATISTICS: Mapping[str, Quotient] = {
    "f1": Quotient(RIGHT_ENTITIES, (PREDICTED_ENTITIES, ENTITIES), 2 * PERCENT),
    "precision": Quotient(RIGHT_ENTITIES, (PREDICTED_ENTITIES,)),
    "recall": Quotient(RIGHT_ENTITIES, (ENTITIES,)),
    "accuracy": Quotient(RIGHT_WORDS, (WORDS,)),
}
"""By the metric's name."""
