"""Gradients without noise: against aihwkit's, and against formulas written out in double precision."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.parity.pairs import by_hand, distance, hardware, normal, pair

HARDWARE: dict[str, dict[str, Any]] = {
    "default": {},
    "tiled": {"tile_rows": 16, "tile_columns": 12},
    "few bits": {"dac_bits": 3, "adc_bits": 4},
    "no limit": {"dac_bits": 0, "adc_bits": 0, "adc_bound": 0.0},
    "saturating": {"adc_bound": 0.7, "tile_rows": 20},
}


def input_gradient(layer: nn.Module, x: Tensor, upstream: Tensor) -> Tensor:
    """Gradient of sum(upstream * layer(x)) for the input."""
    x = x.clone().requires_grad_(True)
    (layer(x) * upstream).sum().backward()
    assert x.grad is not None
    return x.grad


def largest_inputs(x: Tensor, rows: list[tuple[int, int]]) -> Tensor:
    """Where each token has its largest input on a row of tiles."""
    mask = torch.zeros_like(x, dtype=torch.bool)
    for start, stop in rows:
        mask[:, start:stop].scatter_(1, x[:, start:stop].abs().argmax(dim=1, keepdim=True), True)
    return mask


def read(q: Tensor, tile: Tensor, changes: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """ADC output of one tile and where it saturates, written out.

    Args:
        q: (tokens, rows), what the DAC gives.
        tile: (columns, rows), in tile units.
    """
    bound = changes.get("adc_bound", 12.0) or float("inf")
    bits = changes.get("adc_bits", 8)
    z = q @ tile.T
    if bits:
        step = 2 * bound / (2**bits - 2)
        z = torch.round(z / step) * step
    return z.clamp(-bound, bound), z.abs() > bound


def convert(x: Tensor, bits: int) -> Tensor:
    """The DAC, written out; in aihwkit's order, because a halved largest input lies half-way between two steps."""
    step = 2 * (1 / (2**bits - 2)) if bits else 0
    return torch.round(x / step) * step if bits else x


@pytest.mark.parametrize("name", HARDWARE)
def test_of_the_input(name: str) -> None:
    """Equal but at each token's largest input: there aihwkit adds the gradient that flows through its scale.

    That difference is checked too: with out = a s y(x / a), d out / d a = s y - (x / a) W where nothing saturates.
    """
    changes = HARDWARE[name]
    weight, bias, x = normal(33, 47, seed=1), normal(33, seed=2), normal(30, 47, seed=3)
    upstream = normal(30, 33, seed=4)
    ours, theirs = pair(weight, bias, hardware(**changes))
    actual, expected = input_gradient(ours, x, upstream), input_gradient(theirs, x, upstream)
    largest = largest_inputs(x, ours.grid.rows)
    assert int(largest.sum()) == 30 * len(ours.grid.rows)
    scale = expected.abs().max()
    assert ((actual - expected)[~largest].abs() / scale).max() < 1e-5
    through_scale = torch.zeros_like(x)
    saturated_share = 0.0
    for start, stop in ours.grid.rows:
        block, part = weight[:, start:stop], x[:, start:stop]
        a, s = part.abs().amax(dim=1, keepdim=True), block.abs().amax(dim=1)
        y, saturated = read(convert(part / a, changes.get("dac_bits", 8)), block / s[:, None], changes)
        saturated_share += float(saturated.double().mean())
        by_scale = (upstream * (s * y - (part / a @ block.T).masked_fill(saturated, 0))).sum(dim=1, keepdim=True)
        through_scale[:, start:stop] = largest[:, start:stop] * part.sign() * by_scale
    assert distance(actual + through_scale, expected) < 1e-5
    assert (saturated_share > 0) == (name == "saturating")


@pytest.mark.parametrize("name", HARDWARE)
def test_of_input_and_weights_written_out(name: str) -> None:
    """Straight-through: the converters count as the identity where they are within range, else as constant."""
    changes = HARDWARE[name]
    weight, x, upstream = normal(33, 47, seed=1), normal(30, 47, seed=3), normal(30, 33, seed=4)
    layer, _ = pair(weight, None, hardware(**changes))
    layer.train().requires_grad_(True)
    actual = input_gradient(layer, x, upstream)
    expected, expected_weight = torch.zeros_like(x), torch.zeros_like(weight)
    for start, stop in layer.grid.rows:
        block, part = weight[:, start:stop], x[:, start:stop]
        a, s = part.abs().amax(dim=1, keepdim=True), block.abs().amax(dim=1)
        q = convert(part / a, changes.get("dac_bits", 8))
        _, saturated = read(q, block / s[:, None], changes)
        passed = upstream.masked_fill(saturated, 0)
        expected[:, start:stop] = passed @ block
        expected_weight[:, start:stop] = passed.T @ (a * q)
    assert distance(actual, expected) < 1e-12
    assert layer.weight.grad is not None
    assert distance(layer.weight.grad, expected_weight) < 1e-12


def test_of_the_weights_against_aihwkit() -> None:
    """aihwkit's tiles hold w / s, and a hook divides their gradient by s^2.

    d loss / d (w / s) = s d loss / d w, so the hooked gradient is d loss / d w / s: a step on the tile changes the
    effective weight w by what the step on w itself would.
    """
    weight, bias = normal(30, 44, seed=1, dtype=torch.float32), normal(30, seed=2, dtype=torch.float32)
    x, upstream = normal(50, 44, seed=3, dtype=torch.float32), normal(50, 30, seed=4, dtype=torch.float32)
    for changes, plain in (
        ({}, {}),
        ({"adc_bound": 1.5}, {"bound": 1.5}),
        ({"tile_rows": 22, "tile_columns": 15}, {"tile": (22, 15)}),
    ):
        ours, _ = pair(weight, bias, hardware(**changes))
        ours.train().requires_grad_(True)
        theirs = by_hand(weight, bias, **plain).train()
        for layer in (ours, theirs):
            (layer(x) * upstream).sum().backward()
        assert ours.weight.grad is not None
        assert ours.bias.grad is not None
        tiles = iter(theirs.analog_tiles())
        for start, stop in ours.grid.rows:
            for first, last in ours.grid.columns:
                tile = next(tiles)
                expected = tile.tile.weight.grad * tile.get_scales().view(-1, 1)
                assert distance(ours.weight.grad[first:last, start:stop], expected) < 1e-5
        assert distance(ours.bias.grad, upstream.sum(dim=0)) < 1e-5


def test_with_iterative_bound_management() -> None:
    """The input as it was last read counts, also for the weights."""
    weight, upstream = normal(33, 47, seed=1), normal(1, 33, seed=4)
    chosen = hardware(bound_management="iterative", adc_bound=1.0, tile_rows=24, tile_columns=11)
    ours, theirs = pair(weight, None, chosen)
    ours.train().requires_grad_(True)
    for seed in range(5):
        x = normal(1, 47, seed=seed)
        ours.zero_grad()
        actual, expected = input_gradient(ours, x, upstream), input_gradient(theirs, x, upstream)
        largest = largest_inputs(x, ours.grid.rows)
        assert distance(actual[~largest], expected[~largest]) < 1e-5
        expected_weight = torch.zeros_like(weight)
        halved = 0
        for start, stop in ours.grid.rows:
            for first, last in ours.grid.columns:
                block, part = weight[first:last, start:stop], x[:, start:stop]
                a, s = part.abs().max(), block.abs().amax(dim=1)
                saturated = torch.ones(1, dtype=torch.bool)
                while saturated.any():
                    q = convert(part * (1 / a), 8)
                    _, saturated = read(q, block / s[:, None], {"adc_bound": 1.0})
                    a, halved = (2 * a, halved + 1) if saturated.any() else (a, halved)
                expected_weight[first:last, start:stop] = upstream[:, first:last].T @ (a * q)
        assert halved
        assert ours.weight.grad is not None
        assert distance(ours.weight.grad, expected_weight) < 1e-12
