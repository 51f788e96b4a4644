"""The analog linear layer: a matrix-vector product as tiles with DACs, noise and ADCs compute it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.hardware.kernels.choice import require_kernels
from analog_lora_cli.hardware.tile.array import GradientNeeds
from analog_lora_cli.hardware.tile.converters import Converters, DigitalScales
from analog_lora_cli.hardware.tile.effective_weights import EffectiveWeights
from analog_lora_cli.hardware.tile.grid import TileGrid
from analog_lora_cli.hardware.tile.handles import register_layer
from analog_lora_cli.hardware.tile.input_scale import FixedRange, InputScale, TokenMaximum
from analog_lora_cli.hardware.tile.mapping import column_scales
from analog_lora_cli.hardware.tile.operator import product
from analog_lora_cli.hardware.tile.rotation import HadamardRotation
from analog_lora_cli.hardware.tile.state import TileState
from analog_lora_cli.hardware.tile.training_noise import TrainingNoise

_NO_GRADIENT = GradientNeeds()


def _refresh_scales(layer: nn.Module, _keys: object) -> None:
    assert isinstance(layer, AnalogLinear)
    layer.refresh_scales()


def _leave_out_ranges(_module: nn.Module, state: dict[str, Tensor], prefix: str, _metadata: object) -> None:
    """Ranges are a setting of the hardware: the weights are those of a plain model, which has none."""
    state.pop(f"{prefix}input_range", None)


class AnalogLinear(nn.Linear):
    """A linear layer whose weights lie on analog tiles; the bias is digital.

    For each row of tiles, with x the inputs of those rows and s the column scales (see `mapping`):

        a = max |x|                       one scale a token
        q = DAC(x / a)                    dac_bits, over [-1, 1]
        z = q @ (weight / s).T            in the memory
        y = ADC(z + output_noise * xi)    adc_bits, over [-adc_bound, adc_bound]
        output += a * s * compensation * y

    With `hardware.input_range` static or learned, a is one range of the row of tiles and x is clipped to [-a, a].

    In training the weights carry Gaussian noise of `weight_noise * s` per column, drawn once a forward pass. The
    gradient treats both converters as the identity inside their range (straight-through estimator) and `a` as a
    constant. Weights and inputs in half precision are computed with in float32. Formula: aihwkit's torch tile
    (`AnalogMVM`) with ABS_MAX noise management; a token of zeros gives exactly 0 here.

    Args:
        weight: (out_features, in_features), already clipped.
        bias: (out_features,) or None.
        hardware: tiles, converters and noise.
        name: the layer's name in the model; part of every seed.
        noise: source of the training noise; None: no noise in training.
        rotation: rotation of the inputs before the DACs, which `weight` already has in it; None: none.
    """

    column_scale: Tensor
    input_range: Tensor | None
    """(rows of tiles,): ranges of the inputs, see `set_input_range`; None: dynamic, or not set yet."""

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        hardware: HardwareConfig,
        name: str,
        noise: TrainingNoise | None = None,
        rotation: HadamardRotation | None = None,
    ) -> None:
        out_features, in_features = weight.shape
        super().__init__(in_features, out_features, bias=False, device="meta")
        self.weight = nn.Parameter(weight, requires_grad=False)
        if bias is not None:
            self.bias = nn.Parameter(bias, requires_grad=False)
        self.name = name
        self.noise = noise
        self.rotation = None if rotation is None else rotation.to(weight.device)
        self.analog = True
        """False: compute digitally, as a plain linear layer with the same weights."""
        self.state: TileState | None = None
        """Weights and drift-compensation factors of a chip; None: the exact weights. Replaced as a whole, never changed
        in place: backward passes compute with the state of their forward pass."""
        # Not persistent: it follows from the weights, and is computed anew when they are loaded.
        self.register_buffer("column_scale", torch.empty(0), persistent=False)
        self.register_buffer("input_range", None, persistent=False)
        self._scales: tuple[Tensor, Tensor | None, DigitalScales] | None = None
        """Digital scales after the column scales and compensation factors that they were computed from."""
        self.handle = register_layer(self)
        """The layer's number for `operator`."""
        self.set_hardware(hardware)
        self.register_load_state_dict_post_hook(_refresh_scales)
        self.register_state_dict_post_hook(_leave_out_ranges)

    def set_hardware(self, hardware: HardwareConfig) -> None:
        """Use other converters, noise or tile sizes from now on; returns to the exact weights.

        Raises:
            ConfigError: `hardware.kernels` asks for what cannot be loaded here.
        """
        require_kernels(hardware)
        self.hardware = hardware
        self.converters = Converters.of(hardware)
        self.grid = TileGrid.of(self.out_features, self.in_features, hardware)
        self.state = None
        if self.input_range is not None and not self._fits(self.input_range):
            self._register_range(None)
        self.refresh_scales()

    @property
    def input_scale(self) -> InputScale:
        """The scale of the inputs: each token's own, or the ranges as they are now."""
        if self.hardware.input_range == "dynamic":
            return TokenMaximum()
        assert self.input_range is not None
        return FixedRange(self.input_range.detach().abs())

    def set_input_range(self, range_R: Tensor) -> None:
        """Use these ranges of the inputs; with `learned` they become a parameter that is trained.

        Args:
            range_R: (rows of tiles,), positive.

        Raises:
            ValueError: another number of ranges, or one that is not positive.
        """
        if not self._fits(range_R) or not bool((range_R > 0).all()):
            raise ValueError(f"{self.name}: expected {len(self.grid.rows)} positive input ranges, got {range_R}")
        own = range_R.detach().to(self.weight.device, torch.float32, copy=True)
        self._register_range(nn.Parameter(own) if self.hardware.input_range == "learned" else own)

    def _fits(self, range_R: Tensor) -> bool:
        return self.hardware.input_range != "dynamic" and range_R.shape == (len(self.grid.rows),)

    def _register_range(self, range_R: Tensor | None) -> None:
        del self.input_range
        if isinstance(range_R, nn.Parameter):
            self.register_parameter("input_range", range_R)
        else:
            self.register_buffer("input_range", range_R, persistent=False)

    def at_tiles(self, x: Tensor) -> Tensor:
        """Inputs (..., in_features) as they arrive at the DACs: rotated, if the hardware rotates them."""
        return x if self.rotation is None else self.rotation(x)  # type: ignore[no-any-return]

    @property
    def model_weight(self) -> Tensor:
        """(out_features, in_features): the exact weights as the model has them, those on tiles without the rotation."""
        weight = self.weight.detach()
        return weight if self.rotation is None else self.rotation.undone(weight)

    def refresh_scales(self) -> None:
        """Compute the column scales anew; needed whenever the weights have changed."""
        self.column_scale = column_scales(self.weight.detach(), self.grid)

    def digital_scales(self, compensation: Tensor | None) -> DigitalScales:
        """The digital numbers around the tiles.

        Args:
            compensation: (rows of tiles, out_features): drift-compensation factors; None: 1.
        """
        if self._scales is None or self._scales[0] is not self.column_scale or self._scales[1] is not compensation:
            with torch.no_grad():
                scales = DigitalScales.of(self.column_scale, compensation, self.converters)
            self._scales = (self.column_scale, compensation, scales)
        return self._scales[2]

    def forward(self, x: Tensor) -> Tensor:
        """Multiply (..., in_features) to (..., out_features)."""
        x = self.at_tiles(x)
        if not self.analog:
            return functional.linear(x, self.weight, self.bias)
        if self.input_range is None and self.hardware.input_range != "dynamic":
            raise RuntimeError(f"{self.name}: its input ranges must be set first")
        dtype = _autocast_dtype(x)
        if torch.compiler.is_compiling():
            # The operator learns here what the backward pass will need: inside it autograd is off.
            # Attributes of the state are inputs of the graph: another chip does not compile it again.
            state = self.state
            chip: tuple[Tensor | None, ...] = (None, None, None, None)
            if state is not None:
                chip = (state.weight, state.compensation, state.adc_offset, state.moments)
            gradients = torch.is_grad_enabled()
            trained = gradients and self.weight.requires_grad
            result: Tensor = product(
                x, self.weight, self.bias, *chip, self.input_range, self.handle, dtype, gradients, trained
            )[0]
        else:
            effective = EffectiveWeights.now(self)
            if torch.is_grad_enabled():
                result = _AnalogProduct.apply(x, self.weight, self.bias, self.input_range, effective, dtype)
            else:
                result = effective.mvm(x, self.bias, dtype, _NO_GRADIENT).output.to(dtype or x.dtype)
        return result

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> AnalogLinear:
        """Move or convert the layer, its chip's state included; scales and state are never in half precision."""
        super()._apply(fn, recurse)
        self.refresh_scales()
        if self.state is not None:
            present = {name: tensor for name, tensor in vars(self.state).items() if tensor is not None}
            self.state = TileState(**{name: tensor.to(self.column_scale) for name, tensor in present.items()})
        return self

    def __setstate__(self, state: dict[str, object]) -> None:
        super().__setstate__(state)
        self.handle = register_layer(self)  # A copy is a layer of its own.

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, tiles={len(self.grid.rows)}x{len(self.grid.columns)}"


class _Context(FunctionCtx):
    """Attributes that the backward pass needs."""

    effective: EffectiveWeights
    input_dtype: torch.dtype
    inputs: Tensor | None
    needs_input_grad: tuple[bool, ...]
    saved_tensors: tuple[Tensor | None, ...]


class _AnalogProduct(torch.autograd.Function):
    """The product of `AnalogLinear` with its straight-through gradient."""

    @staticmethod
    def forward(
        ctx: _Context,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        input_range: Tensor | None,
        effective: EffectiveWeights,
        dtype: torch.dtype | None,
    ) -> Tensor:
        needs_x, needs_weight, _, needs_range, *_ = ctx.needs_input_grad
        needs = GradientNeeds(inputs=needs_weight, saturation=needs_x or needs_weight or needs_range)
        result = effective.mvm(x, bias, dtype, needs)
        ctx.effective = effective
        ctx.input_dtype = x.dtype
        ctx.inputs = result.inputs
        ctx.save_for_backward(None if input_range is None else x, result.saturated)  # type: ignore[arg-type]
        return result.output.to(dtype or x.dtype)

    @staticmethod
    def backward(ctx: _Context, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = gradients
        effective, (x, saturated) = ctx.effective, ctx.saved_tensors
        needs_x, _, needs_bias, needs_range, *_ = ctx.needs_input_grad
        grad_x = grad_range = None
        if needs_x or needs_range:
            grad_x, grad_range = effective.input_and_range_gradients(x, grad, saturated)
            grad_x = grad_x.to(ctx.input_dtype)
        grad_weight = None if ctx.inputs is None else effective.weight_gradient(grad, saturated, ctx.inputs)
        dtype = effective.layer.weight.dtype
        grad_bias = grad.reshape(-1, grad.shape[-1]).to(dtype).sum(dim=0) if needs_bias else None
        return grad_x, grad_weight, grad_bias, grad_range if needs_range else None, None, None


def _autocast_dtype(x: Tensor) -> torch.dtype | None:
    device = x.device.type
    # The meta device, on which shapes are computed, has no autocast.
    enabled = device != "meta" and torch.is_autocast_enabled(device)
    return torch.get_autocast_dtype(device) if enabled else None
