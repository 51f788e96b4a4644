"""A step of the optimizer with `method: full` is that of aihwkit's AnalogAdam on the same layer, in tile units."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from analog_lora_cli.hardware.tile.analog_linear import AnalogLinear
from analog_lora_cli.training.callbacks.tile_units import StepInTileUnits
from tests.parity.pairs import by_hand, distance, hardware, normal

RATE = 0.01


def step_here(layer: AnalogLinear, inputs: list[Tensor], **options: float) -> None:
    """One step for each input, as the Trainer takes them."""
    optimizer = torch.optim.AdamW([layer.weight], **{"lr": RATE, "weight_decay": 0.0, **options})
    moment: Any = SimpleNamespace()
    with StepInTileUnits({"layer": layer}) as callback:
        for x in inputs:
            layer(x).square().sum().backward()
            callback.on_pre_optimizer_step(moment, moment, moment)
            optimizer.step()
            callback.on_optimizer_step(moment, moment, moment)
            optimizer.zero_grad()


def steps_of_aihwkit(layer: Any, inputs: list[Tensor], sigma: float) -> Tensor:
    """The same with aihwkit's optimizer, clipping and mapping; the weights after it."""
    from aihwkit.optim import AnalogAdam
    from aihwkit.simulator.parameters.enums import WeightClipType, WeightRemapType

    for tile in layer.analog_tiles():
        tile.rpu_config.clip.type = WeightClipType.LAYER_GAUSSIAN if sigma else WeightClipType.NONE
        tile.rpu_config.clip.sigma = sigma
        tile.rpu_config.remap.type = WeightRemapType.CHANNELWISE_SYMMETRIC
    optimizer = AnalogAdam(layer.parameters(), lr=RATE)
    for x in inputs:
        layer(x).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    weight: Tensor = layer.get_weights()[0]
    return weight


@pytest.mark.parametrize("sigma", [0.0, 2.0])
@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("tile", [(512, 512), (16, 8)])
def test_weights_after_steps(sigma: float, steps: int, tile: tuple[int, int]) -> None:
    size = torch.tensor([0.02, 0.1, 0.5, 2.0]).repeat(4)[:, None]
    weight, inputs = normal(16, 32, seed=1).float() * size, [normal(6, 32, seed=2 + i).float() for i in range(steps)]
    options = {"dac_bits": 0, "adc_bits": 0, "adc_bound": 0.0, "tile_rows": tile[0], "tile_columns": tile[1]}
    layer = AnalogLinear(weight.clone(), None, hardware(clip_sigma=sigma, clip_scope="tile", **options), "layer")
    layer.train().requires_grad_(True)
    peer = by_hand(weight, None, levels=(-1, -1), bound=-1.0, tile=tile).train()
    step_here(layer, inputs)
    expected = steps_of_aihwkit(peer, inputs, sigma)
    assert distance(layer.weight.detach() - weight, expected - weight) < 1e-3
    assert distance(layer.weight.detach(), expected) < 1e-5


def test_the_step_is_the_rate_times_the_column_scale() -> None:
    weight = normal(8, 20, seed=1).float() * torch.logspace(-3, 1, 8)[:, None]
    layer = AnalogLinear(weight.clone(), None, hardware(clip_sigma=0.0, tile_rows=8), "layer").train()
    layer.requires_grad_(True)
    scale = layer.column_scale.clone()
    step_here(layer, [normal(5, 20, seed=2).float()])
    moved = (layer.weight.detach() - weight).abs()
    for row, (start, stop) in enumerate(layer.grid.rows):
        torch.testing.assert_close(
            moved[:, start:stop], (RATE * scale[row])[:, None].expand(-1, stop - start), rtol=0.01, atol=1e-7
        )


def test_weight_decay_and_zero_columns_and_no_hook_afterwards() -> None:
    weight = normal(4, 10, seed=1).float()
    weight[2] = 0.0
    layer = AnalogLinear(weight.clone(), None, hardware(clip_sigma=0.0), "layer").train()
    layer.requires_grad_(True)
    step_here(layer, [torch.zeros(3, 10)], weight_decay=0.5)
    torch.testing.assert_close(layer.weight.detach(), weight * (1 - RATE * 0.5))
    layer(normal(3, 10, seed=3).float()).sum().backward()  # The same gradient for all columns.
    assert layer.weight.grad is not None
    torch.testing.assert_close(layer.weight.grad[0], layer.weight.grad[1])
