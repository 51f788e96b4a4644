"""Answers do not depend on the batch: not on its size, nor on what else is in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.models.tiling import replace_linear_layers
from analog_lora_cli.tasks.causal.benchmarks import generation
from analog_lora_cli.tasks.causal.benchmarks.benchmarks import Benchmarks
from tests.tasks.causal.benchmarks.questions import byte_model, byte_tokenizer, write_questions
from tests.tasks.causal.benchmarks.test_parity import ours

pytest.importorskip("lm_eval")

EXACT = HardwareConfig(output_noise=0.0, tile_rows=16, tile_columns=16)
"""8-bit converters, no noise: what is computed is the same each time."""


def model_on_tiles(tokenizer: Any, hardware: HardwareConfig | None) -> Any:
    model = byte_model(tokenizer)
    if hardware is not None:
        replace_linear_layers(model, {"lm_head": "head"}, hardware, None)
    return model


@pytest.mark.parametrize("hardware", [None, EXACT], ids=["digital", "tiles"])
@pytest.mark.parametrize("name", ["hellaswag", "boolq", "gsm8k"])
def test_the_size_of_a_batch(
    name: str, hardware: HardwareConfig | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation, "LONGEST_ANSWER", 40)
    tokenizer = byte_tokenizer()
    model = model_on_tiles(tokenizer, hardware)
    folder = write_questions(tmp_path)
    with torch.inference_mode():
        one, three = (ours(name, folder, None, model, tokenizer, size) for size in (1, 3))
    assert one.samples.keys() == three.samples.keys()
    for column, values in one.samples.items():
        np.testing.assert_allclose(three.samples[column], values, atol=1e-3, err_msg=column)
    assert three.metrics == pytest.approx(one.metrics, abs=1e-3)


@pytest.mark.parametrize("hardware", [None, EXACT], ids=["digital", "tiles"])
def test_answers_are_written_with_a_cache_as_without(
    hardware: HardwareConfig | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next token of a whole forward pass, again and again, is what the batch with its cache writes."""
    monkeypatch.setattr(generation, "LONGEST_ANSWER", 12)
    tokenizer = byte_tokenizer()
    model = model_on_tiles(tokenizer, hardware)
    (eval_set,) = Benchmarks(["gsm8k"], str(write_questions(tmp_path)), 3).eval_sets(tokenizer)
    rows = [torch.tensor(row)[-40 + 7 * index :] for index, row in enumerate(eval_set.features["input_ids"])]
    lengths = [len(row) for row in rows]
    padded = torch.nn.utils.rnn.pad_sequence(rows, True, tokenizer.pad_token_id)
    mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    answers = eval_set.outputs(model, {"input_ids": padded, "attention_mask": mask.long()}, lengths)  # type: ignore[misc]
    for row, answer in zip(rows, answers, strict=True):
        tokens = row
        for written in answer:
            with torch.no_grad():
                following = int(model(tokens[None]).logits[0, -1].argmax())
            assert following == written
            tokens = torch.cat([tokens, torch.tensor([following])])
    assert len({tuple(answer) for answer in answers}) > 1
