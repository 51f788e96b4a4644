"""Training of a model: set up, fit, result."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from transformers import TrainingArguments

from analog_lora_cli.models.build import TrainingModel
from analog_lora_cli.training.additions import additions
from analog_lora_cli.training.callbacks.interruption import SaveOnSignal
from analog_lora_cli.training.callbacks.progress import ObserverCallback, TrainingObserver
from analog_lora_cli.training.memory import explaining_out_of_memory
from analog_lora_cli.training.objectives import make_objective
from analog_lora_cli.training.result import TrainingResult
from analog_lora_cli.training.saved_state import newest_state, step_of

if TYPE_CHECKING:
    from datasets import Dataset


def train(
    model: TrainingModel,
    features: Dataset,
    arguments: TrainingArguments,
    resume: bool,
    observer: TrainingObserver,
    aged_chip: tuple[int, float] | None = None,
) -> TrainingResult:
    """Train a model in place.

    Args:
        model: result of `build`.
        features: training data of the objective.
        arguments: result of `training_arguments`.
        resume: continue from the newest complete state in the folder, if there is one.
        observer: receives the progress.
        aged_chip: seed and age (seconds after programming) of the one chip to train on; None: exact weights with
            statistical noise.

    Raises:
        AnaloraError: out of memory, a full disk, or a loss that is not finite at the end.
        KeyboardInterrupt: a signal came; the state after the step that it came in is saved.
    """
    state = newest_state(Path(arguments.output_dir)) if resume else None
    loaded = model.loaded
    extra = additions(model, arguments, aged_chip)
    interruption = SaveOnSignal()
    objective = make_objective(loaded.config.objective, loaded.task)
    if model.analog is not None and model.analog.noise is not None:
        model.analog.noise.scope = objective.noise_scope
    callbacks = [ObserverCallback(observer), *extra.callbacks, interruption]
    trainer = objective.trainer(model, features, arguments, callbacks, extra.optimizer)
    started = time.monotonic()
    with explaining_out_of_memory(loaded.config), interruption.listening(), observer, ExitStack() as changes:
        for callback in extra.callbacks:
            if isinstance(callback, AbstractContextManager):
                changes.enter_context(callback)
        trainer.fit(state)
    seconds = time.monotonic() - started
    resumed_from = None if state is None else step_of(state)
    return TrainingResult.of(trainer, seconds, resumed_from, objective.forward_passes)
