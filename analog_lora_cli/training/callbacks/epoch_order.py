"""The order of samples follows the epoch, also where a training is resumed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.utils.data import Sampler
from transformers import TrainerCallback

from analog_lora_cli.training.sampling import begin_epoch

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments


class EpochOrder(TrainerCallback):
    """Tells the sampler which epoch begins; wrappers of the data loader lose that call on the way."""

    sampler: Sampler[int] | None = None
    """Sampler of the training data; None until the Trainer has asked for it, or where the data have no length."""

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        if self.sampler is not None:
            begin_epoch(self.sampler, int((state.epoch or 0.0) + 1e-6), args)
