"""Loss and perplexity of a language model, weighted by tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analog_lora_cli.tasks.base import FloatArray, Scorer
from analog_lora_cli.tasks.metric import Metric
from analog_lora_cli.tasks.sample_statistics import Array, SampleStatistic
from analog_lora_cli.tasks.scores import Column, Columns, Scores

LOSS_OF_SAMPLE = "nats"
"""Column with the negative log-likelihood of a sample's tokens, summed."""
TOKENS = "tokens"
"""Column with the number of a sample's tokens that count."""


@dataclass(frozen=True)
class LossPerToken(SampleStatistic):
    """Mean negative log-likelihood of a token: sum of all samples' nats over the sum of their tokens."""

    def moments(self, columns: Columns) -> Array:
        return np.stack([columns[LOSS_OF_SAMPLE], columns[TOKENS]], axis=-1).astype(np.float64)

    def value(self, means: Array) -> Array:
        return means[..., 0] / means[..., 1]


@dataclass(frozen=True)
class Perplexity(LossPerToken):
    """exp(loss per token)."""

    def value(self, means: Array) -> Array:
        with np.errstate(over="ignore"):  # A model that is destroyed may have an infinite one.
            return np.exp(super().value(means))


PERPLEXITY = Metric("perplexity", unit="", higher_is_better=False, statistic=Perplexity())
LOSS = Metric("loss", unit="nats per token", higher_is_better=False, statistic=LossPerToken())


def likelihood_scorer(tokens: Column) -> Scorer:
    """A scorer of log-likelihoods.

    Args:
        tokens: (N,) tokens of each sample that count.
    """

    def scorer(outputs: Sequence[FloatArray]) -> Scores:
        nats = -np.concatenate([np.ravel(output) for output in outputs]).astype(np.float64)
        columns: Columns = {LOSS_OF_SAMPLE: nats, TOKENS: tokens}
        metrics = {}
        for metric in (PERPLEXITY, LOSS):
            assert metric.statistic is not None
            metrics[metric.name] = float(metric.statistic.value(metric.statistic.moments(columns).mean(axis=0)))
        return Scores(metrics, {LOSS_OF_SAMPLE: nats})

    return scorer
