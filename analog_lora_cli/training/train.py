"""Training through transformers' Trainer: set up so that a run can be killed, resumed, and shared by processes."""

from __future__ import annotations

import math
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import PrinterCallback, ProgressCallback, TrainerState

from analog_lora_cli.config.schema import Config
from analog_lora_cli.config.sections.adapter import LoraPlusSection
from analog_lora_cli.errors import AnaloraError, DiskFullError
from analog_lora_cli.hardware.tile.analog_linear import AnalogLinear
from analog_lora_cli.models.build import Built
from analog_lora_cli.runtime import processes
from analog_lora_cli.storage.files import saving
from analog_lora_cli.training.callbacks import (
    AdaLoraBudget,
    AfterEachStep,
    ChipInTheLoop,
    NoiseClock,
    ProgressReport,
    TrainingReport,
)
from analog_lora_cli.training.interruption import SaveOnSignal
from analog_lora_cli.training.sampling import EpochSampler, planned_steps
from analog_lora_cli.training.saved_state import loading, mark_whole, newest_state, step_of

TRAINED = "trained.safetensors"
"""The trained parameters of a saved state, by their names in the model."""


@dataclass(frozen=True)
class TrainingResult:
    """What a training run amounted to."""

    steps: int
    epochs: float
    samples: int
    """Features in the training set; question answering makes several of a long passage."""
    final_loss: float | None
    """Mean loss of the last logged steps."""
    seconds: float
    """Of this process, without what was done before a resume."""
    samples_per_second: float
    resumed_from: int | None
    """Step that the run was continued from."""
    log: list[dict[str, float]]
    """Loss, learning rate and step of each logged step."""


class _Trainer(Trainer):
    """The Trainer with a reproducible order of samples and states that are whole or not used."""

    optimizer: Any

    def __init__(self, *args: Any, lora_plus_ratio: float | None = None, **kwargs: Any) -> None:
        self.lora_plus_ratio = lora_plus_ratio
        super().__init__(*args, **kwargs)
        # The heads of these tasks return a mean and ignore `num_items_in_batch`. Believing otherwise, the Trainer would
        # multiply the loss by the number of processes, and sum over accumulated batches instead of averaging.
        self.model_accepts_loss_kwargs = False

    def _get_train_sampler(self, train_dataset: Any = None) -> EpochSampler:
        dataset = self.train_dataset if train_dataset is None else train_dataset
        self.epoch_sampler = EpochSampler(
            lengths=list(dataset["length"]),
            strategy=self.args.train_sampling_strategy,
            step_samples=self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size,
            seed=self.args.seed if self.args.data_seed is None else self.args.data_seed,
        )
        return self.epoch_sampler

    def create_optimizer(self, model: Any = None) -> Any:
        if self.lora_plus_ratio is None or self.optimizer is not None:
            return super().create_optimizer(model)
        from peft.optimizers import create_loraplus_optimizer

        cls, kwargs = Trainer.get_optimizer_cls_and_kwargs(self.args, self.model)
        kwargs["weight_decay"] = self.args.weight_decay
        self.optimizer = create_loraplus_optimizer(self.model, cls, loraplus_lr_ratio=self.lora_plus_ratio, **kwargs)
        return self.optimizer

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Save what is trained, exactly: PEFT's own format leaves out what AdaLoRA has masked."""
        from safetensors.torch import save_file

        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: p.detach().cpu().contiguous() for name, p in _trainable(self.model)}, str(folder / TRAINED))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        from safetensors.torch import load_file

        with loading(resume_from_checkpoint), torch.no_grad():
            tensors = load_file(str(Path(resume_from_checkpoint) / TRAINED))
            for name, parameter in _trainable(self.model):
                parameter.copy_(tensors[name])
        for module in self.model.modules():
            if isinstance(module, AnalogLinear):
                module.refresh_scales()

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        with loading(checkpoint):
            super()._load_optimizer_and_scheduler(checkpoint)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        with loading(checkpoint):
            super()._load_rng_state(checkpoint)

    def take(self, state: Path) -> None:
        """Be what a state of the last step says: the Trainer itself would do one more step within an epoch."""
        self._load_from_checkpoint(str(state))
        self.state = TrainerState.load_from_json(str(state / TRAINER_STATE_NAME))
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, AdaLoraBudget):
                callback.restore(state)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        try:
            with saving(folder):
                super()._save_checkpoint(model, trial)
                processes.wait_for_all()
                if processes.is_main():
                    self._complete(folder)
        except DiskFullError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        processes.wait_for_all()

    def _complete(self, folder: Path) -> None:
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, AdaLoraBudget):
                callback.save(folder)
        mark_whole(folder)


def _trainable(model: Any) -> list[tuple[str, torch.nn.Parameter]]:
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]


def train(
    built: Built,
    arguments: TrainingArguments,
    resume: bool,
    report: TrainingReport,
    aged_chip: tuple[int, float] | None = None,
) -> TrainingResult:
    """Train a built model in place.

    Args:
        built: from `build`.
        arguments: from `training_arguments`.
        resume: continue from the newest whole state in the folder, if there is one.
        report: told about each step.
        aged_chip: seed and age (seconds after programming) of the one chip to train on; None: exact weights with
            statistical noise.

    Raises:
        AnaloraError: out of memory, a full disk, or a loss that is not finite at the end.
        KeyboardInterrupt: a signal came; the state after the step that it came in is saved.
    """
    config = built.config
    folder = Path(arguments.output_dir)
    state = newest_state(folder) if resume else None
    total = planned_steps(config, len(built.train_features))
    plus = config.adapter.lora_plus_ratio if isinstance(config.adapter, LoraPlusSection) else None
    trainer = _Trainer(
        model=built.model,
        args=arguments,
        train_dataset=built.train_features,
        data_collator=built.task.collator(built.tokenizer),
        callbacks=_callbacks(built, total, report, aged_chip),
        lora_plus_ratio=plus,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(_EpochOrder(trainer))
    interruption = SaveOnSignal()
    trainer.add_callback(interruption)
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, AdaLoraBudget) and state is not None:
            callback.restore_from = state
    started = time.monotonic()
    try:
        with interruption.listening(), report:
            if state is not None and step_of(state) >= total:
                trainer.take(state)
            else:
                trainer.train(resume_from_checkpoint=str(state) if state is not None else None)
    except torch.OutOfMemoryError as error:
        raise AnaloraError(_out_of_memory(config, error)) from None
    except RuntimeError as error:
        if "not enough memory" in str(error):
            raise AnaloraError(_out_of_memory(config, error)) from None
        raise
    elapsed = time.monotonic() - started
    log = [entry for entry in trainer.state.log_history if "loss" in entry]
    resumed = step_of(state) if state is not None else None
    steps = trainer.state.global_step - (resumed or 0)
    seen = steps * trainer.epoch_sampler.step_samples if steps else 0
    final_loss = log[-1]["loss"] if log else None
    if final_loss is not None and not math.isfinite(final_loss):
        raise AnaloraError(
            f"the loss is {final_loss} at step {trainer.state.global_step}: the training diverged; try a smaller "
            "train.learning_rate or hardware.weight_noise"
        )
    return TrainingResult(
        steps=trainer.state.global_step,
        epochs=float(trainer.state.epoch or 0.0),
        samples=len(built.train_features),
        final_loss=final_loss,
        seconds=elapsed,
        samples_per_second=seen / elapsed if elapsed > 0 else 0.0,
        resumed_from=resumed,
        log=[{key: entry[key] for key in ("step", "epoch", "loss", "learning_rate") if key in entry} for entry in log],
    )


def _callbacks(
    built: Built, total_steps: int, report: TrainingReport, aged_chip: tuple[int, float] | None
) -> list[TrainerCallback]:
    config = built.config
    callbacks: list[TrainerCallback] = [ProgressReport(report)]
    if built.noise is not None:
        callbacks.append(NoiseClock(built, total_steps))
    if aged_chip is not None:
        callbacks.append(ChipInTheLoop(built, *aged_chip))
    if config.trains_base:
        callbacks.append(AfterEachStep(built))
    elif config.adapter.variant == "adalora":
        callbacks.append(AdaLoraBudget(built.model))
    return callbacks


class _EpochOrder(TrainerCallback):
    """Tell the sampler which epoch begins; wrappers of the data loader lose the call on the way."""

    def __init__(self, trainer: _Trainer) -> None:
        self.trainer = trainer

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.trainer.epoch_sampler.set_epoch(int((state.epoch or 0.0) + 1e-6))


def _out_of_memory(config: Config, error: Exception) -> str:
    return (
        f"out of memory with train.per_device_train_batch_size {config.train.per_device_train_batch_size} and "
        f"task.max_length {config.task.max_length}: {str(error).splitlines()[0]}\n"
        "Halve the batch and double train.gradient_accumulation_steps: the result is the same. "
        "train.gradient_checkpointing=true saves more, for time"
    )
