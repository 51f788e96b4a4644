"""Objectives that a training minimizes: one class for each `objective.kind`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Protocol

from analog_lora_cli.config.registry import OBJECTIVES, Registry
from analog_lora_cli.config.sections.objective import ObjectiveSection, SupervisedSection
from analog_lora_cli.hardware.tile.training_noise import NoiseScope
from analog_lora_cli.tasks import Task

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers.utils import ModelOutput

    Loss = tuple[Tensor, ModelOutput]
    """Scalar to minimize, and what the model returned."""


class Objective(Protocol):
    """The loss of one forward pass.

    Args:
        config: the `objective` section.
        task: the task that is trained.
    """

    section: ClassVar[type[ObjectiveSection]]
    """The kind of the section; its `kind` says which values of `objective.kind` mean this objective."""

    noise_scope: NoiseScope
    """Forward passes that share one draw of the weight noise, see `TrainingNoise`."""

    normalizes_by_items: bool
    """Whether the loss is a sum over items (say, tokens) divided by `num_items_in_batch`, the number of items of the
    whole optimizer step. Otherwise it is the mean over a batch, and the Trainer averages over accumulated batches."""

    def __init__(self, config: ObjectiveSection, task: Task) -> None: ...

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

    section: ClassVar[type[ObjectiveSection]] = SupervisedSection
    noise_scope: NoiseScope = "forward"

    def __init__(self, config: ObjectiveSection, task: Task) -> None:
        self.config = config
        # Heads for classes and spans return a mean and ignore the number of items. Believing otherwise, the Trainer
        # would multiply the loss by the number of processes, and sum over accumulated batches instead of averaging.
        self.normalizes_by_items = task.normalizes_by_tokens

    def compute_loss(
        self,
        own_loss: Callable[..., Loss],
        model: nn.Module,
        inputs: dict[str, Tensor],
        num_items_in_batch: Tensor | int | None = None,
    ) -> Loss:
        return own_loss(model, inputs, return_outputs=True, num_items_in_batch=num_items_in_batch)


_kinds: Registry[type[Objective]] = Registry("objective")


def register(kind: type[Objective]) -> type[Objective]:
    """Make an objective known, with its section, under the names that the section's `kind` may take.

    Also a class decorator.

    Raises:
        ValueError: another objective has one of the names.
    """
    return OBJECTIVES.register_kind(kind.section, _kinds, kind)


def make_objective(config: ObjectiveSection, task: Task) -> Objective:
    """The objective that the `objective` section describes, for a task."""
    return _kinds[config.kind](config, task)


register(Supervised)
