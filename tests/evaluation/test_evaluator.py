"""Batches of an evaluation: what they hold, and that they do not decide about a result."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from unittest.mock import patch

import pytest
import torch

from analog_lora_cli.config.schema import Config
from analog_lora_cli.evaluation import evaluator as evaluation
from analog_lora_cli.evaluation.evaluator import Evaluator
from analog_lora_cli.models.build import load_base
from analog_lora_cli.workflows.train import prepare


def test_batches_on_a_cpu_hold_few_tokens(make_config: Callable[..., Config]) -> None:
    """At most the batch size and at most so many tokens, but one feature in any case; every feature once."""
    loaded = load_base(make_config())
    sizes = {}
    for most in (1, 100, 10**6):
        with patch.object(evaluation, "MOST_TOKENS_ON_CPU", most):
            evaluator = Evaluator(loaded.task, loaded.processor, 24, torch.device("cpu"))
        shapes = [tuple(batch["input_ids"].shape) for batch in evaluator.batches()]
        assert sum(rows for rows, _ in shapes) == evaluator.features
        assert all(rows == 1 or (rows <= 24 and rows * length <= most) for rows, length in shapes)
        sizes[most] = max(rows for rows, _ in shapes)
    assert sizes[1] == 1 < sizes[100] < sizes[10**6] == min(24, evaluator.features)


class Clock(torch.nn.Module):
    """A model that takes a millisecond for each token, by its own clock, and longer the first time."""

    now = 100.0

    def perf_counter(self) -> float:
        return self.now

    def forward(self, input_ids: torch.Tensor, **_: torch.Tensor) -> SimpleNamespace:
        assert not self.training
        self.now += input_ids.numel() / 1000 + (60.0 if self.now == 100.0 else 0.0)
        return SimpleNamespace(logits=torch.zeros(len(input_ids), 2))


def test_the_expected_time_is_that_of_all_tokens(make_config: Callable[..., Config]) -> None:
    loaded = load_base(make_config())
    evaluator = Evaluator(loaded.task, loaded.processor, 5, torch.device("cpu"))
    tokens = sum(batch["input_ids"].numel() for batch in evaluator.batches())
    model = Clock().train()
    with patch.object(evaluation, "time", model):
        assert evaluator.expected_seconds(model) == pytest.approx(tokens / 1000)
    assert model.training


def test_a_digital_result_does_not_depend_on_the_batches(make_config: Callable[..., Config]) -> None:
    model = prepare(make_config()).model.analog
    assert model is not None
    loaded, found = model.loaded, []
    with model.digital():
        for size in (1, 5, 64):
            found.append(Evaluator(loaded.task, loaded.processor, size, torch.device("cpu")).run(loaded.module).metrics)
    assert found[1] == pytest.approx(found[0])
    assert found[2] == pytest.approx(found[0])
