"""Result of a training, for the manifest."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analog_lora_cli.errors import AnaloraError
from analog_lora_cli.training.sampling import samples_per_step

if TYPE_CHECKING:
    from transformers import Trainer

LOGGED = (
    "step", "epoch", "loss", "learning_rate", "reward", "reward_std", "kl", "entropy", "completions/mean_length",
    "completions/clipped_ratio",
)  # fmt: skip


@dataclass(frozen=True)
class TrainingResult:
    """Numbers of a training that has ended."""

    steps: int
    """Optimizer steps of the whole training, those before a resume included."""
    epochs: float
    samples: int
    """Features in the training set; question answering makes several of a long passage."""
    final_loss: float | None
    """Mean loss of the last logged steps."""
    seconds: float
    """Duration in this process, without the steps before a resume."""
    samples_per_second: float
    forward_passes: int | None
    """Forward passes of batches in the whole training, a teacher's included, each process with its own; None where a
    batch takes no fixed number of them."""
    resumed_from: int | None
    """Step that the run was continued from."""
    log: list[dict[str, float]]
    """Loss, learning rate and step of each logged step; with completions also their rewards and lengths."""

    @classmethod
    def untrained(cls, samples: int, seconds: float) -> TrainingResult:
        """The result where an adapter came about without steps.

        Args:
            samples: number of the sequences that it was made from.
            seconds: duration.
        """
        speed = samples / seconds if seconds > 0 else 0.0
        return cls(0, 0.0, samples, None, seconds, speed, forward_passes=None, resumed_from=None, log=[])

    @classmethod
    def of(
        cls, trainer: Trainer, seconds: float, resumed_from: int | None, passes_per_batch: int | None
    ) -> TrainingResult:
        """Read the result off a trainer.

        Args:
            trainer: after its training.
            seconds: duration in this process.
            resumed_from: step of the saved state that the training continued from.
            passes_per_batch: forward passes that a batch takes; None: no fixed number.

        Raises:
            AnaloraError: the last loss is not finite.
        """
        state = trainer.state
        log = [entry for entry in state.log_history if "loss" in entry]
        final_loss = log[-1]["loss"] if log else None
        if final_loss is not None and not math.isfinite(final_loss):
            raise AnaloraError(
                f"the loss is {final_loss} at step {state.global_step}: the training diverged; try a smaller "
                "train.learning_rate or hardware.weight_noise"
            )
        samples = (state.global_step - (resumed_from or 0)) * samples_per_step(trainer.args)
        batches = state.global_step * trainer.args.gradient_accumulation_steps
        return cls(
            steps=state.global_step,
            epochs=float(state.epoch or 0.0),
            samples=len(trainer.train_dataset),
            final_loss=final_loss,
            seconds=seconds,
            samples_per_second=samples / seconds if seconds > 0 else 0.0,
            forward_passes=None if passes_per_batch is None else batches * passes_per_batch,
            resumed_from=resumed_from,
            log=[_kept(entry) for entry in log],
        )


def _kept(entry: dict[str, float]) -> dict[str, float]:
    """What is kept of a logged entry: the values in LOGGED, and the mean of each reward."""
    kept = {key: value for key, value in entry.items() if key in LOGGED or key.startswith("rewards/")}
    return {key: value for key, value in kept.items() if value is not None}
