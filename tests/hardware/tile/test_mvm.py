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
    weight = torch.randn(20, 32 * rows - uneven, generator=torch.Generator().manual_seed(1))
    return AnalogLinear(weight, torch.ones(20), config, "layer", TrainingNoise(1)).train().to(device)


@pytest.mark.usefixtures("meta_noise")
@pytest.mark.parametrize("uneven", [False, True])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_operators_of_a_gpu(uneven: bool, dtype: torch.dtype | None) -> None:
    """Without data there is nothing to wait for, and the code is that of a GPU: all but a CPU takes it."""
    layer = layer_of(8, "meta", uneven=uneven)
    x = torch.empty(3, 50, layer.in_features, device="meta", requires_grad=True)
    with Operators() as forward, torch.autocast("meta", torch.bfloat16, enabled=dtype is not None):
        y = layer(x)
    assert y.shape == (3, 50, 20)
    assert len(forward.names) <= MOST_OPERATORS + 12 * uneven, sorted(forward.names)
    with Operators() as backward:
        y.backward(torch.ones_like(y))
    assert x.grad is not None and x.grad.shape == x.shape
    assert len(backward.names) <= MOST_OPERATORS + 12 * uneven, sorted(backward.names)
    assert not WAITING & {*forward.names, *backward.names}
