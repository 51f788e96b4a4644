"""All rows of tiles at once: the operations that a GPU starts, their result, and what they do not wait for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.hardware.kernels.random import PooledNormal
from analog_lora_cli.hardware.tile import mvm
from analog_lora_cli.hardware.tile.analog_linear import AnalogLinear
from analog_lora_cli.hardware.tile.array import GradientNeeds
from analog_lora_cli.hardware.tile.effective_weights import EffectiveWeights
from analog_lora_cli.hardware.tile.saturation import bytes_of, pack, unpack
from analog_lora_cli.hardware.tile.training_noise import TrainingNoise

MOST_OPERATORS = 40
WAITING = {"aten::_local_scalar_dense", "aten::item", "aten::nonzero", "aten::masked_select", "aten::is_nonzero"}
"""Operators that let the host wait for a GPU."""


class Operators(TorchDispatchMode):
    """Names of the operators that run, views included."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func._schema.name)
        return func(*args, **(kwargs or {}))


class MetaNormal(PooledNormal):
    """Shapes of normal numbers, drawn by one operator as on a GPU: there is no generator without a device."""

    def __init__(self, seed: int | None, device: torch.device) -> None:
        super().__init__(seed, torch.device("cpu"))

    def draw(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """An empty tensor."""
        return torch.randn(*shape, dtype=dtype, device="meta")


@pytest.fixture
def meta_noise() -> Iterator[None]:
    with patch.object(mvm, "PooledNormal", MetaNormal):
        yield


def layer_of(rows: int, device: str, *, uneven: bool = False, **hardware: Any) -> AnalogLinear:
    """A layer in training with this many rows of tiles."""
    config = HardwareConfig(tile_rows=32, kernels="torch", **hardware)
    weight = torch.randn(24, 32 * rows - uneven, generator=torch.Generator().manual_seed(1))
    return AnalogLinear(weight, torch.ones(24), config, "layer", TrainingNoise(1)).train().to(device)


@pytest.mark.usefixtures("meta_noise")
@pytest.mark.parametrize("uneven", [False, True])
def test_operators_of_a_gpu(uneven: bool) -> None:
    """Without data there is nothing to wait for, and the code is that of a GPU: all but a CPU takes it."""
    layer = layer_of(8, "meta", uneven=uneven)
    x = torch.empty(3, 50, layer.in_features, device="meta", requires_grad=True)
    layer(x)  # Digital scales are computed once.
    with Operators() as forward:
        y = layer(x)
    assert y.shape == (3, 50, 24)
    assert len(forward.names) <= MOST_OPERATORS + 15 * uneven, sorted(forward.names)
    with Operators() as backward:
        y.backward(torch.ones_like(y))
    assert x.grad is not None and x.grad.shape == x.shape
    assert len(backward.names) <= MOST_OPERATORS + 15 * uneven, sorted(backward.names)
    assert not WAITING & {*forward.names, *backward.names}


@pytest.mark.parametrize("uneven", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_blocks_do_not_matter(uneven: bool, dtype: torch.dtype) -> None:
    """All rows of tiles at once and one after the other: the same noise, masks and sums up to their rounding."""
    layer = layer_of(3, "cpu", uneven=uneven, adc_bound=1.0, adc_bits=0).to(dtype)
    x, results = torch.randn(70, layer.in_features, dtype=dtype, generator=torch.Generator().manual_seed(2)), []
    for block in (1 << 20, 1 << 9):
        assert layer.noise is not None
        layer.noise.begin_step(1)
        own_x = x.clone().requires_grad_(True)
        with patch.object(mvm, "CPU_BLOCK", block):
            y = layer(own_x)
            y.square().sum().backward()
        assert own_x.grad is not None
        results.append((y.detach(), own_x.grad))
    assert torch.allclose(results[0][0], results[1][0], atol=1e-5)
    assert torch.allclose(results[0][1], results[1][1], atol=1e-4)


def test_nothing_is_kept_where_nothing_saturates() -> None:
    x = torch.randn(30, 96, generator=torch.Generator().manual_seed(2))
    for kernels in ("torch", "numba"):
        kept = []
        for bound in (1000.0, 0.2):
            layer = layer_of(3, "cpu", adc_bound=bound)
            layer.set_hardware(layer.hardware.model_copy(update={"kernels": kernels}))
            needs = GradientNeeds(saturation=True)
            kept.append(EffectiveWeights.now(layer).mvm(x, None, None, needs).saturated)
        assert kept[0] is None
        assert kept[1] is not None and kept[1].dtype == torch.uint8 and kept[1].shape == (3, 30, 3)


@pytest.mark.parametrize("outputs", [1, 7, 8, 9, 130])
def test_bits(outputs: int) -> None:
    mask = torch.rand(2, 5, outputs, generator=torch.Generator().manual_seed(outputs)) < 0.4
    bits = pack(mask)
    assert bits.shape == (2, 5, bytes_of(outputs)) and torch.equal(unpack(bits, outputs), mask)
    assert int(pack(torch.tensor([True, False, True]))) == 0b101
