"""Log-likelihoods, loss and perplexity against transformers' own loss."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from analog_lora_cli.evaluation.evaluator import Evaluator
from analog_lora_cli.tasks import make_task
from analog_lora_cli.tasks.causal.likelihood import token_log_likelihoods
from analog_lora_cli.tasks.causal.metrics import LOSS, PERPLEXITY
from analog_lora_cli.tasks.causal.tokens import TokenSequence, packed
from analog_lora_cli.tasks.data.collator import IGNORED, PaddingCollator


@pytest.fixture
def model(tiny_decoder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny_decoder).eval()


def test_loss_and_perplexity_are_those_of_all_tokens(
    model: Any, make_config: Callable[..., Any], tiny_decoder: Path
) -> None:
    """Weighted by tokens, whatever the batches; lower is better."""
    task = make_task(make_config("instruction").task, 0)
    tokenizer = AutoTokenizer.from_pretrained(tiny_decoder, pad_token="</s>")
    (eval_set,) = task.eval_sets(tokenizer)
    nats = tokens = 0.0
    for row in eval_set.features:
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor([row["labels"]])
        counted = int((labels != IGNORED).sum())
        nats += model(input_ids=ids, labels=labels).loss.item() * counted
        tokens += counted
    for batch in (1, 3, 8):
        scores = Evaluator(task, tokenizer, batch, torch.device("cpu")).run(model)
        assert scores.metrics == pytest.approx({"loss": nats / tokens, "perplexity": math.exp(nats / tokens)}, rel=1e-6)
        assert scores.samples["validation.nats"].sum() == pytest.approx(nats, rel=1e-6)
    assert not PERPLEXITY.higher_is_better and not LOSS.higher_is_better and task.headline is PERPLEXITY


def test_a_destroyed_model_has_an_infinite_perplexity() -> None:
    assert PERPLEXITY.statistic is not None
    assert PERPLEXITY.statistic.value(np.array([2000.0, 1.0])) == np.inf


def test_models_that_keep_all_logits_give_the_same(model: Any) -> None:
    batch = {
        "input_ids": torch.tensor([[5, 6, 7, 8, 9], [9, 8, 7, 1, 1]]),
        "attention_mask": torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]),
        "labels": torch.tensor([[IGNORED, IGNORED, 7, 8, 9], [IGNORED, 8, 7, IGNORED, IGNORED]]),
    }

    class KeepsAll(torch.nn.Module):
        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
            return model(input_ids=input_ids, attention_mask=attention_mask)

    with torch.no_grad():
        first, second = (token_log_likelihoods(one, batch) for one in (model, KeepsAll()))
    assert [len(row) for row in first] == [3, 2]
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(first, second, strict=True))


def test_packed_samples_are_blind_to_each_other(model: Any, tiny_decoder: Path) -> None:
    """The loss of packed rows is that of the samples alone; every sample is there once."""
    draw = torch.Generator().manual_seed(0)
    samples = []
    for size in (9, 5, 12, 3, 7, 8):
        tokens = torch.randint(5, 25, (size,), generator=draw).tolist()
        samples.append(TokenSequence(tokens, [IGNORED] * 2 + tokens[2:]))
    rows = list(packed(samples, 16))
    assert len(rows) < len(samples) and all(len(row["input_ids"]) <= 16 for row in rows)
    assert sum(len(row["input_ids"]) for row in rows) == sum(len(one.tokens) for one in samples)
    collate = PaddingCollator(AutoTokenizer.from_pretrained(tiny_decoder, pad_token="</s>"))
    with torch.no_grad():
        alone = sum(
            float(row.sum()) for one in samples for row in token_log_likelihoods(model, collate([one.features()]))
        )
        together = sum(float(row.sum()) for row in token_log_likelihoods(model, collate(rows)))
    assert together == pytest.approx(alone, rel=1e-5)
