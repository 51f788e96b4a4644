"""The forward pass without noise: this project's tile against aihwkit's torch tile."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from analog_lora_cli.hardware.physics.chip import Chip
from analog_lora_cli.hardware.tile.converters import Converters
from tests.parity.pairs import by_hand, distance, hardware, normal, outputs, pair

HARDWARE: dict[str, dict[str, Any]] = {
    "default": {},
    "tiled": {"tile_rows": 16, "tile_columns": 12},
    "tall tiles": {"tile_rows": 0, "tile_columns": 7},
    "wide tiles": {"tile_rows": 9, "tile_columns": 0},
    "few bits": {"dac_bits": 3, "adc_bits": 4},
    "two bits": {"dac_bits": 2, "adc_bits": 2, "adc_bound": 4.0},
    "many bits": {"dac_bits": 16, "adc_bits": 16},
    "ideal DAC": {"dac_bits": 0},
    "ideal ADC": {"adc_bits": 0},
    "no limit": {"dac_bits": 0, "adc_bits": 0, "adc_bound": 0.0},
    "saturating": {"adc_bound": 0.7},
    "saturating, ideal ADC": {"adc_bound": 0.7, "adc_bits": 0, "tile_rows": 10},
}
SHAPES = [(1, 1, 1), (3, 1, 2), (33, 47, 5), (48, 32, 64), (65, 129, 17)]
"""Outputs, inputs, tokens."""


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", HARDWARE)
def test_equal_in_double_precision(name: str, bias: bool) -> None:
    for seed, (out_features, in_features, tokens) in enumerate(SHAPES):
        weight = normal(out_features, in_features, seed=seed)
        added = normal(out_features, seed=seed + 100) if bias else None
        x = normal(tokens, in_features, seed=seed + 200)
        ours, theirs = outputs(pair(weight, added, hardware(**HARDWARE[name])), x)
        # aihwkit keeps the scale of a tile with one column in single precision: 6e-8.
        assert distance(ours, theirs) < 1e-6, (out_features, in_features, tokens)
        assert out_features == 1 or distance(ours, theirs) < 1e-12, (out_features, in_features, tokens)


@pytest.mark.parametrize("name", HARDWARE)
def test_close_in_single_precision(name: str) -> None:
    """Rounding may fall to the other side of a step in single precision: seldom, and by one step only."""
    chosen = hardware(**HARDWARE[name])
    weight = normal(130, 257, seed=1, dtype=torch.float32)
    x = normal(256, 257, seed=2, dtype=torch.float32)
    layers = pair(weight, None, chosen)
    ours, theirs = outputs(layers, x)
    difference = (ours - theirs).abs()
    flips = difference > 1e-5 * theirs.abs().max()
    # The two sum in another order, which moves an output by about 1e-6 of a tile unit: a share of the step.
    assert flips.double().mean() < (5e-3 if name == "many bits" else 1e-4)
    step = layers[0].converters.adc_step * x.abs().amax(dim=1, keepdim=True) * layers[0].column_scale.amax(dim=0)
    assert (difference <= 1.01 * step).all() or not flips.any()
    assert difference[~flips].norm() / theirs.norm() < 1e-5


def test_equal_to_a_layer_set_up_by_hand() -> None:
    """Guards against an error that `rpu_config` and `AnalogLinear` share: levels, bound, scales and tiles."""
    weight, bias = normal(70, 90, seed=1, dtype=torch.float32), normal(70, seed=2, dtype=torch.float32)
    x = normal(40, 90, seed=3, dtype=torch.float32)
    for changes, plain in (
        ({}, {}),
        ({"dac_bits": 6, "adc_bits": 7, "adc_bound": 5.0}, {"levels": (62, 126), "bound": 5.0}),
        ({"tile_rows": 32, "tile_columns": 40}, {"tile": (32, 40)}),
        ({"adc_bound": 1.5}, {"bound": 1.5}),
    ):
        ours, through_us = pair(weight, bias, hardware(**changes))
        layer = by_hand(weight, bias, **plain).eval()
        y, between, expected = outputs((ours, through_us, layer), x)
        assert distance(y, expected) < 1e-5
        assert distance(between, expected) < 1e-5
        theirs = torch.cat([tile.get_scales().view(-1) for tile in layer.analog_tiles()])
        assert torch.equal(ours.column_scale.reshape(-1), theirs)


@pytest.mark.parametrize("dac_bits", [0, 8])
@pytest.mark.parametrize("bound", [0.001, 0.01, 0.3, 1.0, 3.0, 12.0])
def test_iterative_bound_management_of_one_token(bound: float, dac_bits: int) -> None:
    """aihwkit decides for the whole batch, so one token at a time; the small bounds make both give up."""
    changed = {"bound_management": "iterative", "adc_bound": bound, "dac_bits": dac_bits}
    weight, bias = normal(33, 47, seed=1), normal(33, seed=2)
    halved = 0
    for tile in ({}, {"tile_rows": 16, "tile_columns": 16}):
        layers = pair(weight, bias, hardware(**changed, **tile))
        once = pair(weight, bias, hardware(**{**changed, "bound_management": "saturate"}, **tile))
        for seed in range(10):
            x = normal(1, 47, seed=seed) * 10.0 ** (seed - 5)
            ours, theirs = outputs(layers, x)
            assert distance(ours, theirs) < 1e-12
            halved += distance(ours, outputs(once, x)[0]) > 1e-6
    assert (halved > 0) == (bound < 12), "the bounds must be such that reading again happens, and not always"


def test_columns_tokens_and_layers_of_zeros() -> None:
    weight, x = normal(20, 30, seed=1), normal(6, 30, seed=2)
    weight[3] = 0
    weight[:10, :15] = 0
    x[2] = 0
    x[4, :15] = 0
    bias = normal(20, seed=3)
    for changes in ({}, {"tile_rows": 15, "tile_columns": 10}, {"bound_management": "iterative"}):
        ours, theirs = outputs(pair(weight, bias, hardware(**changes)), x)
        assert distance(ours, theirs) < 1e-12
        assert torch.equal(ours[2], bias)
        assert torch.equal(ours[:, 3], bias[3].expand(6))
    for layer in pair(torch.zeros(4, 5), None, hardware()):
        with torch.no_grad():
            assert torch.equal(layer(normal(3, 5, seed=1, dtype=torch.float32)), torch.zeros(3, 4))


def test_a_chip_is_the_same_in_both() -> None:
    """Programmed, drifted and compensated: same weights in the devices, same outputs."""
    for changes in ({}, {"tile_rows": 20, "tile_columns": 16, "drift_compensation": "per-column"}):
        # Without the ADC's steps: a single flip of rounding would hide what is compared here.
        chosen = hardware(adc_bits=0, **changes)
        weight, bias = normal(33, 47, seed=1, dtype=torch.float32), normal(33, seed=2, dtype=torch.float32)
        layers = pair(weight, bias, chosen)
        x = normal(40, 47, seed=3, dtype=torch.float32)
        exact = outputs(layers, x)[0]
        chips = [Chip(5, {"layer": layer}, chosen) for layer in layers]
        for chip in chips:
            chip.age(86400.0)
        assert chips[0].fingerprint() == chips[1].fingerprint()
        ours, theirs = outputs(layers, x)
        assert (ours - theirs).norm() / theirs.norm() < 1e-5
        assert (ours - exact).norm() / exact.norm() > 0.01
        for chip in chips:
            chip.release()
        ours, theirs = outputs(layers, x)
        assert torch.equal(ours, exact)
        assert distance(theirs, exact) < 1e-5


@given(
    shape=st.tuples(st.integers(1, 70), st.integers(1, 70), st.integers(1, 9)),
    tile=st.tuples(st.integers(0, 40), st.integers(0, 40)),
    bits=st.tuples(st.sampled_from([0, *range(2, 17)]), st.sampled_from([0, *range(2, 17)])),
    bound=st.floats(0.05, 30.0),
    magnitude=st.integers(-12, 12),
    iterative=st.booleans(),
    seed=st.integers(0, 1000),
)
# The largest product, 1, is converted to the ADC's highest level, which is within the bound.
@example(shape=(1, 1, 1), tile=(0, 0), bits=(0, 5), bound=1.0, magnitude=0, iterative=True, seed=0)
@settings(deadline=None, max_examples=80)
def test_equal_whatever_the_shape(
    shape: tuple[int, int, int],
    tile: tuple[int, int],
    bits: tuple[int, int],
    bound: float,
    magnitude: int,
    iterative: bool,
    seed: int,
) -> None:
    out_features, in_features, tokens = shape
    chosen = hardware(
        tile_rows=tile[0],
        tile_columns=tile[1],
        dac_bits=bits[0],
        adc_bits=bits[1],
        # With round bounds a largest product of 1 may lie half-way between two levels, where either is right.
        adc_bound=1.0123457 * bound,
        bound_management="iterative" if iterative else "saturate",
    )
    converters = Converters.of(chosen)
    # One bound in a thousand lies below the ADC's highest level as aihwkit computes it, by rounding: the level then
    # counts as beyond the bound, and the product is repeated.
    assume(not iterative or converters.limit * converters.output_unit <= chosen.adc_bound)
    weight = normal(out_features, in_features, seed=seed) * 10.0**magnitude
    x = normal(1 if iterative else tokens, in_features, seed=seed + 1) * 10.0**-magnitude
    ours, theirs = outputs(pair(weight, None, chosen), x)
    # Against the magnitude of what is added up: aihwkit's scales are float32, and a sum may cancel to almost nothing.
    added_up = float((x.abs() @ weight.abs().t()).max())
    assert float((ours - theirs).abs().max()) < 2e-7 * added_up
