"""The moments of a device in closed form, against devices of chips: by conductance, by age, and with compensation."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.errors import ConfigError
from analog_lora_cli.hardware.kernels.choice import fits_kernels
from analog_lora_cli.hardware.physics.chip import Chip
from analog_lora_cli.hardware.physics.device_noise import DeviceNoise
from analog_lora_cli.hardware.tile.analog_linear import AnalogLinear
from analog_lora_cli.hardware.tile.device_draw import device_draw
from analog_lora_cli.hardware.tile.effective_weights import EffectiveWeights
from analog_lora_cli.hardware.tile.input_scale import TokenMaximum
from analog_lora_cli.hardware.tile.training_noise import LayerNoise

AGES = {"0s": 0.0, "1h": 3600.0, "1y": 31_536_000.0, "10y": 315_360_000.0}
EDGES = (0.0, 0.01, 0.03, 0.1, 0.3, 0.6, 1.0)


def layer_of(hardware: HardwareConfig, spread: bool = True) -> AnalogLinear:
    """Half a million weights: of all magnitudes alike, or normal as those of a model."""
    generator = torch.Generator().manual_seed(0)
    shape = (1024, 512)
    weight = torch.rand(shape, generator=generator) * 2 - 1 if spread else torch.randn(shape, generator=generator)
    return AnalogLinear(weight, None, hardware, "layer")


def drawn(layer: AnalogLinear, hardware: HardwareConfig, seconds: float, strength: float = 1.0) -> EffectiveWeights:
    noise = DeviceNoise.of(hardware)
    state = noise.state(layer, noise.knot_counts(layer), seconds)
    return EffectiveWeights(layer, state, LayerNoise(strength, 7), TokenMaximum())


def in_tile_units(weight: Tensor, layer: AnalogLinear) -> Tensor:
    return weight / layer.column_scale.t() * layer.weight.sign()


@pytest.mark.parametrize("age", AGES)
def test_moments_are_those_of_a_chip_at_every_conductance(age: str) -> None:
    hardware = HardwareConfig()
    layer = layer_of(hardware)
    Chip(1, {"layer": layer}, hardware).age(AGES[age])
    assert layer.state is not None
    chip = in_tile_units(layer.state.weight, layer)
    normal = in_tile_units(drawn(layer, hardware, AGES[age]).weight(), layer)
    target = in_tile_units(layer.weight.detach(), layer)
    for low, high in pairwise(EDGES):
        inside = (target > low) & (target <= high)
        error, expected = (one[inside] - target[inside] for one in (normal, chip))
        standard_error = expected.std() * (2 / int(inside.sum())) ** 0.5
        assert abs(float(error.mean() - expected.mean())) < 4 * float(standard_error), f"mean from {low} to {high}"
        ratio = float(error.std() / expected.std())
        lowest, highest = (0.95, 1.25) if high <= 0.01 else (0.94, 1.08) if high <= 0.03 else (0.97, 1.03)
        assert lowest < ratio < highest, f"standard deviation from {low} to {high}: {ratio:.3f}"


@pytest.mark.parametrize("spread", [True, False])
@pytest.mark.parametrize("kind", ["none", "global", "global-exact", "per-column", "least-squares"])
def test_expected_drift_compensation_is_that_of_a_chip(kind: str, spread: bool) -> None:
    hardware = HardwareConfig.model_validate({"drift_compensation": kind})
    layer = layer_of(hardware, spread)
    Chip(1, {"layer": layer}, hardware).age(AGES["1y"])
    assert layer.state is not None
    expected = drawn(layer, hardware, AGES["1y"]).state
    assert expected is not None
    ratio = expected.compensation / layer.state.compensation
    assert float(ratio.mean()) == pytest.approx(1.0, abs=0.01)
    assert float(ratio.std()) < (0.06 if kind == "per-column" else 0.006)
    assert (kind == "none") == bool((layer.state.compensation == 1).all())


def test_compensation_with_a_coarse_adc_has_the_bias_of_the_read_outs() -> None:
    hardware = HardwareConfig(adc_bits=6)
    layer = layer_of(hardware, spread=False)
    Chip(1, {"layer": layer}, hardware).age(AGES["1y"])
    state = drawn(layer, hardware, AGES["1y"]).state
    assert layer.state is not None and state is not None
    assert float(state.compensation.mean()) > 2.2, "without rounding it would be 2.0"
    assert float((state.compensation / layer.state.compensation).mean()) == pytest.approx(1.0, abs=0.02)


def test_loops_and_torch_draw_the_same_weights() -> None:
    hardware = HardwareConfig(tile_rows=100, kernels="numba")
    weight = torch.randn(40, 230, generator=torch.Generator().manual_seed(3))
    weight[0, 0], weight[3] = 0.0, 0.0
    layer = AnalogLinear(weight, None, hardware, "layer")
    effective = drawn(layer, hardware, 3600.0)
    assert fits_kernels(layer.weight.detach(), hardware), "this test compares the compiled loops"
    tiles = effective.tiles
    assert tiles.moments is not None
    torch.testing.assert_close(effective.weight(), device_draw(tiles, tiles.moments), atol=1e-5, rtol=1e-5)
    assert bool((effective.weight()[3] == 0).all()), "a column of zeros has no unit"


def test_strength_scales_the_spread_alone() -> None:
    hardware = HardwareConfig()
    layer = layer_of(hardware)
    none, half, full = (drawn(layer, hardware, 3600.0, strength).weight() for strength in (0.0, 0.5, 1.0))
    torch.testing.assert_close(half, (none + full) / 2)
    assert float((full - none).std()) > 0.01


@pytest.mark.parametrize(
    ("hardware", "message"),
    [
        ({"device": "hermes"}, "no formula for device hermes"),
        ({"device": "reram-cmo"}, "no formula for device reram-cmo"),
        ({"converter": "dual-pair", "converter_options": {"f_lst": [1.0, 3.0]}}, "one pair of devices"),
        ({"g_min": 1.0}, "conduct nothing at a weight of zero"),
    ],
)
def test_devices_without_a_formula_are_refused(hardware: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DeviceNoise.of(HardwareConfig.model_validate(hardware))


@pytest.mark.parametrize(
    ("hardware", "message"),
    [({"stuck_low": 0.1}, "stuck_low: .* knows no faults"), ({"simulator": "aihwkit"}, "use fast, or device")],
)
def test_settings_that_it_would_ignore_are_refused(hardware: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HardwareConfig.model_validate({"weight_noise_type": "device-gaussian", **hardware})
