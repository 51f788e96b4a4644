"""Ending a training early without losing what it has learned."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from transformers import TrainerCallback

from analog_lora_cli.runtime import processes
from analog_lora_cli.runtime.ranks import world_size

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Ctrl-C, and what a scheduler sends before it kills."""


class SaveOnSignal(TrainerCallback):
    """On the first signal the training saves a state after its current step and ends; the second ends it at once.

    Several processes agree after each step whether one of them has had a signal. There the second one is ignored:
    a scheduler and a launcher both send theirs.
    """

    def __init__(self) -> None:
        self.received = False

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        if processes.any_of(self.received):
            self.received = True
            control.should_save = control.should_training_stop = True

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Catch the signals while the block runs.

        Raises:
            KeyboardInterrupt: after the block, if one came.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._receive) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if processes.any_of(self.received):
            raise KeyboardInterrupt

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received and world_size() == 1:
            raise KeyboardInterrupt
        self.received = True
