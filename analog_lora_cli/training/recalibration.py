"""The objective of a recalibration: it has a solution in closed form, so that nothing is trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from transformers import TrainingArguments

from analog_lora_cli.config.sections.objective import ObjectiveSection, RecalibrationSection
from analog_lora_cli.errors import UsageError
from analog_lora_cli.hardware.tile.training_noise import NoiseScope
from analog_lora_cli.training.objective import Objective

if TYPE_CHECKING:
    from datasets import Dataset
    from torch.optim import Optimizer
    from transformers import TrainerCallback

    from analog_lora_cli.models.build import TrainingModel
    from analog_lora_cli.tasks.base import Processor


class ClosedForm(Objective):
    """The error of one chip's products; see `models.recalibration`."""

    section: ClassVar[type[ObjectiveSection]] = RecalibrationSection
    noise_scope: NoiseScope = "forward"

    def arguments(self, values: dict[str, Any]) -> TrainingArguments:
        self._refuse()

    def training_data(self, processor: Processor) -> Dataset:
        return self.task.train_features(processor)

    def trainer(
        self,
        model: TrainingModel,
        data: Dataset,
        arguments: TrainingArguments,
        callbacks: Sequence[TrainerCallback],
        optimizer: Optimizer | None,
    ) -> NoReturn:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise UsageError(
            "objective.kind: recalibration corrects one chip of a trained checkpoint and trains nothing: use "
            "`analora adapt CHECKPOINT --preset recalibrate-chip --chip SEED --at TIME`"
        )
