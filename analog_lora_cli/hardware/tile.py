"""The analog linear layer: a matrix-vector product as tiles with DACs, noise and ADCs compute it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from analog_lora_cli.config.schema import HardwareConfig
from analog_lora_cli.hardware.mapping import TileGrid, column_scales
from analog_lora_cli.hardware.normals import Normals
from analog_lora_cli.hardware.read_out import Converters, output_dtype, read_tiles
from analog_lora_cli.hardware.training_noise import TrainingNoise


@dataclass(frozen=True)
class TileState:
    """What the devices of one layer hold at one moment, as a chip sets it."""

    weight: Tensor
    """(out_features, in_features): the programmed and drifted weights, in the unit of the layer's weight."""
    compensation: Tensor
    """(rows of tiles, out_features): the digital factor against drift, without unit."""


def _refresh_scales(layer: nn.Module, _keys: object) -> None:
    assert isinstance(layer, AnalogLinear)
    layer.refresh_scales()


class AnalogLinear(nn.Linear):
    """A linear layer whose weights lie on analog tiles; the bias is digital.

    For each row of tiles, with x the inputs of those rows and s the column scales (see `mapping`):

        a = max |x|                       one scale a token
        q = DAC(x / a)                    dac_bits, over [-1, 1]
        z = q @ (weight / s).T            in the memory
        y = ADC(z + output_noise * xi)    adc_bits, over [-adc_bound, adc_bound]
        output += a * s * compensation * y

    In training the weights carry Gaussian noise of `weight_noise * s` per column, drawn once a forward pass. The
    gradient treats both converters as the identity inside their range (straight-through estimator) and `a` as a
    constant. Formula: aihwkit's torch tile (`AnalogMVM`) with ABS_MAX noise management; a token of zeros gives
    exactly 0 here.

    Args:
        weight: (out_features, in_features), already clipped.
        bias: (out_features,) or None.
        hardware: the hardware.
        name: the layer's name in the model; part of every seed.
        noise: where training noise comes from; None: no noise in training.
    """

    column_scale: Tensor

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        hardware: HardwareConfig,
        name: str,
        noise: TrainingNoise | None = None,
    ) -> None:
        out_features, in_features = weight.shape
        super().__init__(in_features, out_features, bias=False, device="meta")
        self.weight = nn.Parameter(weight, requires_grad=False)
        if bias is not None:
            self.bias = nn.Parameter(bias, requires_grad=False)
        self.name = name
        self.noise = noise
        self.analog = True
        """False: compute digitally, as a plain linear layer with the same weights."""
        self.state: TileState | None = None
        """What a chip holds; None: the exact weights."""
        self.register_buffer("column_scale", torch.empty(0), persistent=False)
        self.set_hardware(hardware)
        self.register_load_state_dict_post_hook(_refresh_scales)

    def set_hardware(self, hardware: HardwareConfig) -> None:
        """Use other converters, noise or tile sizes from now on; forgets what a chip held."""
        self.hardware = hardware
        self.converters = Converters.of(hardware)
        self.grid = TileGrid.of(self.out_features, self.in_features, hardware)
        self.state = None
        self.refresh_scales()

    def refresh_scales(self) -> None:
        """Compute the column scales anew; needed whenever the weights have changed."""
        self.column_scale = column_scales(self.weight.detach(), self.grid)

    def forward(self, x: Tensor) -> Tensor:
        """Multiply (..., in_features) to (..., out_features)."""
        if not self.analog:
            return functional.linear(x, self.weight, self.bias)
        held, output_seed = _Held(self), None
        if self.training and self.noise is not None:
            output_seed = self.noise.output_seed(self.name)
        product: Tensor = _AnalogProduct.apply(x, self.weight, self.bias, held, output_seed)
        return product

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, tiles={len(self.grid.rows)}x{len(self.grid.columns)}"


class _Held:
    """What the devices of a layer hold in one forward pass: exact or aged weights, with training noise.

    The noise is drawn again in the backward pass instead of being kept: it would be as large as the model.
    """

    def __init__(self, layer: AnalogLinear) -> None:
        self.layer = layer
        self.state = layer.state
        self.strength = 0.0
        """Standard deviation of the noise, relative to the column scale."""
        self.seed = 0
        if layer.training and layer.noise is not None and layer.hardware.weight_noise_type == "gaussian":
            self.strength = layer.hardware.weight_noise * layer.noise.strength
            self.seed = layer.noise.weight_seed(layer.name)

    @torch.no_grad()
    def weight(self) -> Tensor:
        """(out_features, in_features), in the unit of the layer's weight."""
        exact = self.layer.weight.detach() if self.state is None else self.state.weight
        if self.strength == 0:
            return exact
        noisy = Normals(self.seed, exact.device).draw(*exact.shape, dtype=exact.dtype)
        for scale, (start, stop) in zip(self.layer.column_scale, self.layer.grid.rows, strict=True):
            noisy[:, start:stop].mul_(self.strength * scale[:, None])
        return noisy.add_(exact)


class _AnalogProduct(torch.autograd.Function):
    """The product of `AnalogLinear` with its straight-through gradient."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, held: _Held, output_seed: int | None
    ) -> Tensor:
        layer = held.layer
        reading = read_tiles(
            x,
            held.weight(),
            layer.column_scale,
            None if held.state is None else held.state.compensation,
            bias,
            layer.grid,
            layer.converters,
            Normals(output_seed, x.device),
            keep_inputs=ctx.needs_input_grad[1],
            find_saturated=ctx.needs_input_grad[0] or ctx.needs_input_grad[1],
        )
        ctx.held = held
        ctx.input_dtype = x.dtype
        ctx.seen = reading.inputs
        ctx.save_for_backward(*reading.saturated)
        return reading.output.to(output_dtype(x))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (grad,) = gradients
        needs_x, needs_weight, needs_bias, *_ = ctx.needs_input_grad
        held, grid = ctx.held.weight(), ctx.held.layer.grid
        compensation = None if ctx.held.state is None else ctx.held.state.compensation
        grad_2d = grad.reshape(-1, grad.shape[-1])
        grad_x = grad.new_empty(grad_2d.shape[0], held.shape[1]) if needs_x else None
        grad_weight = torch.zeros_like(held) if needs_weight else None
        for index, ((start, stop), saturated) in enumerate(zip(grid.rows, ctx.saved_tensors, strict=True)):
            partial = grad_2d if compensation is None else grad_2d * compensation[index].to(grad.dtype)
            if saturated is not None:
                partial = partial.masked_fill(saturated, 0)
            if grad_x is not None:
                torch.mm(partial, held[:, start:stop].to(partial.dtype), out=grad_x[:, start:stop])
            if grad_weight is not None:
                for column, (first, last) in enumerate(grid.columns):
                    block = partial[:, first:last].to(held.dtype).t() @ ctx.seen[index][column].to(held.dtype)
                    grad_weight[first:last, start:stop] = block
        if grad_x is not None:
            grad_x = grad_x.reshape(*grad.shape[:-1], held.shape[1]).to(ctx.input_dtype)
        grad_bias = grad_2d.to(held.dtype).sum(dim=0) if needs_bias else None
        return grad_x, grad_weight, grad_bias, None, None
