"""Triton's kernels of programming, drift and read noise against the chips of `physics.pcm_cells`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("triton")

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.hardware.kernels.gpu import chips
from analog_lora_cli.hardware.kernels.gpu.blocks import INTERPRETED
from analog_lora_cli.hardware.physics.cells import TileKey
from analog_lora_cli.hardware.physics.devices import cell_model
from analog_lora_cli.hardware.physics.pcm_cells import PcmCells, PcmTile
from tests.hardware.kernels.gpu_cases import DEVICE

if not INTERPRETED and DEVICE.type == "cpu":
    pytest.skip("triton was imported without TRITON_INTERPRET=1 and there is no GPU", allow_module_level=True)

DEVICES: list[dict[str, Any]] = [
    {},
    {"converter": "dual-pair", "converter_options": {"f_lst": [1.0, 3.0]}},
    {"device_options": {"prog_noise_scale": 2.0, "drift_scale": 1.5}},
]
YEAR = 365.0 * 86400


def tile(columns: int, rows: int, **hardware: Any) -> PcmTile:
    """A tile as torch's operations program and read it."""
    cells = cell_model(HardwareConfig(kernels="torch", **hardware))
    assert isinstance(cells, PcmCells)
    target = torch.randn(columns, rows, generator=torch.Generator().manual_seed(columns)).clamp(-2, 2) / 2
    target[0, 0], target[-1, -1] = 0.0, 1.0
    return cells.program(TileKey(2**60 + 5, "layer", 0, 1), target.to(DEVICE))  # type: ignore[return-value]


def pairs_of(tile: PcmTile) -> chips.DevicePairs:
    pairs = tile.cells.pairs
    return chips.DevicePairs(pairs.significance, pairs.g_min, pairs.g_max)


def keys(tile: PcmTile, *purpose: object) -> list[int]:
    name, *more = purpose
    return [tile.key.seed(name, pair, *more) for pair in range(len(tile.cells.pairs.significance))]


def programmed(tile: PcmTile) -> torch.Tensor:
    noise = tile.cells.laws.noise_in_microsiemens.tolist()
    return chips.program(tile.target_OI, keys(tile, "program +"), keys(tile, "program -"), pairs_of(tile), noise)


def read(tile: PcmTile, seconds: float, number: int) -> torch.Tensor:
    laws = tile.cells.laws
    drift = chips.DriftLaws(
        laws.packed.tolist(), float(np.log2(laws.drift_ratio(seconds))), float(laws.read_size(seconds))
    )
    reading = keys(tile, "read", float(seconds), number)
    return chips.read(tile.target_OI, tile.weight, keys(tile, "drift"), reading, pairs_of(tile), drift)


@pytest.mark.parametrize("shape", [(1, 1), (7, 2), (64, 64), (40, 257), (130, 33)])
@pytest.mark.parametrize("hardware", [*DEVICES, {"g_min": 0.5}])
def test_programming(shape: tuple[int, int], hardware: dict[str, Any]) -> None:
    one = tile(*shape, **hardware)
    torch.testing.assert_close(programmed(one), one.weight, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (7, 2), (40, 257)])
@pytest.mark.parametrize("hardware", DEVICES)
@pytest.mark.parametrize("seconds", [0.0, 3600.0, 10 * YEAR])
def test_reading(shape: tuple[int, int], hardware: dict[str, Any], seconds: float) -> None:
    one = tile(*shape, **hardware)
    torch.testing.assert_close(read(one, seconds, 3), one.read(seconds, 3), rtol=2e-5, atol=2e-6)


def test_each_reading_and_tile_has_its_own_noise() -> None:
    one = tile(16, 16)
    again = cell_model(HardwareConfig(kernels="torch")).program(TileKey(2**60 + 5, "layer", 1, 1), one.target_OI)
    assert (programmed(one) != programmed(again)).float().mean() > 0.99  # type: ignore[arg-type]
    assert (read(one, 3600.0, 0) != read(one, 3600.0, 1)).float().mean() > 0.9
    assert torch.equal(read(one, 3600.0, 0), read(one, 3600.0, 0))


def test_devices_that_conduct_at_zero_are_refused() -> None:
    with pytest.raises(ValueError, match=r"g_min is 0\.5 uS"):
        read(tile(2, 2, g_min=0.5), 0.0, 0)
