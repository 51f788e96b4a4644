"""Inputs of the layers of a model: recorded on data, or random."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from analog_lora_cli.evaluation.evaluator import Evaluator
from analog_lora_cli.hardware.seeds import derive_seed, seed_generator
from analog_lora_cli.hardware.tile.analog_linear import AnalogLinear
from analog_lora_cli.models.tiling import AnalogModel
from analog_lora_cli.models.training_inputs import digital_inputs

SEQUENCES = 8
"""Validation sequences that are run to record inputs: the longest of the first few samples."""


def random_inputs(layers: Mapping[str, AnalogLinear], tokens: int, seed: int) -> dict[str, Tensor]:
    """Standard normal inputs for each layer: (tokens, in_features)."""
    inputs = {}
    for name, layer in layers.items():
        generator = torch.Generator()
        seed_generator(generator, derive_seed(seed, name, "input"))
        inputs[name] = torch.randn(tokens, layer.in_features, generator=generator)
    return inputs


@torch.no_grad()
def recorded_inputs(model: AnalogModel, tokens: int) -> dict[str, Tensor]:
    """Record the input of each analog layer while the model runs digitally on the first of the validation data.

    Args:
        model: with its processor; its task's `max_eval_samples` limits how many samples are read.
        tokens: as many of the tokens that are not padding, evenly spaced over the sequences, and over the calls of a
            layer that is called more than once.

    Returns:
        (tokens, in_features) by layer, as they arrive at its DACs; fewer tokens where a layer sees only one in a
        sequence.
    """
    evaluator = Evaluator(model.loaded.task, model.loaded.processor, SEQUENCES, torch.device("cpu"))
    batch = next(evaluator.batches())
    calls: dict[str, list[Tensor]] = {}

    def record(name: str, x: Tensor) -> None:
        rows = _spaced(x.reshape(-1, x.shape[-1]), tokens)
        calls.setdefault(name, []).append(rows.to(torch.float32, copy=True))

    model.loaded.module.eval()
    digital_inputs(model, [batch], record)
    return {name: model.layers[name].at_tiles(_spaced(torch.cat(parts), tokens)) for name, parts in calls.items()}


def _spaced(rows: Tensor, count: int) -> Tensor:
    """Some rows at even distances; all if there are no more."""
    return rows[torch.linspace(0, len(rows) - 1, min(count, len(rows))).round().long()]
