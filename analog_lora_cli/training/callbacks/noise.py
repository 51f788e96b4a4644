"""Gaussian noise on the analog weights in training: beginning of a new draw, and its strength."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn
from transformers import TrainerCallback

from analog_lora_cli.hardware.tile.training_noise import TrainingNoise

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments


class WeightNoiseSchedule(TrainerCallback):
    """Tells the tiles the current step and forward pass, and the strength of the weight noise.

    The ramp: strength = min(1, step / (ramp * total steps)), from 0 at the first step. As a context manager it observes
    the model's forward passes, and removes its hook afterwards however the training ended.

    Args:
        model: the transformers model, without PEFT's wrapper: its forward passes count.
        noise: source of the noise of the model's tiles.
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

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Let gradient checkpointing compute each layer again with the noise of its own forward pass.

        Here, and not in the arguments, because those are written as JSON, which holds no function.
        """
        # The names changed in transformers 5.24; the old ones work until 6.
        kind = "activation" if hasattr(args, "activation_checkpointing") else "gradient"
        options = {"use_reentrant": False, **(getattr(args, f"{kind}_checkpointing_kwargs", None) or {})}
        if getattr(args, f"{kind}_checkpointing") and not options["use_reentrant"]:
            options["context_fn"] = self.noise.checkpoint_contexts
            getattr(self.model, f"{kind}_checkpointing_enable")(options)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        ramp_steps = self.ramp * state.max_steps
        self.noise.begin_step(state.global_step)
        self.noise.strength = min(1.0, state.global_step / ramp_steps) if ramp_steps else 1.0

    def _before_forward(self, module: nn.Module, inputs: object) -> None:
        if module.training:
            self.noise.begin_forward()
