"""Converters, noise and sums in float32 whatever the type of the model: errors against a product in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.hardware.physics.chip import Chip
from analog_lora_cli.hardware.tile.analog_linear import AnalogLinear

WEIGHT = torch.randn(64, 96, generator=torch.Generator().manual_seed(1)) * 0.1
X = torch.randn(256, 96, generator=torch.Generator().manual_seed(2))
HALVES = [torch.bfloat16, torch.float16]


def hardware(bits: int, **changes: object) -> HardwareConfig:
    quiet = {"output_noise": 0.0, "weight_noise": 0.0, "tile_rows": 48, "adc_bound": 12.0}
    return HardwareConfig(**{**quiet, "dac_bits": bits, "adc_bits": bits, **changes})  # type: ignore[arg-type]


def layer_of(weight: Tensor, bits: int) -> AnalogLinear:
    return AnalogLinear(weight.clone(), None, hardware(bits), "layer").eval()


def in_float64(weight: Tensor, x: Tensor, bits: int) -> Tensor:
    return layer_of(weight.double(), bits)(x.double())  # type: ignore[no-any-return]


def error(found: Tensor, exact: Tensor) -> float:
    return float((found.double() - exact).norm() / exact.norm())


# The error of the converters themselves against the exact product, for each number of bits.
CONVERTERS = {4: 0.38, 6: 0.09, 8: 0.022, 9: 0.011, 10: 0.0055, 11: 0.0028, 12: 0.0014, 16: 9e-5}


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("bits", CONVERTERS)
def test_error_under_autocast(bits: int, dtype: torch.dtype) -> None:
    """Against the exact product the error is that of the converters, and of the output's own rounding."""
    exact = X.double() @ WEIGHT.double().t()
    with torch.autocast("cpu", dtype):
        y = layer_of(WEIGHT, bits)(X)
    assert y.dtype == dtype
    own, rounding = error(in_float64(WEIGHT, X, bits), exact), torch.finfo(dtype).eps / 2
    assert own < CONVERTERS[bits] * 1.5
    assert error(y, exact) < 1.1 * own + rounding


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("bits", [0, 10, 12])
def test_fine_converters_are_computed_in_float32(bits: int, dtype: torch.dtype) -> None:
    bits = bits if bits != 10 or dtype == torch.bfloat16 else 12
    plain = layer_of(WEIGHT, bits)(X)
    with torch.autocast("cpu", dtype):
        y = layer_of(WEIGHT, bits)(X)
    assert torch.equal(y, plain.to(dtype))


@pytest.mark.parametrize("finest", [(torch.bfloat16, 9), (torch.float16, 11)])
def test_where_the_product_is_in_half_precision(finest: tuple[torch.dtype, int]) -> None:
    dtype, bits = finest
    for bound in (12.0, 7.3):
        last, beyond = (layer_of(WEIGHT, n) for n in (bits, bits + 1))
        for one in (last, beyond):
            one.set_hardware(one.hardware.model_copy(update={"adc_bound": bound}))
        assert last.converters.product_type(dtype) == dtype and beyond.converters.product_type(dtype) is None
    assert layer_of(WEIGHT, 0).converters.product_type(dtype) is None
    assert layer_of(WEIGHT, 16).converters.product_type(None) is None


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("bits", [6, 8, 12])
def test_a_base_in_half_precision_has_right_levels(bits: int, dtype: torch.dtype) -> None:
    """Bit for bit the layer in float32 with the same weights and inputs; only the output is rounded."""
    weight, x = WEIGHT.to(dtype), X.to(dtype)
    y = layer_of(weight, bits)(x)
    assert y.dtype == dtype and torch.equal(y, layer_of(weight.float(), bits)(x.float()).to(dtype))


@pytest.mark.parametrize("dtype", HALVES)
def test_a_chip_of_a_base_in_half_precision(dtype: torch.dtype) -> None:
    half, full = layer_of(WEIGHT.to(dtype), 8), layer_of(WEIGHT.to(dtype).float(), 8)
    for layer in (half, full):
        Chip(3, {"layer": layer}, layer.hardware).age(1e6)
    assert half.state is not None and full.state is not None
    assert half.state.weight.dtype == torch.float32 and torch.equal(half.state.weight, full.state.weight)
    assert torch.equal(half.state.compensation, full.state.compensation)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("offset", [0.0, 0.1])
def test_a_state_moves_with_its_layer(dtype: torch.dtype, offset: float) -> None:
    layer = AnalogLinear(WEIGHT.clone(), None, hardware(8, adc_offset_mismatch=offset), "layer").eval()
    Chip(3, {"layer": layer}, layer.hardware).age(1e6)
    before = layer(X)
    assert layer.state is not None
    held = layer.state
    layer.to(dtype)
    assert layer.state.weight.dtype == torch.promote_types(dtype, torch.float32), "never in half precision"
    assert layer.column_scale.dtype == layer.state.weight.dtype == layer.state.compensation.dtype
    assert torch.equal(layer.state.weight.float(), held.weight)
    assert (layer.state.adc_offset is None) == (offset == 0)
    assert error(layer(X.to(dtype)), before.double()) < (1e-2 if dtype == torch.float64 else 0.03)


def test_a_state_moves_to_another_device() -> None:
    layer = layer_of(WEIGHT, 8)
    Chip(3, {"layer": layer}, layer.hardware).age(1e6)
    layer.to("meta")
    assert layer.state is not None and layer.state.weight.device.type == layer.state.compensation.device.type == "meta"
