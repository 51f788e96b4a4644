"""Objectives that a training minimizes: one class for each `objective.kind`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from analog_lora_cli.config.registry import OBJECTIVES, Registry
from analog_lora_cli.config.sections.objective import ObjectiveSection, SupervisedSection
from analog_lora_cli.hardware.tile.training_noise import NoiseScope
from analog_lora_cli.tasks import Task
from analog_lora_cli.training.distillation import Distillation
from analog_lora_cli.training.grpo.objective import Grpo
from analog_lora_cli.training.objective import Objective
from analog_lora_cli.training.recalibration import ClosedForm
from analog_lora_cli.training.supervised import BatchLoss

if TYPE_CHECKING:
    from torch import Tensor, nn

    from analog_lora_cli.training.supervised import Loss


class Supervised(BatchLoss):
    """The model's own loss against the labels."""

    section: ClassVar[type[ObjectiveSection]] = SupervisedSection
    noise_scope: NoiseScope = "forward"
    forward_passes = 1

    def __init__(self, config: ObjectiveSection, task: Task) -> None:
        super().__init__(config, task)
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
register(Distillation)
register(Grpo)
register(ClosedForm)
