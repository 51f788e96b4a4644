"""The objective `distillation`: the labels' loss, and the distance to a digital teacher's outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch.nn import functional
from transformers import TrainingArguments

from analog_lora_cli.config.sections.distillation import PRETRAINED, SELF, DistillationSection
from analog_lora_cli.config.sections.objective import ObjectiveSection
from analog_lora_cli.errors import UsageError
from analog_lora_cli.hardware.tile.training_noise import NoiseScope
from analog_lora_cli.models.training_inputs import token_mask
from analog_lora_cli.runtime.ranks import world_size
from analog_lora_cli.storage.checkpoint import Checkpoint, read_checkpoint, verify_adapter
from analog_lora_cli.storage.layout import FIRST_ADAPTER
from analog_lora_cli.tasks import Task
from analog_lora_cli.training.supervised import BatchLoss
from analog_lora_cli.training.teachers import make_teacher

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import Tensor, nn
    from torch.optim import Optimizer
    from transformers import TrainerCallback

    from analog_lora_cli.models.build import TrainingModel
    from analog_lora_cli.training.resumable import ResumableTrainer
    from analog_lora_cli.training.supervised import Loss
    from analog_lora_cli.training.teachers import Teacher


class Distillation(BatchLoss):
    """The labels' loss and a teacher, see `DistillationSection`. A batch takes two forward passes.

    The teacher sees each batch before the model does; it draws no noise and no dropout mask, so that those of the model
    are the ones of a training without a teacher.
    """

    section: ClassVar[type[ObjectiveSection]] = DistillationSection
    noise_scope: NoiseScope = "forward"
    forward_passes = 2
    config: DistillationSection
    teacher: Teacher

    def __init__(self, config: ObjectiveSection, task: Task) -> None:
        super().__init__(config, task)
        self.normalizes_by_items = task.normalizes_by_tokens

    def arguments(self, values: dict[str, Any]) -> TrainingArguments:
        """The trainer's arguments.

        Raises:
            CheckpointError: the teacher's folder is no checkpoint, or damaged.
            UsageError: it is of another task.
        """
        self._checkpoint()
        return super().arguments(values)

    def trainer(
        self,
        model: TrainingModel,
        data: Dataset,
        arguments: TrainingArguments,
        callbacks: Sequence[TrainerCallback],
        optimizer: Optimizer | None,
    ) -> ResumableTrainer:
        """The trainer, after the teacher.

        Raises:
            CheckpointError: the teacher cannot be loaded.
        """
        trainer = super().trainer(model, data, arguments, callbacks, optimizer)
        # Afterwards, because the Trainer moves the model to its device.
        self.teacher = make_teacher(self.config.teacher, model, self._checkpoint())
        return trainer

    def compute_loss(
        self,
        own_loss: Callable[..., Loss],
        model: nn.Module,
        inputs: dict[str, Tensor],
        num_items_in_batch: Tensor | int | None = None,
    ) -> Loss:
        config = self.config
        hidden: dict[str, Any] = {"output_hidden_states": True} if config.hidden_weight else {}
        questions = {name: value for name, value in inputs.items() if name not in self.task.label_names}
        taught = self.teacher.answer({**questions, **hidden})
        # A copy, because the Trainer's own loss may take the labels out of the batch.
        labels_loss, outputs = own_loss(
            model, {**inputs, **hidden}, return_outputs=True, num_items_in_batch=num_items_in_batch
        )
        loss = (1 - config.weight) * labels_loss
        pairs = zip(self.task.choices(outputs, inputs), self.task.choices(taught, inputs), strict=True)
        distances = torch.cat([_distances(own, other, config.temperature) for own, other in pairs])
        if not self.normalizes_by_items or num_items_in_batch is None:
            loss = loss + config.weight * distances.mean()
        else:
            # The Trainer averages gradients over processes; items are those of all of them.
            loss = loss + config.weight * world_size() * distances.sum() / num_items_in_batch
        if config.hidden_weight:
            loss = loss + config.hidden_weight * self._hidden_distance(outputs, taught, inputs, num_items_in_batch)
        return loss, outputs

    def _hidden_distance(
        self, outputs: Any, taught: Any, inputs: dict[str, Tensor], num_items_in_batch: Tensor | int | None
    ) -> Tensor:
        """Mean over layers of the relative squared difference; a batch's share of it where the loss is a sum."""
        own, other = outputs["hidden_states"], taught["hidden_states"]
        if [state.shape[-1] for state in own] != [state.shape[-1] for state in other]:
            raise UsageError(
                "objective.hidden_weight: the teacher has other layers than this model: use 0, or a teacher of the "
                "same architecture"
            )
        mask = token_mask(inputs)
        tokens = torch.ones(()) if mask is None else mask[..., None]
        parts = [
            ((a - b).float().square() * tokens).sum() / (b.float().square() * tokens).sum().clamp(min=1e-12)
            for a, b in zip(own, other, strict=True)
        ]
        mean = torch.stack(parts).mean()
        if not self.normalizes_by_items or num_items_in_batch is None:
            return mean
        return mean * (world_size() * self.task.choices(outputs, inputs)[0].shape[0] / num_items_in_batch)

    def _checkpoint(self) -> Checkpoint | None:
        """The teacher's checkpoint; None where it is no folder."""
        if self.config.teacher in (SELF, PRETRAINED):
            return None
        checkpoint = read_checkpoint(Path(self.config.teacher))
        verify_adapter(checkpoint, FIRST_ADAPTER)
        taught, own = checkpoint.config.task, self.task.config
        if not taught.same_head(own):
            other = taught.name if taught.name != own.name else f"{own.name} with other classes"
            raise UsageError(
                f"objective.teacher: {checkpoint.folder} was trained for {other}, whose outputs are not those of this "
                f"{own.name}: name a checkpoint of the same task"
            )
        return checkpoint


def _distances(own_NC: Tensor, other_NC: Tensor, temperature: float) -> Tensor:
    """Distance of each choice among C alternatives to the teacher's, (N,): T^2 KL(teacher || own), both over T.

    A single number, C = 1, is no choice: there it is the squared difference.
    """
    own_NC, other_NC = own_NC.float(), other_NC.float()
    if own_NC.shape[-1] == 1:
        return (own_NC - other_NC).square()[..., 0]
    own, other = ((logits / temperature).log_softmax(dim=-1) for logits in (own_NC, other_NC))
    return temperature**2 * functional.kl_div(own, other, reduction="none", log_target=True).sum(dim=-1)
