"""The product of an analog layer as one operator, which torch.compile takes as it is, without breaking the graph.

Inside it runs what runs without compilation. The seeds of the noise are looked up when it runs, so nothing is compiled
again when they change. They leave the operator as tensors, and a chip's state enters it as tensors: what autograd saves
of them makes the backward pass compute with the weights of its own forward pass.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from analog_lora_cli.hardware.tile.array import GradientNeeds
from analog_lora_cli.hardware.tile.effective_weights import EffectiveWeights, present_noise
from analog_lora_cli.hardware.tile.handles import layer_of
from analog_lora_cli.hardware.tile.input_scale import FixedRange, InputScale, TokenMaximum
from analog_lora_cli.hardware.tile.saturation import bytes_of
from analog_lora_cli.hardware.tile.state import TileLayer, TileState
from analog_lora_cli.hardware.tile.training_noise import LayerNoise


@torch.library.custom_op("analora::product", mutates_args=())
def product(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    chip_weight: Tensor | None,
    compensation: Tensor | None,
    adc_offset: Tensor | None,
    moments: Tensor | None,
    input_range: Tensor | None,
    handle: int,
    dtype: torch.dtype | None,
    find_saturated: bool,
    keep_inputs: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The analog MVM of a layer.

    Args:
        x: (..., in_features).
        weight: (out_features, in_features), the layer's: an argument so that autograd knows of it.
        bias: (out_features,) or None.
        chip_weight: weight of the chip's state; None: exact weights.
        compensation: drift-compensation factors of the chip's state.
        adc_offset: offsets of its ADCs; None: 0.
        moments: moments of what its devices hold; None: `chip_weight` is what they hold.
        input_range: (rows of tiles,), ranges of the inputs; None: each token's own.
        handle: number of the layer, see `handles`.
        dtype: type that autocast asks for; None: no autocast.
        find_saturated: whether any gradient will be needed.
        keep_inputs: whether the gradient of the weight will be needed.

    Returns:
        output: (..., out_features).
        saturated: (rows of tiles, tokens, bytes), bits, see `saturation`, 1 where an ADC was beyond its bound; empty if
            not needed.
        inputs: (columns of tiles whose inputs differ, tokens, in_features), after the DACs; empty if not needed.
        seed: seed of the weight noise, int64 on the CPU.
        strength: standard deviation of the weight noise, float64 on the CPU.
    """
    layer = layer_of(handle)
    state = _state(chip_weight, compensation, adc_offset, moments)
    effective = EffectiveWeights(layer, state, present_noise(layer), _input_scale(input_range))
    result = effective.mvm(x, bias, dtype, GradientNeeds(inputs=keep_inputs, saturation=find_saturated))
    tokens = x.numel() // x.shape[-1]
    saturated = result.saturated
    if saturated is None:
        # The graph knows one shape only, whether anything saturates or not.
        shape = _bits_shape(layer, tokens) if find_saturated else (0,)
        saturated = torch.zeros(shape, dtype=torch.uint8, device=x.device)
    inputs = weight.new_empty(0, dtype=layer.column_scale.dtype) if result.inputs is None else result.inputs
    seed = torch.tensor(effective.noise.weight_seed, dtype=torch.int64)
    strength = torch.tensor(effective.noise.strength, dtype=torch.float64)
    return result.output.to(dtype or x.dtype), saturated, inputs, seed, strength


@product.register_fake
def _(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    chip_weight: Tensor | None,
    compensation: Tensor | None,
    adc_offset: Tensor | None,
    moments: Tensor | None,
    input_range: Tensor | None,
    handle: int,
    dtype: torch.dtype | None,
    find_saturated: bool,
    keep_inputs: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    layer, tokens = layer_of(handle), x.numel() // x.shape[-1]
    bits_shape = _bits_shape(layer, tokens) if find_saturated else (0,)
    input_shape = (_input_columns(layer), tokens, weight.shape[1]) if keep_inputs else (0,)
    return (
        x.new_empty(*x.shape[:-1], weight.shape[0], dtype=dtype or x.dtype),
        x.new_empty(bits_shape, dtype=torch.uint8),
        weight.new_empty(input_shape, dtype=layer.column_scale.dtype),
        torch.empty((), dtype=torch.int64),
        torch.empty((), dtype=torch.float64),
    )


def _bits_shape(layer: TileLayer, tokens: int) -> tuple[int, int, int]:
    return len(layer.grid.rows), tokens, bytes_of(layer.weight.shape[0])


def _bits(saturated: Tensor) -> Tensor | None:
    """None where it is known that nothing saturates; a GPU would have to be waited for."""
    return saturated if saturated.device.type != "cpu" or bool(saturated.any()) else None


def _input_columns(layer: TileLayer) -> int:
    """Columns of tiles with inputs of their own: each token's input is halved until its outputs on that tile fit."""
    return len(layer.grid.columns) if layer.converters.iterative else 1


def _state(
    chip_weight: Tensor | None,
    compensation: Tensor | None,
    adc_offset: Tensor | None = None,
    moments: Tensor | None = None,
) -> TileState | None:
    if chip_weight is None or compensation is None:
        return None
    return TileState(chip_weight, compensation, adc_offset, moments)


def _input_scale(input_range: Tensor | None) -> InputScale:
    return TokenMaximum() if input_range is None else FixedRange(input_range.detach().abs())


@torch.library.custom_op("analora::input_gradient", mutates_args=())
def input_gradient(
    grad: Tensor,
    x: Tensor | None,
    chip_weight: Tensor | None,
    compensation: Tensor | None,
    moments: Tensor | None,
    input_range: Tensor | None,
    saturated: Tensor,
    seed: Tensor,
    strength: Tensor,
    handle: int,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """The straight-through gradients of the input of `product` and of its input ranges."""
    noise = LayerNoise(strength.item(), int(seed.item()))
    state, input_scale = _state(chip_weight, compensation, None, moments), _input_scale(input_range)
    effective = EffectiveWeights(layer_of(handle), state, noise, input_scale)
    grad_x, grad_range = effective.input_and_range_gradients(x, grad, _bits(saturated))
    return grad_x.to(dtype), grad_range


@input_gradient.register_fake
def _(
    grad: Tensor,
    x: Tensor | None,
    chip_weight: Tensor | None,
    compensation: Tensor | None,
    moments: Tensor | None,
    input_range: Tensor | None,
    saturated: Tensor,
    seed: Tensor,
    strength: Tensor,
    handle: int,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    grad_range = grad.new_empty(0) if input_range is None else torch.empty_like(input_range)
    return grad.new_empty(*grad.shape[:-1], layer_of(handle).weight.shape[1], dtype=dtype), grad_range


@torch.library.custom_op("analora::weight_gradient", mutates_args=())
def weight_gradient(
    grad: Tensor,
    chip_weight: Tensor | None,
    compensation: Tensor | None,
    saturated: Tensor,
    inputs: Tensor,
    handle: int,
) -> Tensor:
    """The straight-through gradient of the weight of `product`."""
    layer = layer_of(handle)
    effective = EffectiveWeights(layer, _state(chip_weight, compensation), LayerNoise(), TokenMaximum())
    return effective.weight_gradient(grad, _bits(saturated), inputs)


@weight_gradient.register_fake
def _(
    grad: Tensor,
    chip_weight: Tensor | None,
    compensation: Tensor | None,
    saturated: Tensor,
    inputs: Tensor,
    handle: int,
) -> Tensor:
    weight = layer_of(handle).weight
    return inputs.new_empty(tuple(weight.shape), dtype=weight.dtype)


class _Context(FunctionCtx):
    """Attributes that the backward pass needs."""

    handle: int
    input_dtype: torch.dtype
    weight_dtype: torch.dtype
    needs_input_grad: tuple[bool, ...]
    saved_tensors: tuple[Tensor, ...]


_Inputs = tuple[
    Tensor,
    Tensor,
    Tensor | None,
    Tensor | None,
    Tensor | None,
    Tensor | None,
    Tensor | None,
    Tensor | None,
    int,
    torch.dtype | None,
    bool,
    bool,
]
"""Arguments of `product`."""


def _setup(ctx: _Context, inputs: _Inputs, output: tuple[Tensor, ...]) -> None:
    x, weight, _, chip_weight, compensation, _, moments, input_range, ctx.handle, *_ = inputs
    ctx.input_dtype, ctx.weight_dtype = x.dtype, weight.dtype
    saved_x = None if input_range is None else x
    ctx.save_for_backward(saved_x, chip_weight, compensation, moments, input_range, *output[1:])  # type: ignore[arg-type]


def _backward(ctx: _Context, grad: Tensor, *_grads: Tensor) -> tuple[Tensor | None, ...]:
    x, chip_weight, compensation, moments, input_range, saturated, inputs, seed, strength = ctx.saved_tensors
    needs_x, needs_weight, needs_bias, _, _, _, _, needs_range, *_ = ctx.needs_input_grad
    chip = (chip_weight, compensation)
    grad_x = grad_range = None
    if needs_x or needs_range:
        grad_x, grad_range = input_gradient(
            grad, x, *chip, moments, input_range, saturated, seed, strength, ctx.handle, ctx.input_dtype
        )
    grad_weight = weight_gradient(grad, *chip, saturated, inputs, ctx.handle) if needs_weight else None
    grad_bias = grad.reshape(-1, grad.shape[-1]).to(ctx.weight_dtype).sum(dim=0) if needs_bias else None
    grads_of_numbers = (None,) * 4
    return grad_x, grad_weight, grad_bias, *(None,) * 4, grad_range if needs_range else None, *grads_of_numbers


product.register_autograd(_backward, setup_context=_setup)
