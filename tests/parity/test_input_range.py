"""Fixed ranges of the inputs against aihwkit's torch tile: the product, and the gradient of a learned range."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from analog_lora_cli.hardware.tile.analog_linear import AnalogLinear
from tests.parity.pairs import by_hand, distance, hardware, normal, outputs, pair
from tests.parity.test_forward import HARDWARE, SHAPES
from tests.parity.test_gradients import convert, read


def spread_ranges(layer: AnalogLinear, low: float = 0.7, high: float = 4.0) -> Tensor:
    """Another range for each row of tiles: the narrow ones clip half of standard normal inputs."""
    return torch.linspace(low, high, len(layer.grid.rows))


@pytest.mark.parametrize("low", [0.3, 2.5])
@pytest.mark.parametrize("name", HARDWARE)
def test_equal_in_double_precision(name: str, low: float) -> None:
    for seed, (out_features, in_features, tokens) in enumerate(SHAPES):
        weight, bias = normal(out_features, in_features, seed=seed), normal(out_features, seed=seed + 100)
        x = normal(tokens, in_features, seed=seed + 200)
        layers = pair(weight, bias, hardware(**HARDWARE[name], input_range="static"))
        for layer in layers:
            layer.set_input_range(spread_ranges(layer, low))
        ours, theirs = outputs(layers, x)
        assert distance(ours, theirs) < 1e-6, (out_features, in_features, tokens)
        assert out_features == 1 or distance(ours, theirs) < 1e-12, (out_features, in_features, tokens)


def test_iterative_bound_management_of_one_token() -> None:
    weight, halved = normal(33, 47, seed=1), 0
    changed: dict[str, Any] = {"bound_management": "iterative", "adc_bound": 0.3, "tile_rows": 16, "tile_columns": 16}
    layers = pair(weight, None, hardware(**changed, input_range="static"))
    once = pair(weight, None, hardware(**{**changed, "bound_management": "saturate"}, input_range="static"))
    for layer in (*layers, *once):
        layer.set_input_range(spread_ranges(layer))
    for seed in range(10):
        x = normal(1, 47, seed=seed)
        ours, theirs = outputs(layers, x)
        assert distance(ours, theirs) < 1e-12
        halved += distance(ours, outputs(once, x)[0]) > 1e-6
    assert halved


def learning(weight: Tensor, ranges: list[float], **changes: Any) -> tuple[AnalogLinear, Any]:
    """This project's layer and aihwkit's, set up by hand, in training, with these ranges."""
    options: dict[str, Any] = {"tile_rows": 24, "tile_columns": 0, **changes}
    ours = AnalogLinear(weight.clone(), None, hardware(input_range="learned", **options), "layer")
    ours.set_input_range(torch.tensor(ranges))
    decay = options.get("input_range_decay", 0.001)
    dac, adc = options.get("dac_bits", 8), options.get("adc_bits", 8)
    theirs = by_hand(
        weight,
        None,
        levels=(2**dac - 2 if dac else -1, 2**adc - 2 if adc else -1),
        bound=options.get("adc_bound", 12.0) or -1,
        tile=(24, 0),
        range_decay=decay,
    )
    for tile, value in zip(theirs.analog_tiles(), ranges, strict=True):
        tile.set_input_range(value)
    return ours.train(), theirs.train()


def range_gradients(layers: tuple[AnalogLinear, Any], x: Tensor, upstream: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Gradients of inputs and ranges, ours first."""
    of_inputs, of_ranges = [], []
    for layer in layers:
        given = x.clone().requires_grad_(True)
        (layer(given) * upstream).sum().backward()
        assert given.grad is not None
        of_inputs.append(given.grad)
    ours, theirs = layers
    assert ours.input_range is not None and ours.input_range.grad is not None
    of_ranges.append(ours.input_range.grad)
    of_ranges.append(torch.cat([tile.input_range.grad for tile in theirs.analog_tiles()]))
    return of_inputs, of_ranges


IDEAL = {"dac_bits": 0, "adc_bits": 0, "adc_bound": 0.0}


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_gradient_with_ideal_converters(decay: float) -> None:
    """Clipped inputs pull the range outwards, and it decays where fewer than 5 % are clipped: the second and last."""
    weight = normal(33, 96, seed=1, dtype=torch.float32)
    x, upstream = normal(50, 96, seed=3, dtype=torch.float32), normal(50, 33, seed=4, dtype=torch.float32)
    ranges = [0.5, 2.4, 1.5, 6.0]
    layers = learning(weight, ranges, input_range_decay=decay, **IDEAL)
    of_inputs, of_ranges = range_gradients(layers, x, upstream)
    assert distance(*of_inputs) < 1e-5
    assert distance(*of_ranges) < 1e-5
    beyond = x.view(50, 4, 24).abs() > torch.tensor(ranges)[:, None]
    assert (of_inputs[0].view(50, 4, 24)[beyond] == 0).all()
    assert (of_ranges[0][:3] < 0).all() and of_ranges[0][3] == pytest.approx(decay * 6.0)


@pytest.mark.parametrize(
    "changes", [{}, {"dac_bits": 4, "adc_bits": 5}, {"adc_bound": 1.2}, {"adc_bound": 1.2, "adc_bits": 0}]
)
def test_gradient_with_converters(changes: dict[str, Any]) -> None:
    """aihwkit's torch tile adds what flows through the division by the range and the scale after the ADC.

    Both cancel with ideal converters: out = r s y(c / r) with c the clipped input, so that the two add up to
    s y - c W / r where nothing saturates.
    """
    weight = normal(33, 96, seed=1, dtype=torch.float32)
    x, upstream = normal(50, 96, seed=3, dtype=torch.float32), normal(50, 33, seed=4, dtype=torch.float32)
    ranges = [0.5, 2.4, 1.5, 6.0]
    of_inputs, of_ranges = range_gradients(learning(weight, ranges, **changes), x, upstream)
    assert distance(*of_inputs) < 1e-4
    through_scale = []
    for row, value in enumerate(ranges):
        block, part = weight[:, 24 * row : 24 * row + 24], x[:, 24 * row : 24 * row + 24].clamp(-value, value)
        scale = block.abs().amax(dim=1)
        y, saturated = read(convert(part / value, changes.get("dac_bits", 8)), block / scale[:, None], changes)
        through_scale.append((upstream * (scale * y - (part / value @ block.T).masked_fill(saturated, 0))).sum())
    added = torch.stack(through_scale)
    assert added.abs().max() > 0.1
    assert distance(of_ranges[0] + added, of_ranges[1]) < 1e-4
