"""Training on simulated chips instead of on Gaussian noise: a new one for each step, or one aged chip."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from transformers import TrainerCallback

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.hardware.physics.chip import Chip
from analog_lora_cli.hardware.seeds import derive_seed
from analog_lora_cli.hardware.tile.analog_linear import AnalogLinear

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments
    from typing_extensions import Self


class ChipCallback(TrainerCallback):
    """The base of both: as a context manager it sets the layers back to their exact weights at the end.

    Args:
        layers: layers on tiles by name.
        hardware: hardware of the chips.
        seed: seed of the chip, or of all chips.
    """

    def __init__(self, layers: Mapping[str, AnalogLinear], hardware: HardwareConfig, seed: int) -> None:
        self.layers = layers
        self.hardware = hardware
        self.seed = seed
        self._chip: Chip | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._chip is not None:
            self._chip.release()


class ChipEachStep(ChipCallback):
    """`weight_noise_type: device`: a new chip for each step, programmed from a seed and aged by a random time.

    Times are drawn uniformly in log(1 + t).

    Args:
        layers: layers on tiles by name.
        hardware: hardware of the chips.
        seed: seed of the training.
        ages: seconds after programming; the shortest and the longest are the limits of the draw.
    """

    def __init__(
        self, layers: Mapping[str, AnalogLinear], hardware: HardwareConfig, seed: int, ages: list[float]
    ) -> None:
        super().__init__(layers, hardware, seed)
        self.log_ages = math.log1p(min(ages)), math.log1p(max(ages))

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        seed = derive_seed(self.seed, "training chip", state.global_step)
        low, high = self.log_ages
        share = (derive_seed(seed, "age") % 10**9) / 10**9
        self._chip = Chip(seed, self.layers, self.hardware)
        self._chip.age(math.expm1(low + share * (high - low)))


class ChipInTheLoop(ChipCallback):
    """One chip at one age: its own programming errors, drifted, with fresh read noise.

    A new reading of the chip is drawn every `READ_EVERY` steps; the evaluation's readings count from 0, so that none
    of them is trained on.

    Args:
        layers: layers on tiles by name.
        hardware: hardware of the chip.
        seed: seed of the chip.
        age: seconds after programming.
    """

    READ_EVERY = 10
    FIRST_READING = 1_000_000

    def __init__(self, layers: Mapping[str, AnalogLinear], hardware: HardwareConfig, seed: int, age: float) -> None:
        super().__init__(layers, hardware, seed)
        self.age = age
        self._reading: int | None = None

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        if self._chip is None:
            self._chip = Chip(self.seed, self.layers, self.hardware)
        reading = self.FIRST_READING + state.global_step // self.READ_EVERY
        if reading != self._reading:
            self._chip.age(self.age, read=reading)
            self._reading = reading
