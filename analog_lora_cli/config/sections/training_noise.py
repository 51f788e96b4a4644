"""Keys of `hardware` for the noise on the weights in training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from analog_lora_cli.config.effects import Affects
from analog_lora_cli.config.section import Section


class TrainingNoiseKeys(Section):
    """Weight noise of a training step."""

    weight_noise: Annotated[float, Affects("training")] = Field(default=0.067, ge=0)
    """Standard deviation of the training noise on the weights, relative to the largest weight of each column of a
    tile; one draw per forward pass. Only in training."""

    weight_noise_type: Annotated[Literal["gaussian", "device-gaussian", "device"], Affects("training")] = "gaussian"
    """`gaussian`: `weight_noise`, as in the paper. The others take the configured `device` at a random age of each
    step, log-uniform between the first and the last of `drift.times`, and not `weight_noise`: `device` programs a new
    chip (exact, slower); `device-gaussian` draws each weight from a normal distribution with the mean and the standard
    deviation that the device's laws give its conductance after programming, drift and read (in closed form, at about
    the cost of `gaussian`; for `pcm` and device files), and compensates the expected drift of each tile."""

    weight_noise_ramp: Annotated[float, Affects("training")] = Field(default=0.0, ge=0, le=1)
    """Share of the training steps over which the weight noise grows linearly from 0 to its value; 0: constant. With
    `device-gaussian` the deviations grow, the mean change by drift is there from the first step; not for `device`."""

    @model_validator(mode="after")
    def _whole_devices(self) -> TrainingNoiseKeys:
        if self.weight_noise_type == "device" and self.weight_noise_ramp:
            raise ValueError(
                f"weight_noise_ramp: {self.weight_noise_ramp:g} does not go with weight_noise_type device, whose chips "
                "have all of their errors in each step: use 0, or device-gaussian"
            )
        return self

    @property
    def weight_noise_size(self) -> float:
        """Factor of the noise that a forward pass draws: `weight_noise`; 1 for a device's own size; 0: none."""
        return {"gaussian": self.weight_noise, "device-gaussian": 1.0, "device": 0.0}[self.weight_noise_type]
