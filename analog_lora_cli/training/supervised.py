"""transformers' Trainer, resumable, with an injected objective."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import Trainer
from transformers.trainer_callback import PrinterCallback

from analog_lora_cli.training.resumable import ResumableTrainer

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers.utils import ModelOutput

    from analog_lora_cli.training.objective import BatchLoss


class SupervisedTrainer(ResumableTrainer, Trainer):
    """Trains on batches of a data set.

    Args:
        objective: the loss.
        args: positional arguments of transformers' Trainer.
        kwargs: keyword arguments of transformers' Trainer.
    """

    def __init__(self, *args: Any, objective: BatchLoss, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.objective = objective
        self.model_accepts_loss_kwargs = objective.normalizes_by_items
        # Progress goes to an observer; the Trainer would print dictionaries to stdout.
        self.remove_callback(PrinterCallback)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, ModelOutput]:
        loss, outputs = self.objective.compute_loss(self._labels_loss, model, inputs, num_items_in_batch)
        return (loss, outputs) if return_outputs else loss

    def _labels_loss(self, model: nn.Module, inputs: dict[str, Tensor], **options: Any) -> tuple[Tensor, ModelOutput]:
        """The task's own loss; the model's where the task has none."""
        loss, outputs = super().compute_loss(model, inputs, **options)
        own = self.objective.task.batch_loss(outputs, inputs)
        return loss if own is None else own, outputs
