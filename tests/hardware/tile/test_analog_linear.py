"""The analog layer as a module: what it computes by hand, per token, and how it is saved, copied and cast."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import Tensor, nn
from torch.nn import functional

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.hardware.physics.chip import Chip
from analog_lora_cli.hardware.tile.analog_linear import AnalogLinear
from analog_lora_cli.hardware.tile.training_noise import TrainingNoise

IDEAL: dict[str, Any] = {"dac_bits": 0, "adc_bits": 0, "adc_bound": 0.0}
CONVERTERS: list[dict[str, Any]] = [
    {},
    {"bound_management": "iterative", "adc_bound": 1.0},
    {"tile_rows": 7, "tile_columns": 5, "bound_management": "iterative", "adc_bound": 0.6},
    {"tile_rows": 7, "tile_columns": 5, "adc_bound": 0.6},
]


def quiet(**changes: Any) -> HardwareConfig:
    """Hardware without noise, but for what is changed."""
    return HardwareConfig(**{"output_noise": 0.0, "weight_noise": 0.0, **changes})


def normal(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def layer_of(
    out_features: int = 12, in_features: int = 20, dtype: torch.dtype = torch.float32, seed: int = 1, **changes: Any
) -> AnalogLinear:
    weight, bias = normal(out_features, in_features, seed=seed, dtype=dtype), normal(out_features, seed=9, dtype=dtype)
    return AnalogLinear(weight, bias, quiet(**changes), "layer").eval()


@torch.no_grad()
def compute(layer: nn.Module, x: Tensor) -> Tensor:
    y: Tensor = layer(x)
    return y


def test_one_read_by_hand() -> None:
    """3 bits: steps of 1/3 in, of bound / 3 out. Column scales 2 and 4, tile weights (1, -0.5) and (0.25, 1)."""
    weight = torch.tensor([[2.0, -1.0], [1.0, 4.0]])
    layer = AnalogLinear(weight, torch.tensor([10.0, 20.0]), quiet(dac_bits=3, adc_bits=3, adc_bound=0.9), "layer")
    # x / 5 = (1, 0.4) -> (1, 1/3); z = (5/6, 7/12); in steps of 0.3: 2.78 -> 3, 1.94 -> 2.
    y = compute(layer.eval(), torch.tensor([[5.0, 2.0]]))
    assert torch.allclose(y, torch.tensor([[10 + 5 * 2 * 0.9, 20 + 5 * 4 * 0.6]]))


def test_saturation_by_hand() -> None:
    weight, x = torch.tensor([[1.0, 1.0], [1.0, 0.0]]), torch.tensor([[3.0, 3.0], [3.0, 0.0]])
    ideal = {"dac_bits": 0, "adc_bits": 0}
    clamped = compute(AnalogLinear(weight, None, quiet(adc_bound=1.5, **ideal), "layer").eval(), x)
    assert torch.allclose(clamped, torch.tensor([[4.5, 3.0], [3.0, 3.0]]))
    again = quiet(adc_bound=1.5, bound_management="iterative", **ideal)
    assert torch.allclose(compute(AnalogLinear(weight, None, again, "layer").eval(), x), x @ weight.T)


@pytest.mark.parametrize("management", ["saturate", "iterative"])
def test_the_highest_level_is_within_the_bound(management: str) -> None:
    """The bound over the step of 5 bits comes out as 15 minus 2e-15: level 15 counts as saturated by rounding only."""
    chosen = quiet(dac_bits=0, adc_bits=5, adc_bound=1.0123457, bound_management=management, kernels="torch")
    x = normal(1, 1, seed=2, dtype=torch.float64).requires_grad_()
    layer = AnalogLinear(normal(1, 1, seed=1, dtype=torch.float64), None, chosen, "layer")
    y = layer(x)  # The tile's product is 1.
    y.sum().backward()
    assert y.item() == pytest.approx(1.0123457 * x.item() * layer.weight.item(), rel=1e-12)
    assert x.grad is not None
    assert x.grad.item() == pytest.approx(layer.weight.item()), "cut off, as beyond the bound"


def test_only_the_saturated_token_is_read_again() -> None:
    """Reading again costs resolution: it must not touch the tokens beside. (aihwkit halves the whole batch.)"""
    weight = torch.ones(1, 8)
    x = torch.full((2, 8), 1.0)
    x[1, 1:] = 0.13
    once = compute(AnalogLinear(weight, None, quiet(dac_bits=4, adc_bits=0, adc_bound=4.0), "layer").eval(), x)
    hardware = quiet(dac_bits=4, adc_bits=0, adc_bound=4.0, bound_management="iterative")
    again = compute(AnalogLinear(weight, None, hardware, "layer").eval(), x)
    assert torch.allclose(once[1], again[1], rtol=1e-6, atol=0)
    assert once[0] == 4.0
    assert again[0] == pytest.approx(8.0, abs=8 * 2 / 7 / 2)


@pytest.mark.parametrize("changes", CONVERTERS)
def test_tokens_do_not_depend_on_their_batch(changes: dict[str, Any]) -> None:
    layer = layer_of(dtype=torch.float64, **changes)
    x = normal(30, 20, seed=3, dtype=torch.float64) * torch.logspace(-3, 3, 30, dtype=torch.float64)[:, None]
    together = compute(layer, x)
    alone = torch.cat([compute(layer, token[None]) for token in x])
    assert torch.allclose(together, alone, rtol=1e-10, atol=1e-12)
    backwards = compute(layer, x.flip(0)).flip(0)
    assert torch.allclose(together, backwards, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("changes", CONVERTERS)
def test_nan_and_infinity_stay_in_their_token(changes: dict[str, Any]) -> None:
    layer = layer_of(**changes)
    x = normal(6, 20, seed=3)
    clean = compute(layer, x)
    for value in (float("nan"), float("inf"), -float("inf")):
        spoilt = x.clone()
        spoilt[2, 4] = value
        y = compute(layer, spoilt)
        assert not torch.isfinite(y[2]).any()
        others = [0, 1, 3, 4, 5]
        assert torch.allclose(y[others], clean[others], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize("changes", CONVERTERS)
def test_a_token_of_zeros_gives_the_bias(changes: dict[str, Any], noisy: bool) -> None:
    layer = layer_of(**({"output_noise": 0.04} if noisy else {}), **changes)
    x = normal(4, 20, seed=3)
    x[1] = 0
    assert torch.equal(compute(layer, x)[1], layer.bias)
    assert torch.equal(compute(layer, torch.zeros(3, 20)), layer.bias.expand(3, 12))


def test_magnitudes_without_an_inverse_count_as_zero() -> None:
    """1 / 1e-40 is infinite in single precision: inputs and columns that small must give no NaN."""
    weight = normal(3, 4, seed=1)
    weight[1] = torch.tensor([0.0, 1e-40, 0.0, 0.0])
    layer = AnalogLinear(weight, None, quiet(), "layer").eval()
    x = normal(5, 4, seed=2)
    x[0] = torch.tensor([1e-40, 0.0, 0.0, 0.0])
    x[1, 1] = 0
    y = compute(layer, x)
    assert torch.isfinite(y).all()
    assert y[0].abs().max() < 1e-38
    assert y[:, 1].abs().max() < 1e-37


def test_empty_and_other_leading_dimensions() -> None:
    for changes in CONVERTERS:
        layer = layer_of(**changes)
        x = normal(2, 3, 20, seed=3)
        expected = compute(layer, x.reshape(6, 20)).reshape(2, 3, 12)
        assert torch.allclose(compute(layer, x), expected, rtol=1e-5, atol=1e-6)
        assert torch.allclose(compute(layer, x[0, 0]), expected[0, 0], rtol=1e-5, atol=1e-6)
        transposed = compute(layer, x.transpose(0, 1))
        assert torch.allclose(transposed, expected.transpose(0, 1), rtol=1e-5, atol=1e-6)
        assert compute(layer, x[:0]).shape == (0, 3, 12)
        empty = x[:0].clone().requires_grad_(True)
        layer(empty).sum().backward()
        assert empty.grad is not None and empty.grad.shape == (0, 3, 20)


@given(
    shape=st.tuples(st.integers(1, 70), st.integers(1, 70), st.integers(1, 6)),
    tile=st.tuples(st.integers(0, 40), st.integers(0, 40)),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, max_examples=60)
def test_ideal_tiles_are_a_linear_layer(shape: tuple[int, int, int], tile: tuple[int, int], seed: int) -> None:
    out_features, in_features, tokens = shape
    layer = layer_of(
        out_features, in_features, torch.float64, seed, tile_rows=tile[0], tile_columns=tile[1], **IDEAL
    ).requires_grad_(True)
    x = normal(tokens, in_features, seed=seed + 1, dtype=torch.float64).requires_grad_(True)
    upstream = normal(tokens, out_features, seed=seed + 2, dtype=torch.float64)
    y, expected = layer(x), functional.linear(x, layer.weight, layer.bias)
    assert torch.allclose(y, expected, rtol=1e-10, atol=1e-10)
    inputs = [x, layer.weight, layer.bias]
    actual = torch.autograd.grad((y * upstream).sum(), inputs)
    for gradient, wanted in zip(actual, torch.autograd.grad((expected * upstream).sum(), inputs), strict=True):
        assert torch.allclose(gradient, wanted, rtol=1e-10, atol=1e-10)


@given(
    shape=st.tuples(st.integers(1, 70), st.integers(1, 70), st.integers(1, 6)),
    tile=st.tuples(st.integers(0, 40), st.integers(0, 40)),
    bits=st.tuples(st.integers(2, 12), st.integers(2, 12)),
    bound=st.floats(0.1, 20.0),
    iterative=st.booleans(),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, max_examples=60)
def test_outputs_are_levels_within_the_bound(
    shape: tuple[int, int, int],
    tile: tuple[int, int],
    bits: tuple[int, int],
    bound: float,
    iterative: bool,
    seed: int,
) -> None:
    """With one row of tiles each output is one of the ADC's 2^bits - 1 levels times the two scales."""
    out_features, in_features, tokens = shape
    layer = layer_of(
        out_features,
        in_features,
        torch.float64,
        seed,
        tile_rows=0,
        tile_columns=tile[1],
        dac_bits=bits[0],
        adc_bits=bits[1],
        adc_bound=bound,
        bound_management="iterative" if iterative else "saturate",
    )
    x = normal(tokens, in_features, seed=seed + 1, dtype=torch.float64)
    scale = x.abs().amax(1, keepdim=True) * layer.weight.abs().amax(1)
    levels = (compute(layer, x) - layer.bias) / scale / bound * (2 ** (bits[1] - 1) - 1)
    assert torch.allclose(levels, levels.round(), atol=1e-6)
    # A token read again with halved inputs has its levels doubled, and so may exceed the bound.
    assert iterative or levels.abs().max() <= 2 ** (bits[1] - 1) - 1 + 1e-6


def test_large_layer() -> None:
    """A real size, 1100 by 1500 on 3 by 3 tiles, against the exact product."""
    layer = layer_of(1100, 1500)
    assert (len(layer.grid.rows), len(layer.grid.columns)) == (3, 3)
    x = normal(16, 1500, seed=3)
    exact = functional.linear(x, layer.weight, layer.bias)
    y = compute(layer, x)
    # 8 bits: the ADC's step of 0.0945 a^2 s^2 / 12 for each of three rows of tiles dominates.
    step = x.abs().amax(1, keepdim=True) * layer.weight.abs().amax(1) * 24 / 254
    error = (y - exact) / step
    assert 0.4 < float(error.std()) < 0.7
    assert abs(float(error.mean())) < 0.03


def test_digital() -> None:
    layer = layer_of(output_noise=0.04)
    layer.analog = False
    x = normal(5, 20, seed=3)
    assert torch.equal(compute(layer, x), functional.linear(x, layer.weight, layer.bias))


@pytest.mark.parametrize("tiled", [False, True])
def test_autocast(tiled: bool) -> None:
    """bfloat16 rounds the weights only (inputs after an 8-bit DAC are exact in it): an error of 0.4 % at most."""
    layer = layer_of(64, 96, **({"tile_rows": 40, "tile_columns": 24} if tiled else {}))
    layer.requires_grad_(True)
    x, upstream = normal(50, 96, seed=3), normal(50, 64, seed=4)
    gradients, results = [], []
    for enabled in (False, True):
        layer.zero_grad()
        inputs = x.clone().requires_grad_(True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            y = layer(inputs)
        assert y.dtype == (torch.bfloat16 if enabled else torch.float32)
        (y.float() * upstream).sum().backward()
        assert layer.weight.grad is not None and inputs.grad is not None
        assert inputs.grad.dtype == layer.weight.grad.dtype == torch.float32
        results.append(y.detach().float())
        gradients.append((inputs.grad, layer.weight.grad.clone()))
    assert (results[0] - results[1]).norm() / results[0].norm() < 0.02
    assert not torch.equal(results[0], results[1])
    for plain, mixed in zip(*gradients, strict=True):
        assert (plain - mixed).norm() / plain.norm() < 0.01


def test_half_precision_inputs_keep_their_dtype() -> None:
    layer = layer_of()
    x = normal(5, 20, seed=3).to(torch.bfloat16)
    y = compute(layer, x)
    assert torch.allclose(y.float(), compute(layer, x.float()), rtol=0.01, atol=0.05)


def test_inference_keeps_nothing_for_the_weights() -> None:
    """Frozen weights must not cost the memory of their gradient."""
    layer = layer_of(adc_bound=0.5)
    x = normal(5, 20, seed=3).requires_grad_(True)
    assert layer(x).grad_fn.inputs is None
    layer.requires_grad_(True)
    assert layer(x).grad_fn.inputs is not None


def other_layer() -> AnalogLinear:
    return layer_of(seed=50)


def test_state_dict_holds_weight_and_bias_only() -> None:
    assert sorted(layer_of().state_dict()) == ["bias", "weight"]


@pytest.mark.parametrize("assign", [False, True])
def test_loading_a_state_dict_takes_new_scales(assign: bool, tmp_path: Path) -> None:
    source, target = nn.Sequential(layer_of()), nn.Sequential(other_layer())
    x = normal(5, 20, seed=3)
    assert not torch.equal(compute(source, x), compute(target, x))
    torch.save(source.state_dict(), tmp_path / "weights.pt")
    target.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True), assign=assign)
    assert torch.equal(target[0].column_scale, source[0].column_scale)
    assert torch.equal(compute(source, x), compute(target, x))


def test_safetensors(tmp_path: Path) -> None:
    source = nn.Sequential(layer_of())
    x = normal(5, 20, seed=3)
    save_model(source, str(tmp_path / "model.safetensors"))
    target = nn.Sequential(other_layer())
    load_model(target, str(tmp_path / "model.safetensors"))
    assert torch.equal(compute(source, x), compute(target, x))
    save_file(source.state_dict(), str(tmp_path / "dict.safetensors"))
    target = nn.Sequential(other_layer())
    target.load_state_dict(load_file(str(tmp_path / "dict.safetensors")))
    assert torch.equal(compute(source, x), compute(target, x))


def test_copies_are_equal_and_independent() -> None:
    original = layer_of()
    original.noise = TrainingNoise(1)
    x = normal(5, 20, seed=3)
    Chip(1, {"layer": original}, original.hardware).age(3600.0)
    expected = compute(original, x)
    for copied in (copy.deepcopy(original), pickle.loads(pickle.dumps(original))):
        assert torch.equal(compute(copied, x), expected)
        with torch.no_grad():
            copied.weight.mul_(2)
        copied.state = None
        copied.refresh_scales()
        copied.load_state_dict(other_layer().state_dict())
        assert torch.equal(compute(copied, x), compute(other_layer(), x))
        assert torch.equal(compute(original, x), expected)
        assert copied.noise is not original.noise


def test_changing_precision() -> None:
    layer, x = layer_of(), normal(5, 20, seed=3)
    expected = compute(layer, x)
    double = compute(copy.deepcopy(layer).double(), x.double())
    assert double.dtype == torch.float64
    assert torch.allclose(double.float(), expected, rtol=1e-4, atol=1e-4)


def test_set_hardware_forgets_the_chip() -> None:
    layer, x = layer_of(), normal(5, 20, seed=3)
    Chip(1, {"layer": layer}, layer.hardware).age(0.0)
    layer.set_hardware(quiet(tile_rows=6))
    assert layer.state is None
    assert len(layer.grid.rows) == 4
    assert torch.equal(compute(layer, x), compute(layer_of(tile_rows=6), x))


def test_text_form_tells_the_tiles() -> None:
    assert "tiles=2x3" in repr(layer_of(tile_rows=10, tile_columns=4))


@pytest.mark.gpu
def test_the_same_on_a_gpu() -> None:
    x = normal(50, 96, seed=3)
    for changes in CONVERTERS:
        layer = layer_of(64, 96, **changes)
        chip = Chip(1, {"layer": layer}, layer.hardware)
        chip.age(3600.0)
        expected, held = compute(layer, x), chip.fingerprint()
        chip.release()
        layer.cuda()
        chip = Chip(1, {"layer": layer}, layer.hardware)
        chip.age(3600.0)
        assert chip.fingerprint() == held
        y = compute(layer, x.cuda()).cpu()
        assert (y - expected).norm() / expected.norm() < 0.01
