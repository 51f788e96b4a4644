"""Conductances by hand, and the number of devices of every converter."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.hardware.tile.analog_linear import AnalogLinear
from analog_lora_cli.inspection.tile_statistics import (
    HISTOGRAM_BINS,
    added_histograms,
    conductance_statistics,
    device_names,
    devices_per_weight,
    weight_statistics,
)

CUSTOM = {"f_lst": [1.0], "g_lst": [[0.0, 0.0, 25.0], [25.0, 0.0, 0.0]]}


def test_conductances_of_a_small_layer() -> None:
    weight = torch.tensor([[2.0, -1.0, 0.0, 0.5], [-4.0, 4.0, 2.0, 0.0]])
    plus, minus = conductance_statistics(AnalogLinear(weight, None, HardwareConfig(), "a"), HardwareConfig())
    # Each output's largest weight is 25 uS: 25, 0, 0, 6.25 and 0, 25, 12.5, 0; the others on G-.
    assert (plus.name, minus.name) == ("G+", "G-")
    assert plus.mean == pytest.approx((25 + 6.25 + 25 + 12.5) / 8)
    assert minus.mean == pytest.approx((12.5 + 25) / 8)
    assert plus.largest == minus.largest == pytest.approx(25.0)
    assert plus.at_minimum == 4 / 8 and minus.at_minimum == 6 / 8
    assert plus.histogram[0] == 4 and plus.histogram[12] == 1 and plus.histogram[25] == 1 and plus.histogram[-1] == 2
    assert minus.std == pytest.approx(torch.tensor([12.5, 25.0, 0, 0, 0, 0, 0, 0]).std(correction=0).item())


def test_every_tile_is_scaled_by_itself() -> None:
    hardware = HardwareConfig(tile_rows=2)
    weight = torch.tensor([[1.0, 0.5, 0.1, 0.05]])
    plus, _ = conductance_statistics(AnalogLinear(weight, None, hardware, "a"), hardware)
    assert plus.mean == pytest.approx((25 + 12.5 + 25 + 12.5) / 4)


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({}, 2),
        ({"converter": "dual-pair", "converter_options": {"f_lst": [1.0, 4.0]}}, 4),
        ({"converter": "n-pair", "converter_options": {"f_lst": [1.0, 2.0, 4.0]}}, 6),
        ({"converter": "custom-pair", "converter_options": CUSTOM}, 2),
        ({"device": "reram-cmo"}, 1),
    ],
)
def test_devices_of_each_converter(settings: dict[str, Any], count: int) -> None:
    hardware = HardwareConfig(**settings)
    assert devices_per_weight(hardware) == count
    layer = AnalogLinear(torch.randn(8, 6, generator=torch.Generator().manual_seed(0)), None, hardware, "a")
    devices = conductance_statistics(layer, hardware)
    assert [device.name for device in devices] == device_names(count)
    g_min, g_max = hardware.conductance_range
    for device in devices:
        assert sum(device.histogram) == 48 and len(device.histogram) == HISTOGRAM_BINS
        assert g_min <= device.mean <= device.largest <= g_max * (1 + 1e-6)


def test_names_of_devices() -> None:
    assert device_names(1) == ["G"]
    assert device_names(4) == ["G1+", "G1-", "G2+", "G2-"]


def test_histograms_add_up() -> None:
    hardware = HardwareConfig()
    layers = [
        conductance_statistics(AnalogLinear(torch.full((1, 4), value), None, hardware, "a"), hardware)
        for value in (1.0, -1.0)
    ]
    total = added_histograms(layers)
    assert total["G+"][0] == 4 and total["G+"][-1] == 4 and sum(total["G-"]) == 8


def test_the_largest_weight_in_standard_deviations() -> None:
    found = weight_statistics(torch.tensor([3.0, -1.0, 1.0, -3.0]))
    assert found.largest == 3.0 and found.std == pytest.approx(5**0.5) and found.peak == pytest.approx(3 / 5**0.5)
    assert weight_statistics(torch.zeros(4)).peak == 0.0
