"""Training of the weights on tiles themselves: steps of the optimizer in tile units, then clipping and mapping."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from analog_lora_cli.hardware.tile.analog_linear import AnalogLinear
from analog_lora_cli.hardware.tile.mapping import weight_units
from analog_lora_cli.models.tiling import clip_in_place
from analog_lora_cli.training.callbacks.state import StatefulCallback

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments
    from typing_extensions import Self


class StepInTileUnits(StatefulCallback):
    """`method: full`: the optimizer sees weights and gradients in tile units, as aihwkit's does.

    The weights are divided by their column scales, and so are the gradients (aihwkit divides the gradient of a tile's
    weights by the scale squared). A step of Adam then changes a weight by the learning rate times its column scale, a
    step of SGD as without tiles; the norm at which gradients are clipped is that of the divided ones. After the step
    the weights are clipped and mapped again, as in the paper. Everywhere else they are in their own unit.

    As a context manager it converts the gradients where they arise: before they are accumulated, averaged over
    processes, and clipped.

    Args:
        layers: the layers on tiles, by name.
    """

    def __init__(self, layers: Mapping[str, AnalogLinear]) -> None:
        self.layers = layers

    def __enter__(self) -> Self:
        self._hooks = [layer.weight.register_hook(_in_tile_units(layer)) for layer in self.layers.values()]
        return self

    def __exit__(self, *error: object) -> None:
        for hook in self._hooks:
            hook.remove()

    @torch.no_grad()
    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        for layer in self.layers.values():
            layer.weight.div_(weight_units(layer))

    @torch.no_grad()
    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        for layer in self.layers.values():
            layer.weight.mul_(weight_units(layer))
        clip_in_place(self.layers)

    def load_state(self, folder: Path) -> None:
        """Map the weights that a saved state has brought back; they were clipped when they were saved."""
        for layer in self.layers.values():
            layer.refresh_scales()


def _in_tile_units(layer: AnalogLinear) -> Callable[[Tensor], Tensor]:
    return lambda gradient: gradient / weight_units(layer)
