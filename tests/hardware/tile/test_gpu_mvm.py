"""Layers with `hardware.kernels: triton` against layers with torch's operations and the same noise."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

pytest.importorskip("triton")

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.hardware.kernels.gpu import input_gradient, mvm, noise
from analog_lora_cli.hardware.kernels.gpu.blocks import INTERPRETED
from analog_lora_cli.hardware.tile import gpu_mvm
from analog_lora_cli.hardware.tile.analog_linear import AnalogLinear
from analog_lora_cli.hardware.tile.effective_weights import EffectiveWeights
from analog_lora_cli.hardware.tile.state import TileState
from analog_lora_cli.hardware.tile.training_noise import TrainingNoise
from tests.hardware.kernels.gpu_cases import DEVICE

if not INTERPRETED and DEVICE.type == "cpu":
    pytest.skip("triton was imported without TRITON_INTERPRET=1 and there is no GPU", allow_module_level=True)


def numbers(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def layer_of(kernels: str, weight: Tensor, **hardware: Any) -> AnalogLinear:
    """A layer on several rows of tiles, with bias."""
    settings = HardwareConfig(kernels=kernels, **{"tile_rows": 24, "tile_columns": 20, "output_noise": 0.0, **hardware})  # type: ignore[arg-type]
    return AnalogLinear(weight, numbers(len(weight), seed=2).to(weight.dtype), settings, "layer")


def with_gradient(layer: AnalogLinear, x: Tensor, autocast: bool = False) -> tuple[Tensor, Tensor]:
    """Output, and gradient of the input of a weighted sum."""
    x = x.clone().requires_grad_()
    with torch.autocast(DEVICE.type, torch.bfloat16, enabled=autocast):
        y = layer(x)
    (y.float() * numbers(*y.shape, seed=9)).sum().backward()
    assert x.grad is not None
    return y.detach(), x.grad


@pytest.mark.parametrize("chip", [False, True])
@pytest.mark.parametrize(
    "hardware",
    [
        {"adc_bits": 0},
        {"dac_bits": 0, "adc_bits": 0, "adc_bound": 0.0},
        {"adc_bits": 0, "adc_bound": 0.7},
        {"adc_bits": 0, "input_range": "static"},
        {"adc_bits": 0, "read_noise_per_product": 1e-9},
        {"adc_bits": 0, "bound_management": "iterative", "adc_bound": 3.0},
    ],
)
def test_layer(chip: bool, hardware: dict[str, Any]) -> None:
    """Output and gradient, also where torch's operations stand in for what the kernels do not know."""
    weight, x, results = numbers(30, 50, seed=1), numbers(3, 5, 50, seed=3), []
    for kernels in ("torch", "triton"):
        layer = layer_of(kernels, weight, **hardware).eval()
        if hardware.get("input_range"):
            layer.set_input_range(torch.tensor([1.0, 1.5, 0.8], device=DEVICE))
        if chip:
            factors = 1.0 + 0.1 * numbers(3, 30, seed=4)
            layer.state = TileState(weight + 0.1 * numbers(30, 50, seed=5), factors, 0.1 * numbers(3, 30, seed=6))
        results.append(with_gradient(layer, x))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("blocks", [0, 4])
def test_training_noise_is_the_same_in_both_directions(blocks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stored for a product of many tokens or drawn inside: the numbers are those of `EffectiveWeights.weight`."""
    monkeypatch.setattr(gpu_mvm, "MOST_BLOCKS", blocks)
    hardware = {"dac_bits": 0, "adc_bits": 0, "adc_bound": 0.0, "weight_noise": 0.2}
    layer = layer_of("triton", numbers(30, 50, seed=1), **hardware).train()
    layer.noise = TrainingNoise(seed=3)
    x = numbers(7, 50, seed=3)
    noisy = EffectiveWeights.now(layer).weight()
    layer.noise.begin_step(0)
    found, gradient = with_gradient(layer, x)
    assert float((noisy - layer.weight).std()) > 0.05
    torch.testing.assert_close(found, torch.nn.functional.linear(x, noisy, layer.bias), rtol=1e-4, atol=2e-4)
    torch.testing.assert_close(gradient, numbers(7, 30, seed=9) @ noisy, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_in_half_precision(dtype: torch.dtype) -> None:
    """As near to float32 as torch's operations are."""
    weight, x = numbers(30, 50, seed=1).to(dtype), numbers(9, 50, seed=3).to(dtype)
    expected, found = (
        with_gradient(layer_of(kernels, weight, adc_bits=0).eval(), x) for kernels in ("torch", "triton")
    )
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype == dtype
        assert float((one - other).abs().max() / other.abs().max()) < 2 * torch.finfo(dtype).eps


def test_autocast() -> None:
    weight, x = numbers(30, 50, seed=1), numbers(9, 50, seed=3)
    expected, found = (with_gradient(layer_of(kernels, weight).eval(), x, True) for kernels in ("torch", "triton"))
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        assert float((one.float() - other.float()).abs().max() / other.abs().max()) < 0.05


def test_trained_weights() -> None:
    """The gradient of weights is that of torch's operations, which need the inputs."""
    gradients, x = [], numbers(9, 50, seed=3)
    for kernels in ("torch", "triton"):
        layer = layer_of(kernels, numbers(30, 50, seed=1), adc_bits=0).eval()
        layer.weight.requires_grad_()
        layer(x).square().sum().backward()
        gradients.append(layer.weight.grad)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-3)


def test_output_noise_follows_torchs_seed() -> None:
    layer, x = layer_of("triton", numbers(30, 50, seed=1), adc_bits=0, output_noise=0.5).eval(), numbers(9, 50, seed=3)
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(layer(x))
    assert torch.equal(results[0], results[1]) and not torch.equal(results[0], results[2])


def test_compiled_as_one_operator() -> None:
    layer, x = layer_of("triton", numbers(30, 50, seed=1), adc_bits=0, adc_bound=0.7).eval(), numbers(9, 50, seed=3)
    for found, expected in zip(
        with_gradient(torch.compile(layer, backend="aot_eager"), x), with_gradient(layer, x), strict=True
    ):  # type: ignore[arg-type]
        torch.testing.assert_close(found, expected)


class _Launches(TorchDispatchMode):
    """Counts torch's operators, and takes the place of a kernel that does nothing but be counted."""

    def __init__(self) -> None:
        super().__init__()
        self.operators = self.kernels = 0

    def __torch_dispatch__(self, function: Any, _types: Any, arguments: Any = (), options: Any = None) -> Any:
        self.operators += 1
        return function(*arguments, **(options or {}))

    def __getitem__(self, _grid: Any) -> Any:
        self.kernels += 1
        return lambda *_arguments, **_options: None


@pytest.mark.parametrize("tile_rows", [0, 7])
def test_few_operators_however_many_rows_of_tiles(tile_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training step of a layer: weights with noise and the product; both again backward."""
    count = _Launches()
    for module, name in ((mvm, "_analog_mvm"), (input_gradient, "_input_gradient"), (noise, "_noisy_weights")):
        monkeypatch.setattr(module, name, count)
    layer = layer_of("triton", numbers(30, 50, seed=1), tile_rows=tile_rows).train()
    layer.noise = TrainingNoise(seed=3)
    x = numbers(300, 50, seed=3).requires_grad_()
    layer(x)
    count.kernels = 0
    with count:
        y = layer(x)
        forward = count.operators
        y.sum().backward()
    assert count.kernels == 4 and forward <= 9 and count.operators <= 24
