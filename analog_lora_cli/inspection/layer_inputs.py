"""Inputs of the layers of a model: recorded on data, or random."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from analog_lora_cli.evaluation.evaluator import Evaluator
from analog_lora_cli.hardware.seeds import derive_seed, seed_generator
from analog_lora_cli.hardware.tile.analog_linear import AnalogLinear
from analog_lora_cli.models.tiling import AnalogModel
from analog_lora_cli.models.training_inputs import token_mask

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
        tokens: as many of the tokens that are not padding, evenly spaced over the sequences.

    Returns:
        (tokens, in_features) by layer, as they arrive at its DACs; fewer tokens where a layer sees only one in a
        sequence.
    """
    evaluator = Evaluator(model.loaded.task, model.loaded.processor, SEQUENCES, torch.device("cpu"))
    batch = next(evaluator.batches())
    mask = token_mask(batch)
    inputs: dict[str, Tensor] = {}

    def record(name: str, x: Tensor) -> None:
        rows = (x if mask is None or x.dim() != 3 else x[mask]).reshape(-1, x.shape[-1])
        spaced = torch.linspace(0, len(rows) - 1, min(tokens, len(rows))).round().long()
        inputs[name] = model.layers[name].at_tiles(rows[spaced].float()).clone()

    model.loaded.module.eval()
    with model.digital(), model.inputs_to(record):
        model.loaded.module(**batch)
    return inputs
