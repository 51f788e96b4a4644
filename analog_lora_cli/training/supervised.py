"""transformers' Trainer, resumable, with an injected objective: a loss of batches."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from transformers import Trainer, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from analog_lora_cli.training.objective import Objective
from analog_lora_cli.training.resumable import ResumableTrainer

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import Tensor, nn
    from torch.optim import Optimizer
    from transformers import TrainerCallback
    from transformers.utils import ModelOutput

    from analog_lora_cli.models.build import TrainingModel
    from analog_lora_cli.tasks.base import Processor

    Loss = tuple[Tensor, ModelOutput]
    """Scalar to minimize, and what the model returned."""


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


class BatchLoss(Objective):
    """The base of objectives that are a loss of a batch of the task's training features."""

    normalizes_by_items: bool
    """Whether the loss is a sum over items (say, tokens) divided by `num_items_in_batch`, the number of items of the
    whole optimizer step. Otherwise it is the mean over a batch, and the Trainer averages over accumulated batches."""

    @abstractmethod
    def compute_loss(
        self,
        own_loss: Callable[..., Loss],
        model: nn.Module,
        inputs: dict[str, Tensor],
        num_items_in_batch: Tensor | int | None = None,
    ) -> Loss:
        """Compute the loss of a batch.

        Args:
            own_loss: the Trainer's own `compute_loss` with outputs: the loss of the labels, see `Task.batch_loss`.
            model: the model, possibly wrapped for several processes.
            inputs: batch of the collator, on the model's device.
            num_items_in_batch: items of the whole optimizer step; None where the loss is a mean.
        """

    def arguments(self, values: dict[str, Any]) -> TrainingArguments:
        return TrainingArguments(**values)

    def training_data(self, processor: Processor) -> Dataset:
        return self.task.train_features(processor)

    def trainer(
        self,
        model: TrainingModel,
        data: Dataset,
        arguments: TrainingArguments,
        callbacks: Sequence[TrainerCallback],
        optimizer: Optimizer | None,
    ) -> ResumableTrainer:
        return SupervisedTrainer(
            model=model.loaded.module,
            args=arguments,
            train_dataset=data,
            data_collator=self.task.collator(model.loaded.processor),
            callbacks=list(callbacks),
            optimizers=(optimizer, None),
            objective=self,
        )
