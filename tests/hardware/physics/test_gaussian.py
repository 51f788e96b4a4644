"""Static Gaussian weight noise: its size, and that a draw is a function of seed, layer and tile alone."""

from __future__ import annotations

import pytest
import torch

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.hardware.physics.gaussian import gaussian_state
from analog_lora_cli.hardware.tile.analog_linear import AnalogLinear


def make_layer(dtype: torch.dtype = torch.float32) -> AnalogLinear:
    """200 inputs and 300 outputs on tiles of 128 x 128."""
    weight = torch.randn(300, 200, generator=torch.Generator().manual_seed(0)).to(dtype)
    return AnalogLinear(weight, None, HardwareConfig(tile_rows=128, tile_columns=128), "a")


def in_tile_units(layer: AnalogLinear, seed: int, level: float, name: str = "a") -> torch.Tensor:
    """The noise of each weight, relative to the scale of its column."""
    state = gaussian_state(seed, level, name, layer)
    noise = torch.empty_like(state.weight)
    for place in layer.grid:
        difference = (state.weight - layer.weight)[place.weights]
        noise[place.weights] = difference / layer.column_scale[place.columns][:, None]
    return noise


def test_noise_is_relative_to_the_largest_weight_of_each_column() -> None:
    noise = in_tile_units(make_layer(), 3, 0.03)
    assert noise.mean().item() == pytest.approx(0, abs=5e-4)
    assert noise.std().item() == pytest.approx(0.03, rel=0.01)
    by_column = noise[:, :100].std(dim=1)
    assert by_column.min() > 0.02 and by_column.max() < 0.04


def test_levels_share_one_draw_and_seeds_and_layers_do_not() -> None:
    layer = make_layer()
    noise = in_tile_units(layer, 3, 0.02)
    torch.testing.assert_close(in_tile_units(layer, 3, 0.06), 3 * noise, rtol=1e-3, atol=1e-5)
    for other in (in_tile_units(layer, 4, 0.02), in_tile_units(layer, 3, 0.02, "b"), noise.roll(100, 0)):
        assert abs(torch.corrcoef(torch.stack([noise.flatten(), other.flatten()]))[0, 1]) < 0.02


def test_the_layer_itself_stays_and_half_precision_is_drawn_in_float32() -> None:
    layer = make_layer(torch.bfloat16)
    before = layer.weight.clone()
    state = gaussian_state(0, 0.1, "a", layer)
    assert torch.equal(layer.weight, before) and layer.state is None
    assert state.weight.dtype == torch.float32 and not torch.equal(state.weight, before.float())
    assert bool((state.compensation == 1).all())
