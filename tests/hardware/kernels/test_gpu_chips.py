"""Triton's kernels of programming, drift and read noise against the chips of `physics.pcm_cells`."""

from __future__ import annotations

from typing import Any

import pytest
import torch

pytest.importorskip("triton")

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.hardware.kernels.gpu import chips
from analog_lora_cli.hardware.kernels.gpu.blocks import INTERPRETED
from analog_lora_cli.hardware.physics.cells import TileKey
from analog_lora_cli.hardware.physics.chip import Chip
from analog_lora_cli.hardware.physics.devices import cell_model
from analog_lora_cli.hardware.physics.gpu_cells import GpuPcmTile
from analog_lora_cli.hardware.physics.pcm_cells import PcmCells, PcmTile
from analog_lora_cli.hardware.tile.analog_linear import AnalogLinear
from tests.hardware.kernels.gpu_cases import DEVICE

if not INTERPRETED and DEVICE.type == "cpu":
    pytest.skip("triton was imported without TRITON_INTERPRET=1 and there is no GPU", allow_module_level=True)

DEVICES: list[dict[str, Any]] = [
    {},
    {"converter": "dual-pair", "converter_options": {"f_lst": [1.0, 3.0]}},
    {"device_options": {"prog_noise_scale": 2.0, "drift_scale": 1.5}},
]
YEAR = 365.0 * 86400


def tiles(columns: int, rows: int, row: int = 0, **hardware: Any) -> tuple[PcmTile, PcmTile]:
    """A tile by Triton's kernels, and by torch's operations."""
    target = torch.randn(columns, rows, generator=torch.Generator().manual_seed(columns)).clamp(-2, 2) / 2
    target[0, 0], target[-1, -1] = 0.0, 1.0
    key, found = TileKey(2**60 + 5, "layer", row, 1), []
    for kernels in ("triton", "torch"):
        cells = cell_model(HardwareConfig(kernels=kernels, **hardware))  # type: ignore[arg-type]
        assert isinstance(cells, PcmCells)
        found.append(cells.program(key, target.to(DEVICE)))
    assert [type(one) for one in found] == [GpuPcmTile, PcmTile]
    return found[0], found[1]


@pytest.mark.parametrize("shape", [(1, 1), (7, 2), (10, 131), (20, 33)])
@pytest.mark.parametrize("hardware", [*DEVICES, {"g_min": 0.5}])
def test_programming(shape: tuple[int, int], hardware: dict[str, Any]) -> None:
    found, expected = tiles(*shape, **hardware)
    torch.testing.assert_close(found.weight, expected.weight, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (7, 2), (10, 131)])
@pytest.mark.parametrize("hardware", [*DEVICES, {"g_min": 0.5}])
@pytest.mark.parametrize("seconds", [0.0, 3600.0, 10 * YEAR])
def test_reading(shape: tuple[int, int], hardware: dict[str, Any], seconds: float) -> None:
    found, expected = tiles(*shape, **hardware)
    torch.testing.assert_close(found.read(seconds, 3), expected.read(seconds, 3), rtol=2e-5, atol=2e-6)


def test_each_reading_and_tile_has_its_own_noise() -> None:
    (one, _), (other, _) = tiles(16, 16), tiles(16, 16, row=1)
    assert (one.weight != other.weight).float().mean() > 0.99
    assert (one.read(3600.0, 0) != one.read(3600.0, 1)).float().mean() > 0.9
    assert torch.equal(one.read(3600.0, 0), one.read(3600.0, 0))


def test_a_chip() -> None:
    """The same chip on both ways: weights on tiles, and factors of the drift compensation."""
    weight = torch.randn(30, 50, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    states = []
    for kernels in ("triton", "torch"):
        hardware = HardwareConfig(kernels=kernels, tile_rows=24, tile_columns=20)  # type: ignore[arg-type]
        layer = AnalogLinear(weight, None, hardware, "layer")
        Chip(5, {"layer": layer}, hardware).age(YEAR)
        assert layer.state is not None
        states.append(layer.state)
    found, expected = states
    torch.testing.assert_close(found.weight, expected.weight, rtol=2e-5, atol=1e-5)
    torch.testing.assert_close(found.compensation, expected.compensation, rtol=1e-3, atol=0)


def test_devices_that_conduct_at_zero_are_refused() -> None:
    weight = torch.ones(2, 2, device=DEVICE)
    with pytest.raises(ValueError, match=r"g_min is 0\.5 uS"):
        chips.read(weight, weight, [1], [2], chips.DevicePairs([1.0], 0.5, 25.0), [1.0] * 14, 0.0)
