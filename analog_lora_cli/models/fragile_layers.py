"""The layers whose analog error matters most for the loss, measured before a training (`hardware.layers: auto:N`).

With one layer l on the tiles of a chip and all others digital, its products y_t are off by e_t: by clipping,
converters, noise, programming and read, the chip being one that no evaluation measures. For the loss L of a sequence
with gradients g_t = dL/dy_t, the expected increase is to second order half of the curvature along e, which the Fisher
information estimates from gradients alone (as in optimal brain surgeon and K-FAC):

    score_l = sum over sequences and chips of (sum_t g_t . e_t)^2

The first-order term has no part in it: errors of either sign are as likely. Scores are shown as shares of their sum
over all layers; products of errors of two layers are left out, and so are later layers that take an error back.

Cost: for each chip one forward and one backward pass of the digital model on TOKENS tokens, one analog product of each
layer on them, and the programming of one chip; once more for each further group of layers that fits the workspace.

Axes of tensors by suffix: B sequences, T tokens, I inputs, O outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack

import torch
from torch import Tensor, nn
from torch.nn import functional

from analog_lora_cli.config.times import seconds
from analog_lora_cli.errors import UsageError
from analog_lora_cli.hardware.physics.chip import Chip
from analog_lora_cli.hardware.seeds import derive_seed, seeded_globally
from analog_lora_cli.hardware.tile.analog_linear import AnalogLinear
from analog_lora_cli.models.analog_copies import analog_copies, future_layers, in_parts
from analog_lora_cli.models.loaded import LoadedModel
from analog_lora_cli.models.training_inputs import Batch, batches_with_tokens, token_mask
from analog_lora_cli.runtime import processes

TOKENS = 4096
"""Tokens of training data that the errors are measured on."""
CHIPS = 2
"""Chips that are measured, at the first time of `drift.times`."""


def fragile_layers(loaded: LoadedModel, count: int) -> dict[str, float]:
    """The layers with the largest scores, largest first, each with its share of the sum of all scores.

    The same in each process and at each call.

    Args:
        loaded: a model without adapters, all layers digital; its parameters are frozen.
        count: number of layers.

    Raises:
        UsageError: no layer would be left for tiles, or the task's training data have no loss.
        DataError, HubError: the training data cannot be read.
    """
    if not count:
        return {}
    hardware = loaded.config.hardware.model_copy(update={"layers": None})
    layers = future_layers(loaded, hardware)
    if count >= len(layers):
        raise UsageError(
            f"hardware.layers: auto:{count} leaves nothing for tiles: only {len(layers)} layers can lie there"
        )
    scores: dict[str, float] = processes.gather(_scores(loaded, layers))[0]
    total = sum(scores.values()) or 1.0
    order = sorted(scores, key=lambda name: -scores[name])
    return {name: scores[name] / total for name in order[:count]}


def _scores(loaded: LoadedModel, layers: Mapping[str, nn.Linear]) -> dict[str, float]:
    config = loaded.config
    batches = batches_with_tokens(loaded, TOKENS)
    age = min(map(seconds, config.drift.times))
    scores = dict.fromkeys(layers, 0.0)
    for part in in_parts(layers, squares=False):
        copies = analog_copies(loaded, part, config.hardware, batches)
        for number in range(CHIPS):
            seed = derive_seed("fragile layers", number)
            Chip(seed, copies, config.hardware).age(age)
            with seeded_globally("output noise", f"fragile layers {number}"):
                _add_scores(loaded, part, copies, batches, scores)
    return scores


def _add_scores(
    loaded: LoadedModel,
    layers: Mapping[str, nn.Linear],
    copies: Mapping[str, AnalogLinear],
    batches: Sequence[Batch],
    scores: dict[str, float],
) -> None:
    model, task = loaded.plain, loaded.task
    device = next(model.parameters()).device
    model.requires_grad_(False).eval()
    for one in batches:
        batch = {name: tensor.to(device) for name, tensor in one.items()}
        with ExitStack() as hooks, torch.enable_grad():
            for name, layer in layers.items():
                measure = _Measurement(name, layer, copies[name], token_mask(batch), scores)
                hooks.callback(layer.register_forward_hook(measure.watch).remove)
            result = model(**batch)
            loss = task.batch_loss(result, batch)
            loss = result.get("loss") if loss is None else loss
            if loss is None:
                raise UsageError(
                    f"hardware.layers: auto:N needs a loss of training data, and those of task {task.config.name} have "
                    "none: name the layers that stay digital in hardware.digital_layers"
                )
            # A mean over the batch: times its sequences, so that a smaller last batch counts no more than the others.
            (loss * len(next(iter(batch.values())))).backward()


class _Measurement:
    """Adds to the score of one layer in one pass."""

    def __init__(
        self, name: str, layer: nn.Linear, copy: AnalogLinear, mask_BT: Tensor | None, scores: dict[str, float]
    ) -> None:
        self.name, self.layer, self.copy, self.mask_BT, self.scores = name, layer, copy, mask_BT, scores

    def watch(self, _: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """Forward hook: ask for the gradient of the product."""
        if not output.requires_grad:
            output = output.requires_grad_().clone()  # A copy may be changed in place afterwards.
        x = inputs[0].detach()
        output.register_hook(lambda gradient: self.add(x, gradient))
        return output

    @torch.no_grad()
    def add(self, x: Tensor, gradient: Tensor) -> None:
        """Count inputs (B, ..., I) and gradients (B, ..., O)."""
        dtype = self.copy.column_scale.dtype
        x = x.to(dtype)
        error = functional.linear(x, self.layer.weight.to(dtype)) - self.copy(x)
        change = (gradient.to(dtype) * error).sum(dim=-1)
        if self.mask_BT is not None and change.shape == self.mask_BT.shape:
            change = change * self.mask_BT
        self.scores[self.name] += float(change.reshape(len(change), -1).sum(dim=1).double().square().sum())
