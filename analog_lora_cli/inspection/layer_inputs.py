"""What the layers of a model are given to multiply: real inputs, or random ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from analog_lora_cli.evaluation.evaluator import Evaluator
from analog_lora_cli.hardware.seeds import derive_seed
from analog_lora_cli.models.build import Built

SEQUENCES = 8
"""Validation sequences that are run to record inputs: the longest of the first few samples."""


def random_inputs(layers: dict[str, Any], tokens: int, seed: int) -> dict[str, Tensor]:
    """Standard normal inputs for each layer: (tokens, in_features)."""
    made = {}
    for name, layer in layers.items():
        generator = torch.Generator().manual_seed(derive_seed(seed, name, "input"))
        made[name] = torch.randn(tokens, layer.in_features, generator=generator)
    return made


@torch.no_grad()
def recorded_inputs(built: Built, tokens: int) -> dict[str, Tensor]:
    """What each analog layer is given while the model runs digitally on the first of the validation data.

    Args:
        built: on tiles, with its tokenizer; its task's `max_eval_samples` limits how many samples are read.
        tokens: as many of the tokens that are not padding, evenly spaced over the sequences.

    Returns:
        (tokens, in_features) by layer; fewer tokens where a layer sees only one in a sequence.
    """
    evaluator = Evaluator(built.task, built.tokenizer, SEQUENCES, torch.device("cpu"))
    batch = next(evaluator.batches())
    kept = batch["attention_mask"].bool().reshape(-1).nonzero()[:, 0]
    seen: dict[str, Tensor] = {}
    built.model.eval()
    built.set_analog(False)
    with ExitStack() as hooks:
        for name, layer in built.layers.items():
            hooks.enter_context(_recording(name, layer, kept, tokens, seen))
        built.model(**batch)
    built.set_analog(True)
    return seen


@contextmanager
def _recording(name: str, layer: nn.Module, kept: Tensor, tokens: int, seen: dict[str, Tensor]) -> Iterator[None]:
    def record(_module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        x = arguments[0]
        rows = x.reshape(-1, x.shape[-1])
        if x.dim() == 3:
            rows = rows[kept]
        spaced = torch.linspace(0, len(rows) - 1, min(tokens, len(rows))).round().long()
        seen[name] = rows[spaced].float().clone()

    handle = layer.register_forward_pre_hook(record)
    try:
        yield
    finally:
        handle.remove()
