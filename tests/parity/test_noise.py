"""The noise, as statistics: against aihwkit's draws and against the published distribution.

All seeds are fixed, so a test that passes once passes always; the limits are those that chance would break less than
once in a thousand seeds.
"""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from analog_lora_cli.hardware.tile.analog_linear import AnalogLinear
from analog_lora_cli.hardware.tile.training_noise import TrainingNoise
from tests.parity.pairs import by_hand, hardware, normal, pair

IDEAL: dict[str, Any] = {"dac_bits": 0, "adc_bits": 0, "adc_bound": 0.0}
TILED: dict[str, Any] = {"tile_rows": 10, "tile_columns": 9}


def flat(values: Tensor) -> Any:
    return values.detach().double().flatten().numpy()


def close_to_normal(values: Tensor, deviation: float) -> None:
    """Mean, deviation and shape of independent draws."""
    count = values.numel()
    assert abs(float(values.mean())) < 4 * deviation / math.sqrt(count)
    assert abs(float(values.std()) / deviation - 1) < 4 / math.sqrt(2 * count)
    assert stats.kstest(flat(values)[:50_000], "norm", args=(0, deviation)).pvalue > 1e-3


def same_distribution(ours: Tensor, theirs: Tensor) -> None:
    assert stats.ks_2samp(flat(ours)[:50_000], flat(theirs)[:50_000]).pvalue > 1e-3


def uncorrelated(draws: list[Tensor]) -> None:
    for first, second in combinations(draws, 2):
        count = first.numel()
        assert abs(float(stats.pearsonr(flat(first), flat(second))[0])) < 4 / math.sqrt(count)


@torch.no_grad()
def output_noise(layer: nn.Module, x: Tensor) -> Tensor:
    """Deviation of the output from the exact product."""
    assert isinstance(layer.weight, Tensor)
    return layer(x) - x @ layer.weight.T


@torch.no_grad()
def weights_in_memory(layer: nn.Module) -> Tensor:
    """The noisy weights of one forward pass, read with one input after the other; needs ideal converters."""
    return layer(torch.eye(layer.in_features)).T  # type: ignore[arg-type]


def expected_deviation(x: Tensor, weight: Tensor, rows: int, output_noise: float) -> Tensor:
    """Of each output: the noise of each row of tiles, scaled by the token's largest input and the column's weight."""
    parts = [
        x[:, start : start + rows].abs().amax(dim=1)[:, None]
        * weight[:, start : start + rows].abs().amax(dim=1)[None, :]
        for start in range(0, x.shape[1], rows)
    ]
    return output_noise * torch.stack(parts).square().sum(dim=0).sqrt()


@pytest.mark.parametrize("tiled", [False, True])
def test_output_noise(tiled: bool) -> None:
    weight, x = normal(27, 40, seed=1, dtype=torch.float32), normal(1500, 40, seed=2, dtype=torch.float32)
    ours, theirs = pair(weight, None, hardware(output_noise=0.04, **IDEAL, **(TILED if tiled else {})))
    expected = expected_deviation(x, weight, 10 if tiled else 40, 0.04)
    torch.manual_seed(0)
    standard = output_noise(ours, x) / expected
    close_to_normal(standard, 1.0)
    same_distribution(standard, output_noise(theirs, x) / expected)
    torch.manual_seed(1)
    uncorrelated([standard, output_noise(ours, x) / expected])
    uncorrelated([standard[:, :-1], standard[:, 1:]])
    uncorrelated([standard[:-1], standard[1:]])


def test_output_noise_before_the_adc() -> None:
    """With converters: mean and deviation of repeated reads, as in a layer of aihwkit set up by hand."""
    weight, token = normal(20, 40, seed=1, dtype=torch.float32), normal(1, 40, seed=2, dtype=torch.float32)
    x = token.expand(4000, 40)
    ours, _ = pair(weight, None, hardware(output_noise=0.04))
    theirs = by_hand(weight, None, output_noise=0.04).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        y, expected = ours(x), theirs(x)
    step = float(token.abs().max()) * weight.abs().amax(dim=1) * 24 / 254
    assert (((y.mean(0) - expected.mean(0)) / step).abs() < 4 * math.sqrt(2 * 0.5**2 / 4000)).all()
    assert (((y.std(0) - expected.std(0)) / step).abs() < 0.05).all()
    levels = y / step
    assert (levels - levels.round()).abs().max() < 1e-3


@pytest.mark.parametrize("tiled", [False, True])
def test_weight_noise(tiled: bool) -> None:
    weight = normal(120, 100, seed=1, dtype=torch.float32)
    changes = {"weight_noise": 0.067, **IDEAL, **(TILED if tiled else {})}
    noise = TrainingNoise(3)
    ours, theirs = (layer.train() for layer in pair(weight, None, hardware(**changes), noise))
    by_aihwkit = by_hand(weight, None, weight_noise=0.067, tile=(10, 9) if tiled else (512, 512)).train()
    by_aihwkit.in_features = 100
    for tile in by_aihwkit.analog_tiles():
        tile.rpu_config.forward.inp_res = tile.rpu_config.forward.out_res = -1
    rows = 10 if tiled else 100
    scale = torch.cat([part.abs().amax(1, keepdim=True).expand_as(part) for part in weight.split(rows, dim=1)], dim=1)
    draws = []
    for _ in range(4):
        noise.begin_forward()
        draws.append((weights_in_memory(ours) - weight) / scale)
    uncorrelated(draws)
    standard = torch.cat(draws)
    close_to_normal(standard, 0.067)
    torch.manual_seed(0)
    same_distribution(standard, torch.cat([(weights_in_memory(theirs) - weight) / scale for _ in range(4)]))
    same_distribution(standard, torch.cat([(weights_in_memory(by_aihwkit) - weight) / scale for _ in range(4)]))
    uncorrelated([draws[0][:, :-1], draws[0][:, 1:]])
    uncorrelated([draws[0][:-1], draws[0][1:]])


def test_weight_noise_is_shared_by_the_batch() -> None:
    """One draw a forward pass: equal tokens give equal outputs, in aihwkit and here; another pass, others."""
    weight, token = normal(20, 40, seed=1, dtype=torch.float32), normal(1, 40, seed=2, dtype=torch.float32)
    noise = TrainingNoise(3)
    for layer in pair(weight, None, hardware(weight_noise=0.067, **IDEAL), noise):
        layer.train()
        passes = []
        for _ in range(2):
            noise.begin_forward()
            with torch.no_grad():
                y = layer(token.expand(7, 40).reshape(7, 1, 40))
            assert (y - y[:1]).abs().max() < 1e-5
            passes.append(y)
        assert (passes[0] - passes[1]).abs().min() > 1e-4


def test_weight_noise_only_in_training() -> None:
    weight, x = normal(20, 40, seed=1, dtype=torch.float32), normal(5, 40, seed=2, dtype=torch.float32)
    for layer in pair(weight, None, hardware(weight_noise=0.067, **IDEAL), TrainingNoise(3)):
        with torch.no_grad():
            assert (layer.eval()(x) - x @ weight.T).abs().max() < 1e-4
            assert (layer.train()(x) - x @ weight.T).abs().max() > 1e-2
    for layer in pair(weight, None, hardware(weight_noise=0.067, **IDEAL), None):
        with torch.no_grad():
            assert (layer.train()(x) - x @ weight.T).abs().max() < 1e-4


def test_strength_of_the_schedule() -> None:
    weight = normal(120, 100, seed=1, dtype=torch.float32)
    noise = TrainingNoise(3)
    for layer in pair(weight, None, hardware(weight_noise=0.067, **IDEAL), noise):
        layer.train()
        scale = weight.abs().amax(dim=1, keepdim=True)
        for strength in (0.0, 0.5, 2.0):
            noise.strength = strength
            noise.begin_forward()
            standard = (weights_in_memory(layer) - weight) / scale
            assert float(standard.std()) == pytest.approx(0.067 * strength, rel=0.03, abs=1e-6)


def test_noise_of_layers_steps_and_passes_is_independent() -> None:
    weight = normal(120, 100, seed=1, dtype=torch.float32)
    chosen = hardware(weight_noise=0.067, **IDEAL)
    noise = TrainingNoise(3)
    first, second = (AnalogLinear(weight, None, chosen, name, noise).train() for name in ("a", "b"))
    other_run = AnalogLinear(weight, None, chosen, "a", TrainingNoise(4)).train()
    draws = []
    for step in range(3):
        noise.begin_step(step)
        for _ in range(2):
            noise.begin_forward()
            draws += [weights_in_memory(layer) - weight for layer in (first, second)]
    draws.append(weights_in_memory(other_run) - weight)
    uncorrelated(draws)


def test_output_and_weight_noise_in_training_are_independent() -> None:
    """Both come from seeds that differ only in the stream's name."""
    weight = torch.ones(100, 100)
    noise = TrainingNoise(3)
    only_weights = AnalogLinear(weight, None, hardware(weight_noise=0.067, **IDEAL), "a", noise).train()
    only_outputs = AnalogLinear(weight, None, hardware(output_noise=0.04, **IDEAL), "a", noise).train()
    draws = [weights_in_memory(layer) - weight for layer in (only_weights, only_outputs)]
    uncorrelated([*draws, draws[1].T])
    close_to_normal(draws[0], 0.067)
    close_to_normal(draws[1], 0.04)
