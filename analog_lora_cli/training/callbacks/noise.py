"""Noise on the analog weights in training: when a new draw begins, how strong it is, and chips of the device's own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import nn
from transformers import TrainerCallback

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.hardware.physics.chip import Chip
from analog_lora_cli.hardware.seeds import derive_seed
from analog_lora_cli.hardware.tile.analog_linear import AnalogLinear
from analog_lora_cli.hardware.tile.training_noise import TrainingNoise

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments


class WeightNoiseSchedule(TrainerCallback):
    """Tells the tiles which step and forward pass it is, and how strong the weight noise is.

    The ramp: strength = min(1, step / (ramp * total steps)), from 0 at the first step. As a context manager it observes
    the model's forward passes, and leaves the model alone afterwards however the training ended.

    Args:
        model: the transformers model, without PEFT's wrapper: its forward passes are the ones that count.
        noise: what the tiles of the model draw from.
        ramp: share of the optimizer steps over which the noise grows to its full strength; 0: none.
    """

    def __init__(self, model: nn.Module, noise: TrainingNoise, ramp: float) -> None:
        self.model = model
        self.noise = noise
        self.ramp = ramp

    def __enter__(self) -> WeightNoiseSchedule:
        self._hook = self.model.register_forward_pre_hook(self._before_forward)
        return self

    def __exit__(self, *error: object) -> None:
        self._hook.remove()

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        ramp_steps = self.ramp * state.max_steps
        self.noise.begin_step(state.global_step)
        self.noise.strength = min(1.0, state.global_step / ramp_steps) if ramp_steps else 1.0

    def _before_forward(self, module: nn.Module, inputs: object) -> None:
        if module.training:
            self.noise.begin_forward()


class ChipEachStep(TrainerCallback):
    """`weight_noise_type: device`: a new chip for each step, programmed from a seed and aged by a random time.

    Times are drawn uniformly in log(1 + t). As a context manager it gives the layers back their exact weights at the
    end.

    Args:
        layers: the layers on tiles, by name.
        hardware: the device.
        seed: the run's seed.
        ages: seconds after programming; the shortest and the longest are the limits of the draw.
    """

    def __init__(
        self, layers: Mapping[str, AnalogLinear], hardware: HardwareConfig, seed: int, ages: list[float]
    ) -> None:
        self.layers = layers
        self.hardware = hardware
        self.seed = seed
        self.log_ages = math.log1p(min(ages)), math.log1p(max(ages))
        self._chip: Chip | None = None

    def __enter__(self) -> ChipEachStep:
        return self

    def __exit__(self, *error: object) -> None:
        if self._chip is not None:
            self._chip.release()

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        seed = derive_seed(self.seed, "training chip", state.global_step)
        low, high = self.log_ages
        share = (derive_seed(seed, "age") % 10**9) / 10**9
        self._chip = Chip(seed, self.layers, self.hardware)
        self._chip.age(math.expm1(low + share * (high - low)))
