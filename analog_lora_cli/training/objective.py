"""Interface of an objective: what a training minimizes, on which data, and with which trainer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from transformers import TrainingArguments

from analog_lora_cli.config.sections.objective import ObjectiveSection
from analog_lora_cli.hardware.tile.training_noise import NoiseScope
from analog_lora_cli.tasks import Task

if TYPE_CHECKING:
    from datasets import Dataset
    from torch.optim import Optimizer
    from transformers import TrainerCallback

    from analog_lora_cli.models.build import TrainingModel
    from analog_lora_cli.tasks.base import Processor
    from analog_lora_cli.training.resumable import ResumableTrainer


class Objective(ABC):
    """What a training minimizes.

    Args:
        config: the `objective` section.
        task: the task that is trained.
    """

    section: ClassVar[type[ObjectiveSection]]
    """The kind of the section; its `kind` says which values of `objective.kind` mean this objective."""

    noise_scope: NoiseScope
    """Forward passes that share one draw of the weight noise, see `TrainingNoise`."""

    forward_passes: ClassVar[int | None] = None
    """Forward passes that a training batch takes, a teacher's included; None: no fixed number."""

    def __init__(self, config: ObjectiveSection, task: Task) -> None:
        self.config = config
        self.task = task

    @abstractmethod
    def arguments(self, values: dict[str, Any]) -> TrainingArguments:
        """The trainer's arguments. Reads no data.

        Args:
            values: arguments of TrainingArguments.

        Raises:
            UsageError, ConfigError: the objective cannot be trained so, or not here.
            ValueError, TypeError, ImportError: TrainingArguments does not accept a value.
        """

    @abstractmethod
    def training_data(self, processor: Processor) -> Dataset:
        """What the trainer trains on.

        Raises:
            DataError, HubError, UsageError: as for `Task.train_features`.
        """

    @abstractmethod
    def trainer(
        self,
        model: TrainingModel,
        data: Dataset,
        arguments: TrainingArguments,
        callbacks: Sequence[TrainerCallback],
        optimizer: Optimizer | None,
    ) -> ResumableTrainer:
        """The trainer.

        Args:
            model: result of `build`.
            data: result of `training_data`.
            arguments: result of `arguments`.
            callbacks: in this order.
            optimizer: None: as `train.optim` says.

        Raises:
            UsageError, DataError: the data do not suit the objective.
        """
