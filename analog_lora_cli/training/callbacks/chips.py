"""Training on a device instead of on Gaussian noise: a new chip for each step, its moments, or one aged chip."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor
from transformers import TrainerCallback

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.hardware.physics.chip import Chip
from analog_lora_cli.hardware.physics.device_noise import DeviceNoise
from analog_lora_cli.hardware.seeds import derive_seed
from analog_lora_cli.hardware.tile.analog_linear import AnalogLinear

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments
    from typing_extensions import Self


class ChipCallback(TrainerCallback):
    """The base of all: as a context manager it sets the layers back to their exact weights at the end.

    Args:
        layers: layers on tiles by name.
        hardware: hardware of the chips.
        seed: seed of the chip, or of all chips.
    """

    def __init__(self, layers: Mapping[str, AnalogLinear], hardware: HardwareConfig, seed: int) -> None:
        self.layers = layers
        self.hardware = hardware
        self.seed = seed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for layer in self.layers.values():
            layer.state = None


class RandomAges(ChipCallback):
    """A base: another age of the devices for each step, drawn uniformly in log(1 + t).

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

    def age_of(self, step: int) -> float:
        """Age of the devices in an optimizer step, in seconds after programming."""
        low, high = self.log_ages
        share = (derive_seed(self.chip_seed(step), "age") % 10**9) / 10**9
        return math.expm1(low + share * (high - low))

    def chip_seed(self, step: int) -> int:
        """Seed of the chip of an optimizer step."""
        return derive_seed(self.seed, "training chip", step)


class ChipEachStep(RandomAges):
    """`weight_noise_type: device`: a new chip for each step, programmed from a seed and aged by a random time."""

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        chip = Chip(self.chip_seed(state.global_step), self.layers, self.hardware)
        chip.age(self.age_of(state.global_step))


class DeviceMoments(RandomAges):
    """`weight_noise_type: device-gaussian`: each forward pass draws weights with the moments of devices of an age.

    The ages are those of `ChipEachStep` with the same seed.

    Args:
        layers, hardware, seed, ages: as for `RandomAges`.

    Raises:
        ConfigError: the device has no moments in closed form.
    """

    def __init__(
        self, layers: Mapping[str, AnalogLinear], hardware: HardwareConfig, seed: int, ages: list[float]
    ) -> None:
        super().__init__(layers, hardware, seed, ages)
        self.noise = DeviceNoise.of(hardware)
        self._counts: dict[str, tuple[Tensor, list[Tensor]]] = {}
        """Column scales of each layer, and the counts of its weights as long as it has these."""

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        age = self.age_of(state.global_step)
        for name, layer in self.layers.items():
            layer.state = self.noise.state(layer, self._counts_of(name, layer), age)

    def _counts_of(self, name: str, layer: AnalogLinear) -> list[Tensor]:
        scales, counts = self._counts.get(name, (None, []))
        if scales is not layer.column_scale:
            counts = self.noise.knot_counts(layer)
            self._counts[name] = layer.column_scale, counts
        return counts


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
        self._chip: Chip | None = None
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
