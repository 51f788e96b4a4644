"""Resumption of a training, for any Trainer: transformers' own and those built on it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import TrainerState
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from analog_lora_cli.errors import DiskFullError
from analog_lora_cli.runtime import processes
from analog_lora_cli.runtime.ranks import is_main
from analog_lora_cli.storage.files import saving
from analog_lora_cli.training.callbacks.epoch_order import EpochOrder
from analog_lora_cli.training.callbacks.state import StatefulCallback
from analog_lora_cli.training.sampling import reproducible
from analog_lora_cli.training.saved_state import loading, mark_complete

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import nn
    from torch.utils.data import Sampler
    from transformers import Trainer as _Trainer
else:
    _Trainer = object

TRAINED = "trained.safetensors"
"""Trained parameters of a saved state, by their names in the model."""


class ResumableTrainer(_Trainer):
    """A mixin: saved states that are complete or not used, and an order of samples that a resumed run continues.

    It stands before the Trainer: `class SupervisedTrainer(ResumableTrainer, Trainer)`. Trainers that override the same
    methods keep their behaviour: their sampler stays, and their files are part of a saved state.

    A saved state holds the trained parameters, the Trainer's own files, those of each `StatefulCallback`, and, written
    last, the hashes of all of these.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._epoch_order = EpochOrder()
        self.add_callback(self._epoch_order)

    def fit(self, state: Path | None) -> None:
        """Train, from a saved state if there is one.

        Args:
            state: a complete state. If it is that of the last step, the model is only set to it: the Trainer itself
                would take one more step within an epoch.

        Raises:
            CheckpointError: the state is of another kind of training.
        """
        if state is None:
            self.train()
            return
        with loading(str(state)):
            saved = TrainerState.load_from_json(str(state / TRAINER_STATE_NAME))
        if saved.global_step < saved.max_steps:
            self.train(resume_from_checkpoint=str(state))
        else:
            self._load_from_checkpoint(str(state))
            self.state = saved

    def _get_train_sampler(self, *args: Dataset | None) -> Sampler[int] | None:
        self._epoch_order.sampler = reproducible(super()._get_train_sampler(*args), self.args)
        return self._epoch_order.sampler

    def _save(self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        """Save all trained parameters exactly: PEFT's own format leaves out those that AdaLoRA has masked."""
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        save_file(
            {name: p.detach().cpu().contiguous() for name, p in _trained_parameters(self.model)}, str(folder / TRAINED)
        )

    def _save_checkpoint(self, model: nn.Module, trial: object) -> None:
        folder = Path(self.args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        try:
            with saving(folder):
                super()._save_checkpoint(model, trial)
                processes.wait_for_all()
                if is_main():
                    for callback in self._stateful():
                        callback.save_state(folder)
                    mark_complete(folder)
        except DiskFullError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        processes.wait_for_all()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        folder = Path(resume_from_checkpoint)
        with loading(resume_from_checkpoint), torch.no_grad():
            tensors = load_file(str(folder / TRAINED))
            for name, parameter in _trained_parameters(self.model):
                parameter.copy_(tensors[name])
            for callback in self._stateful():
                callback.load_state(folder)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        with loading(checkpoint):
            super()._load_optimizer_and_scheduler(checkpoint)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        with loading(checkpoint):
            super()._load_rng_state(checkpoint)

    def _stateful(self) -> list[StatefulCallback]:
        return [callback for callback in self.callback_handler.callbacks if isinstance(callback, StatefulCallback)]


def _trained_parameters(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
