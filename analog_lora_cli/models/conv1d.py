"""GPT-2's `Conv1D`: a linear layer whose matrix transformers stores transposed, (inputs, outputs).

Tiles, adapters and reports know linear layers, (outputs, inputs). So each of them is replaced by the linear layer that
computes the same, before anything else happens to the model, and what is written for others has transformers' layout.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def replace_conv1d(model: nn.Module) -> tuple[str, ...]:
    """Replace each `Conv1D` of a plain model by a linear layer; returns the layers' names.

    One layer at a time, so that only one matrix is there twice.
    """
    from transformers.pytorch_utils import Conv1D

    names = tuple(name for name, module in model.named_modules() if isinstance(module, Conv1D))
    for name in names:
        parent, _, attribute = name.rpartition(".")
        holder = model.get_submodule(parent)
        layer = getattr(holder, attribute)
        inputs, outputs = layer.weight.shape
        linear = nn.Linear(inputs, outputs, device="meta")
        linear.weight = nn.Parameter(layer.weight.detach().t().contiguous(), layer.weight.requires_grad)
        linear.bias = layer.bias
        linear.train(layer.training)
        setattr(holder, attribute, linear)
    return names


def original_state(model: nn.Module, conv1d: Collection[str]) -> dict[str, Tensor]:
    """The model's tensors by name, as transformers' own model has them.

    Args:
        model: a plain model, its layers on tiles or not.
        conv1d: names of the layers that `replace_conv1d` has replaced.
    """
    state: dict[str, Tensor] = model.state_dict()
    return state | {f"{name}.weight": state[f"{name}.weight"].t().contiguous() for name in conv1d}


def save_original(model: PreTrainedModel, conv1d: Collection[str], folder: Path) -> None:
    """Save a plain model as a transformers folder; arguments as for `original_state`."""
    model.save_pretrained(str(folder), state_dict=original_state(model, conv1d))
