"""What happens between the Trainer's steps: the noise clock, clipping, AdaLoRA's budget, progress."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from analog_lora_cli.config.times import seconds
from analog_lora_cli.hardware.physics.chip import Chip
from analog_lora_cli.hardware.tile.training_noise import derive_seed
from analog_lora_cli.models.tiling import AnalogModel, clip_in_place


class TrainingReport(AbstractContextManager["TrainingReport"]):
    """Hears how a training goes; this one keeps silent."""

    def begin(self, step: int, total: int) -> None:
        """The training starts, or continues, at a step."""

    def step(self, step: int, samples: int) -> None:
        """An optimizer step was done, on this many samples over all processes."""

    def values(self, step: int, values: dict[str, float]) -> None:
        """The Trainer logged values: `loss`, `learning_rate`, `grad_norm`, `epoch`."""

    def __exit__(self, *error: object) -> None:
        """The training ended."""


class ProgressReport(TrainerCallback):
    """Passes the Trainer's progress on to a report, on the main process."""

    def __init__(self, report: TrainingReport) -> None:
        self.report = report

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            self.report.begin(state.global_step, state.max_steps)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            samples = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
            self.report.step(state.global_step, samples)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        if state.is_world_process_zero and logs and "loss" in logs:
            self.report.values(state.global_step, logs)


class NoiseClock(TrainerCallback):
    """Tells the tiles which step it is, how strong the weight noise is, and programs chips for device noise.

    The ramp: strength = min(1, step / (ramp * total steps)), from 0 at the first step.

    Args:
        model: on tiles, with training noise.
        total_steps: optimizer steps of the whole run.
    """

    def __init__(self, model: AnalogModel, total_steps: int) -> None:
        assert model.noise is not None
        self.model = model
        self.noise = model.noise
        self.hardware = model.hardware
        self.ramp_steps = self.hardware.weight_noise_ramp * total_steps
        model.loaded.plain.register_forward_pre_hook(self._before_forward)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.noise.begin_step(state.global_step)
        self.noise.strength = min(1.0, state.global_step / self.ramp_steps) if self.ramp_steps else 1.0
        if self.hardware.weight_noise_type == "device":
            self._program_new_chip(state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.model.use_exact_weights()

    def _before_forward(self, module: torch.nn.Module, inputs: Any) -> None:
        if module.training:
            self.noise.begin_forward()

    def _program_new_chip(self, step: int) -> None:
        seed = derive_seed(self.noise.seed, "training chip", step)
        times = [seconds(label) for label in self.model.loaded.config.drift.times]
        low, high = math.log1p(min(times)), math.log1p(max(times))
        share = (derive_seed(seed, "age") % 10**9) / 10**9
        self.model.program(seed).age(math.expm1(low + share * (high - low)))


class ChipInTheLoop(TrainerCallback):
    """Trains against what one chip holds at one time: its own programming errors, drifted, with fresh read noise.

    A new reading of the chip is drawn every `READ_EVERY` steps; the evaluation's readings count from 0, so that none
    of them was trained on.

    Args:
        model: on tiles, with training noise.
        seed: the chip's seed.
        age: seconds after programming.
    """

    READ_EVERY = 10
    FIRST_READING = 1_000_000

    def __init__(self, model: AnalogModel, seed: int, age: float) -> None:
        self.model = model
        self.seed = seed
        self.age = age
        self._chip: Chip | None = None
        self._reading: int | None = None

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._chip is None:
            self._chip = self.model.program(self.seed)
        reading = self.FIRST_READING + state.global_step // self.READ_EVERY
        if reading != self._reading:
            self._chip.age(self.age, read=reading)
            self._reading = reading

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.model.use_exact_weights()


class AfterEachStep(TrainerCallback):
    """`method: full`: the weights are clipped and mapped again after each optimizer step, as in the paper."""

    def __init__(self, model: AnalogModel) -> None:
        self.model = model

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        clip_in_place(self.model.layers)


class AdaLoraBudget(TrainerCallback):
    """Lets AdaLoRA move its rank budget after each step, and keeps its averages for `--resume`.

    PEFT leaves the call to the training loop, and stores neither the importance averages nor the present ranks.
    """

    FILE = "adalora.safetensors"
    PATTERN = "rank_pattern"
    """Which ranks are left once the budget is final."""
    AVERAGES = ("ipt", "exp_avg_ipt", "exp_avg_unc")

    def __init__(self, model: Any) -> None:
        self.model = model
        self.restore_from: Path | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.restore_from is not None:
            self.restore(self.restore_from)

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.model.base_model.update_and_allocate(state.global_step)

    def save(self, folder: Path) -> None:
        """Write the averages into a saved state."""
        from safetensors.torch import save_file

        allocator = self._allocator()
        tensors = {
            f"{kind}/{name}": tensor.detach().cpu().contiguous()
            for kind in self.AVERAGES
            for name, tensor in getattr(allocator, kind).items()
        }
        pattern = self._config().rank_pattern or {}
        tensors |= {f"{self.PATTERN}/{name}": torch.tensor(ranks, dtype=torch.bool) for name, ranks in pattern.items()}
        save_file(tensors, str(folder / self.FILE))

    def restore(self, folder: Path) -> None:
        """Take the averages from a saved state."""
        from safetensors.torch import load_file

        allocator = self._allocator()
        device = next(self.model.parameters()).device
        pattern: dict[str, list[bool]] = {}
        for key, tensor in load_file(str(folder / self.FILE)).items():
            kind, _, name = key.partition("/")
            if kind == self.PATTERN:
                pattern[name] = tensor.tolist()
                continue
            getattr(allocator, kind)[name] = tensor.to(device)
        if pattern:
            self._config().rank_pattern = pattern

    def _config(self) -> Any:
        return self.model.peft_config[self.model.base_model.trainable_adapter_name]

    def _allocator(self) -> Any:
        return self.model.base_model.rankallocator
