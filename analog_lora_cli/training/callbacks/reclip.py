"""Clipping of weights on tiles that are trained themselves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from analog_lora_cli.hardware.tile.analog_linear import AnalogLinear
from analog_lora_cli.models.tiling import clip_in_place
from analog_lora_cli.training.callbacks.state import StatefulCallback

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments


class ReclipWeights(StatefulCallback):
    """`method: full`: the weights are clipped and mapped again after each optimizer step, as in the paper.

    Args:
        layers: the layers on tiles, by name.
    """

    def __init__(self, layers: Mapping[str, AnalogLinear]) -> None:
        self.layers = layers

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        clip_in_place(self.layers)

    def load_state(self, folder: Path) -> None:
        """Map the weights that a saved state has brought back; they were clipped when they were saved."""
        for layer in self.layers.values():
            layer.refresh_scales()
