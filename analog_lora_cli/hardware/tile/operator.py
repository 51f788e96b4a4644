"""The product of an analog layer as one operator, which torch.compile takes as it is, without breaking the graph.

Inside it runs what runs without compilation. What a chip holds and the seeds of the noise are looked up at that time,
so nothing is compiled again when they change.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from analog_lora_cli.hardware.tile.analog_linear import layer_of
from analog_lora_cli.hardware.tile.effective_weights import HeldWeights


@torch.library.custom_op("analora::product", mutates_args=())
def product(
    x: Tensor, weight: Tensor, bias: Tensor | None, layer: int, dtype: torch.dtype | None, find_saturated: bool
) -> tuple[Tensor, Tensor]:
    """Read a layer's tiles.

    Args:
        x: (..., in_features).
        weight: the layer's, so that autograd sees it; it is not trained.
        bias: the layer's.
        layer: its handle.
        dtype: autocast's; None: no autocast.
        find_saturated: for the gradient.

    Returns:
        (..., out_features), and (rows of tiles, tokens, out_features) where an ADC was beyond its bound; empty without
        `find_saturated`.
    """
    reading = HeldWeights(layer_of(layer)).read(x, bias, dtype, keep_inputs=False, find_saturated=find_saturated)
    output = reading.output.to(dtype or x.dtype)
    if not find_saturated:
        return output, x.new_empty(0, dtype=torch.bool)
    nowhere = torch.zeros(x.numel() // x.shape[-1], weight.shape[0], dtype=torch.bool, device=x.device)
    return output, torch.stack([nowhere if mask is None else mask for mask in reading.saturated])


@product.register_fake
def _(
    x: Tensor, weight: Tensor, bias: Tensor | None, layer: int, dtype: torch.dtype | None, find_saturated: bool
) -> tuple[Tensor, Tensor]:
    output = x.new_empty(*x.shape[:-1], weight.shape[0], dtype=dtype or x.dtype)
    if not find_saturated:
        return output, x.new_empty(0, dtype=torch.bool)
    rows = len(layer_of(layer).grid.rows)
    return output, x.new_empty(rows, x.numel() // x.shape[-1], weight.shape[0], dtype=torch.bool)


@torch.library.custom_op("analora::input_gradient", mutates_args=())
def input_gradient(grad: Tensor, saturated: Tensor, layer: int, dtype: torch.dtype) -> Tensor:
    """The straight-through gradient of the input of `product`."""
    return HeldWeights(layer_of(layer)).input_gradient(grad, list(saturated)).to(dtype)


@input_gradient.register_fake
def _(grad: Tensor, saturated: Tensor, layer: int, dtype: torch.dtype) -> Tensor:
    return grad.new_empty(*grad.shape[:-1], layer_of(layer).in_features, dtype=dtype)


def _setup(ctx: Any, inputs: Any, output: Any) -> None:
    x, _, _, ctx.layer, _, _ = inputs
    ctx.input_dtype = x.dtype
    ctx.save_for_backward(output[1])


def _backward(ctx: Any, grad: Tensor, _: Any) -> Any:
    (saturated,) = ctx.saved_tensors
    return input_gradient(grad, saturated, ctx.layer, ctx.input_dtype), None, None, None, None, None


product.register_autograd(_backward, setup_context=_setup)
