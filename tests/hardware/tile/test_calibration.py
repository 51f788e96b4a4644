"""Rules of the calibration on distributions whose answer is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.errors import AnaloraError
from analog_lora_cli.hardware.tile.calibration import InputStatistics, LayerInputs
from analog_lora_cli.hardware.tile.grid import TileGrid


def counted(*parts: Tensor) -> InputStatistics:
    statistics = InputStatistics()
    for part in parts:
        statistics.add(part)
    return statistics


def normals(count: int = 400_000) -> Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("percent", [50.0, 95.0, 99.9])
def test_percentile(percent: float) -> None:
    exact = math.sqrt(2) * float(torch.erfinv(torch.tensor(percent / 100, dtype=torch.float64)))
    assert counted(normals()).percentile(percent) == pytest.approx(exact, rel=0.02)
    uniform = torch.linspace(-3, 3, 100_001)
    assert counted(uniform).percentile(percent) == pytest.approx(3 * percent / 100, rel=1e-3)


def test_percentile_of_all_is_the_largest() -> None:
    x = normals(1000)
    assert counted(x).percentile(100.0) == float(x.abs().max())
    assert counted(x).percentile(99.99) <= float(x.abs().max())


def test_standard_deviation() -> None:
    x = 0.3 + 2.0 * normals()
    assert counted(x).std() == pytest.approx(float(x.std()), rel=1e-5)


@pytest.mark.parametrize("bits", [3, 4, 6, 8])
@pytest.mark.parametrize("shape", ["normal", "heavy", "sparse"])
def test_least_error_is_that_of_a_search_with_the_real_converter(bits: int, shape: str) -> None:
    x = normals(100_000)
    if shape == "heavy":
        x = x * torch.exp(0.8 * normals(100_000).flip(0))
    elif shape == "sparse":
        x = x.clamp(min=0)
    step = 2 / (2**bits - 2)

    def error(limit: float) -> float:
        levels = (x / limit / step).round().clamp(-round(1 / step), round(1 / step))
        return float((levels * step * limit - x).double().square().sum())

    found = counted(x).least_error(step)
    best = min(error(float(limit)) for limit in torch.linspace(0.02, 1, 99) * x.abs().max())
    # Near the best range the error is flat.
    assert error(found) <= 1.02 * best


def test_least_error_of_normals_is_the_known_one() -> None:
    """A uniform quantizer of 15 levels over normals: 2.6 standard deviations (16 levels: 2.55 in the literature)."""
    assert counted(normals()).least_error(2 / 14) == pytest.approx(2.55, rel=0.03)
    assert counted(normals(1000)).least_error(0.0) == float(normals(1000).abs().max())


def test_order_and_batches_do_not_matter() -> None:
    x = normals(10_000)
    whole, parts = counted(x), counted(*x.flip(0).split(777))
    assert torch.equal(whole.counts, parts.counts)
    for percent in (10.0, 99.9, 100.0):
        assert whole.percentile(percent) == parts.percentile(percent)
    assert whole.least_error(0.01) == parts.least_error(0.01)
    assert whole.number == 10_000


@pytest.mark.parametrize("rule", ["percentile", "mse", "std"])
def test_each_row_of_tiles_has_its_own(rule: str) -> None:
    hardware = HardwareConfig.model_validate({"tile_rows": 10, "input_range": "static", "input_range_rule": rule})
    layer = LayerInputs(TileGrid.of(5, 30, hardware), hardware)
    x = normals(30_000).view(-1, 30)
    x[:, 10:20] *= 100
    x[:, 20:] = 0
    layer.add(x.view(10, 100, 30))
    first, second, third = layer.ranges().tolist()
    assert second == pytest.approx(100 * first, rel=0.1)
    assert third == 1.0
    assert 2.5 < first < 4.5


def test_nearly_all_zeros() -> None:
    """The percentile would be 0, which is no range."""
    hardware = HardwareConfig(input_range="static", input_range_value=50.0)
    layer = LayerInputs(TileGrid.of(5, 30, hardware), hardware)
    layer.add(torch.cat([torch.zeros(99, 30), torch.full((1, 30), 0.25)]))
    assert layer.ranges().tolist() == [0.25]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_an_error(value: float) -> None:
    with pytest.raises(AnaloraError, match="not finite"):
        counted(torch.tensor([1.0, value]))
