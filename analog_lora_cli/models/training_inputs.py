"""Inputs of the layers on tiles, while the model computes digitally on its training data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from analog_lora_cli.hardware.seeds import derive_seed
from analog_lora_cli.models.loaded import LoadedModel
from analog_lora_cli.models.modules import inputs_to
from analog_lora_cli.models.tiling import AnalogModel
from analog_lora_cli.tasks import make_task

if TYPE_CHECKING:
    from datasets import Dataset

Batch = Mapping[str, Tensor]
_BATCH = 8
"""Sequences that are run at a time."""
_FEW_TOKENS = 8
"""As many tokens as a short sequence has, for how many samples are read."""


def training_sample(loaded: LoadedModel, samples: int) -> Dataset:
    """Features of some training samples: drawn by `train.seed`, the same in each process and at each call.

    Args:
        loaded: the model, with its processor.
        samples: their number; fewer where `task.max_train_samples` allows fewer.

    Raises:
        DataError, HubError: the training data cannot be read.
    """
    config = loaded.config
    limit = min(samples, config.task.max_train_samples or samples)
    task = make_task(config.task.model_copy(update={"max_train_samples": limit}), config.train.seed)
    return task.train_features(loaded.processor)


def batches_of(loaded: LoadedModel, features: Dataset, rows: Sequence[int] | None = None) -> list[Batch]:
    """Batches of a few features each, padded.

    Args:
        loaded: the model, with its processor.
        features: result of `training_sample`.
        rows: which of them, in their order; None: all.
    """
    collate = loaded.task.collator(loaded.processor)
    rows = range(len(features)) if rows is None else rows
    return [collate([features[row] for row in rows[start : start + _BATCH]]) for start in range(0, len(rows), _BATCH)]


def batches_with_tokens(loaded: LoadedModel, tokens: int) -> list[Batch]:
    """Batches of training sequences with at least so many tokens, fewer where there are no more; padding left out.

    Args:
        loaded: the model, with its processor.
        tokens: their number.

    Raises:
        DataError, HubError: the training data cannot be read.
    """
    features = training_sample(loaded, -(-tokens // _FEW_TOKENS))
    # The samples come in the order of the data, whose first part may be of one kind.
    order = np.random.PCG64(derive_seed("calibration")).random_raw(len(features)).argsort(kind="stable")
    lengths = np.asarray(features["length"])[order]
    enough = int(np.searchsorted(lengths.cumsum(), tokens)) + 1
    return batches_of(loaded, features, [int(row) for row in order[:enough]])


def digital_inputs(model: AnalogModel, batches: Sequence[Batch], receive: Callable[[str, Tensor], None]) -> None:
    """Run a model on tiles digitally, and hand each layer's inputs to a function; arguments as for `layer_inputs`."""
    with model.digital():
        layer_inputs(model.loaded.module, model.layers, batches, receive)


def stored_inputs(model: AnalogModel, names: Sequence[str], batches: Sequence[Batch]) -> dict[str, Tensor]:
    """Inputs of some layers while a model on tiles computes digitally, kept.

    Args:
        model: the model.
        names: names of its layers; those that the model does not call are left out of the result.
        batches: batches of training features.

    Returns:
        (T, in_features) by name: all calls one after another, without padding.
    """
    parts: dict[str, list[Tensor]] = {}

    def keep(name: str, x: Tensor) -> None:
        parts.setdefault(name, []).append(x.reshape(-1, x.shape[-1]))

    with model.digital():
        layer_inputs(model.loaded.module, {name: model.layers[name] for name in names}, batches, keep)
    return {name: torch.cat(parts.pop(name)) for name in list(parts)}


@torch.no_grad()
def layer_inputs(
    module: nn.Module, layers: Mapping[str, nn.Module], batches: Sequence[Batch], receive: Callable[[str, Tensor], None]
) -> None:
    """Run a model, and hand the inputs of some layers to a function; its mode is left as it is.

    Args:
        module: the model.
        layers: layers in it, by name.
        batches: batches of training features.
        receive: function of a layer's name and its inputs, (..., in_features), without padding where they have one
            for each token.
    """
    device, training = next(module.parameters()).device, module.training
    module.eval()
    for one in batches:
        batch = {name: tensor.to(device) for name, tensor in one.items()}
        mask = token_mask(batch)

        def without_padding(name: str, x: Tensor, mask: Tensor | None = mask) -> None:
            receive(name, x[mask] if mask is not None and x.shape[:2] == mask.shape else x)

        with inputs_to(layers, without_padding):
            module(**batch)
    module.train(training)


def token_mask(batch: Batch) -> Tensor | None:
    """(sequences, tokens): whether a token is none of the padding; None where there is none.

    The choices of a question are sequences too.
    """
    mask = batch.get("attention_mask")
    return None if mask is None else mask.bool().flatten(0, -2)
