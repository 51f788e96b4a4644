"""Progress of a training for an observer that shows it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from transformers import TrainerCallback

from analog_lora_cli.training.sampling import samples_per_step

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments


class TrainingObserver(AbstractContextManager["TrainingObserver"]):
    """Observes a training; this one shows nothing."""

    def begin(self, step: int, total: int) -> None:
        """The training starts, or continues, at a step."""

    def step(self, step: int, samples: int) -> None:
        """An optimizer step has ended, on this many samples over all processes."""

    def values(self, step: int, values: dict[str, float]) -> None:
        """The Trainer logged values: `loss`, `learning_rate`, `grad_norm`, `epoch`; with completions also `reward`,
        `completions/mean_length`, `kl`, where there is one, and others of TRL's."""

    def __exit__(self, *error: object) -> None:
        """The training ended."""


class ObserverCallback(TrainerCallback):
    """Passes the Trainer's progress on to an observer, on the main process."""

    def __init__(self, observer: TrainingObserver) -> None:
        self.observer = observer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        if state.is_world_process_zero:
            self.observer.begin(state.global_step, state.max_steps)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        if state.is_world_process_zero:
            self.observer.step(state.global_step, samples_per_step(args))

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: object,
    ) -> None:
        if state.is_world_process_zero and logs and "loss" in logs:
            # TRL logs None where none of a step's completions has a value.
            self.observer.values(state.global_step, {name: value for name, value in logs.items() if value is not None})
