"""Training on one aged chip instead of on statistical noise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.hardware.physics.chip import Chip
from analog_lora_cli.hardware.tile.analog_linear import AnalogLinear

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments


class ChipInTheLoop(TrainerCallback):
    """Trains against what one chip holds at one time: its own programming errors, drifted, with fresh read noise.

    A new reading of the chip is drawn every `READ_EVERY` steps; the evaluation's readings count from 0, so that none
    of them is trained on. As a context manager it gives the layers back their exact weights at the end.

    Args:
        layers: the layers on tiles, by name.
        hardware: the device.
        seed: the chip's seed.
        age: seconds after programming.
    """

    READ_EVERY = 10
    FIRST_READING = 1_000_000

    def __init__(self, layers: Mapping[str, AnalogLinear], hardware: HardwareConfig, seed: int, age: float) -> None:
        self.layers = layers
        self.hardware = hardware
        self.seed = seed
        self.age = age
        self._chip: Chip | None = None
        self._reading: int | None = None

    def __enter__(self) -> ChipInTheLoop:
        return self

    def __exit__(self, *error: object) -> None:
        if self._chip is not None:
            self._chip.release()

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._chip is None:
            self._chip = Chip(self.seed, self.layers, self.hardware)
        reading = self.FIRST_READING + state.global_step // self.READ_EVERY
        if reading != self._reading:
            self._chip.age(self.age, read=reading)
            self._reading = reading
