"""Objectives that a training minimizes: one class for each `objective.kind`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from analog_lora_cli.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers.utils import ModelOutput

    Loss = tuple[Tensor, ModelOutput]
    """Scalar to minimize, and what the model returned."""


class Objective(Protocol):
    """The loss of one forward pass."""

    normalizes_by_items: bool
    """Whether the loss is a sum over items (say, tokens) divided by `num_items_in_batch`, the number of items of the
    whole optimizer step. Otherwise it is the mean over a batch, and the Trainer averages over accumulated batches."""

    def compute_loss(
        self,
        own_loss: Callable[..., Loss],
        model: nn.Module,
        inputs: dict[str, Tensor],
        num_items_in_batch: Tensor | int | None = None,
    ) -> Loss:
        """Compute the loss of a batch.

        Args:
            own_loss: the Trainer's own `compute_loss` with outputs: the loss that the model computes from its labels.
            model: the model, possibly wrapped for several processes.
            inputs: batch of the collator, on the model's device.
            num_items_in_batch: items of the whole optimizer step; None where the loss is a mean.
        """


class Supervised:
    """The model's own loss against the labels."""

    # The heads of these tasks return a mean and ignore the number of items. Believing otherwise, the Trainer would
    # multiply the loss by the number of processes, and sum over accumulated batches instead of averaging.
    normalizes_by_items = False

    def compute_loss(
        self,
        own_loss: Callable[..., Loss],
        model: nn.Module,
        inputs: dict[str, Tensor],
        num_items_in_batch: Tensor | int | None = None,
    ) -> Loss:
        return own_loss(model, inputs, return_outputs=True, num_items_in_batch=num_items_in_batch)


OBJECTIVES: dict[str, Callable[[], Objective]] = {"supervised": Supervised}
"""Objectives by `objective.kind`."""


def make_objective(kind: str) -> Objective:
    """The objective of a kind.

    Raises:
        ConfigError: no such kind.
    """
    if kind not in OBJECTIVES:
        raise ConfigError([f"objective.kind: {kind!r} is not known; use one of {', '.join(OBJECTIVES)}"])
    return OBJECTIVES[kind]()
