"""The base of callbacks that have a state of their own to resume from."""

from __future__ import annotations

from pathlib import Path

from transformers import TrainerCallback


class StatefulCallback(TrainerCallback):
    """A callback whose state is part of each saved state of the training.

    `ResumableTrainer` calls both methods: `save_state` on the main process, before the saved state is declared
    complete; `load_state` on every process, after the trained parameters are back in the model and before the first
    step.
    """

    def save_state(self, folder: Path) -> None:
        """Write files of names that no one else uses into a saved state."""

    def load_state(self, folder: Path) -> None:
        """Continue from what `save_state` wrote."""
