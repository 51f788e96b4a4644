"""Inputs are converted once for layers that share them, and again whenever anything is different."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.hardware.kernels import cpu as kernels
from analog_lora_cli.hardware.tile import cpu_inputs
from analog_lora_cli.hardware.tile.analog_linear import AnalogLinear

HARDWARE = HardwareConfig(kernels="numba", tile_rows=20, output_noise=0.0)


def layer_of(seed: int, hardware: HardwareConfig = HARDWARE) -> AnalogLinear:
    weight = torch.randn(12, 50, generator=torch.Generator().manual_seed(seed))
    return AnalogLinear(weight, None, hardware, f"layer {seed}").eval()


@pytest.fixture
def conversions() -> Iterator[list[str]]:
    """Grows by one with each conversion."""
    calls: list[str] = []
    convert = kernels.convert_inputs

    def spy(*arguments: Any) -> None:
        calls.append("called")
        convert(*arguments)

    cpu_inputs._last.conversion = None
    sharing = {f"layer {seed}" for seed in range(3)}
    with patch.object(kernels, "convert_inputs", spy), patch.object(cpu_inputs, "_sharing", sharing):
        yield calls


def inputs() -> Tensor:
    return torch.randn(3, 4, 50, generator=torch.Generator().manual_seed(9))


@pytest.mark.parametrize("trained", [False, True])
def test_layers_that_share_a_tensor(conversions: list[str], trained: bool) -> None:
    x = inputs().requires_grad_(trained)
    found = [layer_of(seed)(x) for seed in range(3)]
    assert len(conversions) == 1
    for seed, y in enumerate(found):
        assert torch.equal(y, layer_of(seed)(x.detach().clone()))
    assert len(conversions) == 4


@pytest.mark.parametrize("change", [lambda x: x.mul_(2), lambda x: x[0].zero_(), lambda x: x.detach().add_(1)])
def test_a_change_in_place_is_noticed(conversions: list[str], change: Callable[[Tensor], Tensor]) -> None:
    x, layer = inputs(), layer_of(1)
    before = layer(x)
    change(x)
    after = layer(x)
    assert not torch.equal(after, before) and torch.equal(after, layer(x.clone()))
    assert len(conversions) == 3


def test_tensors_of_inference_mode_are_always_converted(conversions: list[str]) -> None:
    """They have no version: a change in place could not be noticed."""
    layer = layer_of(1)
    with torch.inference_mode():
        x = inputs()
        before = layer(x)
        x.mul_(0.5)
        assert torch.equal(layer(x), layer(x.clone())) and not torch.equal(layer(x), before)
    assert len(conversions) == 4


@pytest.mark.parametrize("changes", [{"dac_bits": 5}, {"tile_rows": 25}, {"input_range": "static"}])
def test_other_converters_convert_anew(conversions: list[str], changes: dict[str, Any]) -> None:
    x, other = inputs(), layer_of(2, HARDWARE.model_copy(update=changes))
    if other.hardware.input_range == "static":
        other.set_input_range(torch.tensor([0.5, 1.0, 1.5]))
    layer_of(1)(x)
    assert torch.equal(other(x), other(x.clone())) and len(conversions) == 3


def test_nothing_outlives_the_tensor(conversions: list[str]) -> None:
    x = inputs()
    layer_of(1)(x)
    levels = weakref.ref(cpu_inputs._last.conversion.converted)
    assert levels() is not None
    del x
    gc.collect()
    assert levels() is None and cpu_inputs._last.conversion is None


def test_only_what_is_shared_is_kept(conversions: list[str]) -> None:
    """The first forward pass learns which layers share their inputs; a layer alone keeps nothing."""
    cpu_inputs._sharing.clear()
    for converted in (2, 1):  # By the first two layers; the third shares what the second converted.
        conversions.clear()
        x = inputs()
        for seed in range(3):
            layer_of(seed)(x)
        assert len(conversions) == converted
    other = inputs()
    layer_of(2)(other)
    assert cpu_inputs._last.conversion.converted is None
