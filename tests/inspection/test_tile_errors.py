"""The error of a product: nothing without noise, the expected size with it, and each effect for itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.hardware.physics.chip import Chip
from analog_lora_cli.hardware.tile.analog_linear import AnalogLinear
from analog_lora_cli.inspection.tile_errors import LayerErrors, effect_names, first_read, layer_errors

IDEAL: dict[str, Any] = {"dac_bits": 0, "adc_bits": 0, "adc_bound": 0.0, "output_noise": 0.0}
QUIET = {"prog_noise_scale": 0.0, "read_noise_scale": 0.0, "drift_scale": 0.0}
TIMES = ["1d", "1y"]


def weights(rows: int = 96, columns: int = 64) -> torch.Tensor:
    return torch.randn(columns, rows, generator=torch.Generator().manual_seed(3))


def measured(weight: torch.Tensor, original: torch.Tensor | None = None, **settings: Any) -> LayerErrors:
    hardware = HardwareConfig(**settings)
    x = torch.randn(40, weight.shape[1], generator=torch.Generator().manual_seed(4))
    layer = AnalogLinear(weight, torch.ones(weight.shape[0]), hardware, "layer")
    return layer_errors("layer", layer, weight if original is None else original, x, [0, 1], TIMES)


def by_name(errors: LayerErrors) -> dict[str, float]:
    return {effect.name: effect.error for effect in errors.effects}


def test_no_error_without_any_effect() -> None:
    errors = measured(weights(), tile_rows=40, tile_columns=40, device_options=QUIET, **IDEAL)
    assert [effect.name for effect in errors.effects] == ["converters", "programming", "read noise", "1d", "1y"]
    assert max(effect.error for effect in errors.effects) < 1e-6
    assert errors.clipping < 1e-6


@pytest.mark.parametrize(
    ("silent", "grows"),
    [
        (QUIET | {"prog_noise_scale": 1.0}, "programming"),
        (QUIET | {"read_noise_scale": 1.0}, "read noise"),
        (QUIET | {"drift_scale": 1.0}, "1d"),
    ],
)
def test_each_effect_begins_in_its_own_column(silent: dict[str, float], grows: str) -> None:
    errors = measured(weights(), device_options=silent, drift_compensation="none", **IDEAL)
    names = list(by_name(errors))
    for effect in errors.effects[: names.index(grows)]:
        assert effect.error < 1e-6
    begun = errors.effects[names.index(grows)]
    assert begun.error > 0.01 and begun.added == pytest.approx(begun.error)


def test_the_size_of_the_programming_error_is_that_of_the_device() -> None:
    """All weights are +-1, so the devices are at g = 1 and 0, with sigma = 1.0554 and 0.26348 uS of 25 uS."""
    weight = torch.sign(weights(512, 512))
    error = by_name(measured(weight, device_options=QUIET | {"prog_noise_scale": 1.0}, **IDEAL))["programming"]
    # The device at 0 cannot go below: half of its normal, so half of its variance, and a mean of 0.105 uS.
    assert error == pytest.approx((1.0554**2 + 0.26348**2 / 2) ** 0.5 / 25, rel=0.05)


def test_the_converters_error_is_that_of_the_layer() -> None:
    weight = weights()
    hardware = HardwareConfig(output_noise=0.0, tile_rows=40, tile_columns=40, dac_bits=5, adc_bits=6)
    x = torch.randn(40, 96, generator=torch.Generator().manual_seed(4))
    layer = AnalogLinear(weight, None, hardware, "layer")
    exact = functional.linear(x, weight)
    expected = float((layer(x) - exact).norm() / exact.norm())
    assert by_name(layer_errors("layer", layer, weight, x, [0], TIMES))["converters"] == pytest.approx(
        expected, rel=1e-4
    )
    assert expected > 0.01
    assert layer.state is None, "the layer is given back as it was"


def test_aging_makes_it_worse_and_the_parts_make_up_the_whole() -> None:
    effects = measured(weights(256, 128)).effects
    errors = [effect.error for effect in effects]
    assert errors == sorted(errors) and errors[0] > 0.005
    assert sum(effect.added**2 for effect in effects[:3]) ** 0.5 == pytest.approx(effects[2].error)
    for late in effects[3:]:
        assert (late.added**2 + effects[2].error ** 2) ** 0.5 == pytest.approx(late.error)


def test_the_error_is_a_function_of_the_seed() -> None:
    first, again = measured(weights()), measured(weights())
    assert first == again
    assert all(effect.std is not None and effect.std > 0 for effect in first.effects)


def test_the_chips_are_those_of_the_drift_evaluation() -> None:
    layer = AnalogLinear(weights(), None, HardwareConfig(), "b")
    other = AnalogLinear(weights(32, 32), None, HardwareConfig(), "a")
    Chip(7, {"a": other, "b": layer}, HardwareConfig()).age(3600.0)
    assert layer.state is not None
    together = layer.state.weight.clone()
    Chip(7, {"b": layer}, HardwareConfig()).age(3600.0)
    assert torch.equal(layer.state.weight, together)


def test_what_was_programmed_is_what_a_silent_first_read_would_see() -> None:
    hardware = HardwareConfig(device_options={"read_noise_scale": 0.0}, tile_rows=40, tile_columns=40)
    layer = AnalogLinear(weights(), None, hardware, "layer")
    chip = Chip(0, {"layer": layer}, hardware)
    chip.age(0.0)
    assert layer.state is not None
    read = layer.state.weight
    chip.hold_programmed()
    torch.testing.assert_close(layer.state.weight, read, rtol=1e-5, atol=1e-6)
    assert (layer.state.compensation == 1).all()
    assert not torch.allclose(layer.state.weight, layer.weight, atol=1e-3)


def test_tiles_and_layer_agree_where_there_is_one_tile() -> None:
    effect = measured(weights()).effects[-1]
    assert effect.tiles == [[pytest.approx(effect.error)]]
    many = measured(weights(), tile_rows=40, tile_columns=40).effects[-1].tiles
    assert [len(row) for row in many] == [2, 2, 2] and min(min(row) for row in many) > 0


def test_the_change_by_clipping_stands_apart() -> None:
    original = weights()
    errors = measured(original.clamp(-1, 1), original, device_options=QUIET, **IDEAL)
    x = torch.randn(40, 96, generator=torch.Generator().manual_seed(4))
    moved = functional.linear(x, original.clamp(-1, 1) - original)
    assert errors.clipping == pytest.approx(float(moved.norm() / functional.linear(x, original).norm()), rel=1e-4)
    assert errors.worst < 1e-6


def test_a_tile_of_zeros_has_no_error() -> None:
    weight = weights()
    weight[:, :40] = 0
    tiles = measured(weight, tile_rows=40).effects[-1].tiles
    assert tiles[0] == [0.0] and tiles[1][0] > 0


def test_a_device_without_data_at_0_s_is_read_as_early_as_it_can() -> None:
    hardware = HardwareConfig(device="reram-wan2022")
    assert first_read(hardware) == 1.0
    assert effect_names(hardware, ["1s", "1d"]) == ["converters", "programming", "read noise", "1d"]
    assert first_read(HardwareConfig()) == 0.0


def test_the_cost_of_a_range_for_all_tokens() -> None:
    """Tokens of very different size: a range for the largest is coarse for the small, one for these clips."""
    weight = weights()
    x = torch.randn(40, 96, generator=torch.Generator().manual_seed(4)) * torch.logspace(-2, 0, 40)[:, None]
    costs = []
    for value in (4.0, 0.4):
        layer = AnalogLinear(weight, None, HardwareConfig(tile_rows=48, input_range="static"), "layer")
        layer.set_input_range(torch.tensor([value, 2 * value]))
        errors = layer_errors("layer", layer, weight, x, [0, 1], TIMES)
        dynamic = AnalogLinear(weight, None, HardwareConfig(tile_rows=48), "layer")
        plain = layer_errors("layer", dynamic, weight, x, [0, 1], TIMES)
        assert plain.input_range is None
        cost = errors.input_range
        assert cost is not None
        assert cost.dynamic == pytest.approx(plain.effects[0].error, rel=1e-6)
        assert cost.ranges == pytest.approx([value, 2 * value])
        beyond = torch.cat([x[:, :48].abs() > value, x[:, 48:].abs() > 2 * value]).double().mean()
        assert cost.beyond == pytest.approx(float(beyond))
        assert errors.effects[0].error > plain.effects[0].error
        costs.append(cost.beyond)
    assert costs[0] < 0.001 < 0.05 < costs[1]


FURTHER: dict[str, dict[str, Any]] = {
    "short-term noise": {"read_noise_per_product": 0.02},
    "IR drop": {"ir_drop": 1.0, "ir_drop_g_ratio": 1e4},
    "stuck devices": {"stuck_high": 0.02},
    "dead columns": {"dead_columns": 0.1},
    "ADC mismatch": {"adc_gain_mismatch": 0.05, "adc_offset_mismatch": 0.1},
}


@pytest.mark.parametrize("name", FURTHER)
def test_an_effect_that_not_all_hardware_has(name: str) -> None:
    """Alone it is the whole error from its own column on."""
    quiet = {"device_options": QUIET, "drift_compensation": "none", **IDEAL}
    errors = by_name(measured(weights(256, 200), **quiet, **FURTHER[name]))
    names = list(errors)
    before = names[: names.index(name)]
    assert max((errors[one] for one in before), default=0.0) < 1e-6
    assert min(errors[one] for one in names if one not in before) > 0.02
    assert names == effect_names(HardwareConfig(**FURTHER[name]), TIMES)


def test_all_effects_in_their_order() -> None:
    together = {key: value for keys in FURTHER.values() for key, value in keys.items()}
    errors = measured(weights(256, 200), **together)
    assert [effect.name for effect in errors.effects] == [
        "converters", "short-term noise", "IR drop", "programming", "stuck devices", "dead columns", "ADC mismatch",
        "read noise", "1d", "1y",
    ]  # fmt: skip
    assert all(effect.added > 0 for effect in errors.effects)
    plain = by_name(measured(weights(256, 200)))
    assert by_name(errors)["converters"] == plain["converters"]
    # What an effect adds to the others is what it adds alone, as far as they are independent.
    dead = by_name(measured(weights(256, 200), dead_columns=0.1))
    alone = (dead["dead columns"] ** 2 - plain["programming"] ** 2) ** 0.5
    assert next(e.added for e in errors.effects if e.name == "dead columns") == pytest.approx(alone, rel=0.15)


def test_the_last_effect_is_the_whole_chip() -> None:
    """The error at a time is that of the layer on the chip itself."""
    hardware = HardwareConfig(output_noise=0.0, stuck_low=0.05, dead_columns=0.1, ir_drop=1.0, ir_drop_g_ratio=1e4)
    x = torch.randn(40, 96, generator=torch.Generator().manual_seed(4))
    layer = AnalogLinear(weights(), None, hardware, "layer")
    error = by_name(layer_errors("layer", layer, weights(), x, [3], ["1y"]))["1y"]
    Chip(3, {"layer": layer}, hardware).age(365 * 86400.0)
    with torch.no_grad():
        exact = functional.linear(x, layer.weight)
        assert float((layer(x) - exact).norm() / exact.norm()) == pytest.approx(error, rel=1e-4)
