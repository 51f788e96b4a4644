"""Counter-based cells against aihwkit's classes: with the same normals, and as distributions over a million devices."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from analog_lora_cli.config.device_file import PCM
from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.hardware.kernels.counter import cell_normals
from analog_lora_cli.hardware.physics.cells import TileKey
from analog_lora_cli.hardware.physics.chip import Chip
from analog_lora_cli.hardware.physics.chip_loops import ChipLoops
from analog_lora_cli.hardware.physics.devices import cell_model, noise_model
from analog_lora_cli.hardware.physics.pcm_cells import PcmCells
from analog_lora_cli.hardware.tile.analog_linear import AnalogLinear
from analog_lora_cli.hardware.tile.state import TileState

YEAR = 365 * 86400.0
KEY = TileKey(chip=7, layer="layer", row=1, column=2)
CELLS: dict[str, dict[str, Any]] = {
    "single pair": {},
    "scaled": {
        "device_options": {"prog_noise_scale": 1.5, "read_noise_scale": 0.5, "drift_scale": 0.7, "t_0": 30.0},
        "g_max": 40.0,
    },
    "own programming noise": {"device_options": {"prog_coeff": [0.3, 1.0, -0.5, 0.2]}},
    "leaking": {"g_min": 0.5},
    "dual pair": {"converter": "dual-pair", "converter_options": {"f_lst": [1.0, 3.0]}},
    "three pairs": {"converter": "n-pair", "converter_options": {"f_lst": [0.5, 1.0, 2.0]}, "g_min": 0.2},
    "fitted": {"device": "fitted", "device_options": PCM.model_dump(), "g_max": 20.0},
}


def target(columns: int, rows: int, seed: int = 0) -> Tensor:
    weight = torch.randn(columns, rows, generator=torch.Generator().manual_seed(seed))
    return weight / weight.abs().amax(dim=1, keepdim=True)


def in_order_of_aihwkit(cells: PcmCells, shape: tuple[int, int], seconds: float) -> Iterator[Tensor]:
    """The normals of a tile in the order in which aihwkit draws them: programming and drift by device, then reads."""

    def draw(*purpose: object) -> Tensor:
        return cell_normals(KEY.seed(*purpose), *shape, torch.device("cpu")).double()

    signs = [("+", ""), ("-", "-" if cells.pairs.g_min else "")]
    pairs = range(len(cells.pairs.significance))
    for pair in pairs:
        for sign, own in signs:
            yield draw(f"program {sign}", pair)
            yield draw(f"drift{own}", pair)
    for pair in pairs:
        for _, own in signs:
            yield draw(f"read{own}", pair, seconds, 3)


@pytest.mark.parametrize("seconds", [0.0, 3600.0, YEAR])
@pytest.mark.parametrize("cell", CELLS)
def test_equal_to_aihwkit_given_the_same_normals(cell: str, seconds: float) -> None:
    hardware = HardwareConfig(**CELLS[cell])
    cells, model = cell_model(hardware), noise_model(hardware)
    assert isinstance(cells, PcmCells)
    weight = target(60, 51).double()
    tile = cells.program(KEY, weight)
    normals = in_order_of_aihwkit(cells, (60, 51), seconds)
    with mock.patch.multiple(
        f"{type(model).__module__}", **{"torch" if cell == "fitted" else "randn_like": _Patched(normals, cell)}
    ):
        programmed, drift_parameters = model.apply_programming_noise(weight)
        read = model.apply_drift_noise(programmed, drift_parameters, seconds)
    assert torch.allclose(tile.weight, programmed, rtol=0, atol=1e-6)
    assert torch.allclose(tile.read(seconds, 3), read, rtol=0, atol=1e-6)
    assert next(normals, None) is None, "aihwkit draws exactly these"


class _Patched:
    """`randn_like`, or the module torch with another `randn_like`."""

    def __init__(self, normals: Iterator[Tensor], cell: str) -> None:
        self.normals = normals

    def __call__(self, like: Tensor) -> Tensor:
        return next(self.normals)

    def randn_like(self, like: Tensor) -> Tensor:
        return next(self.normals)

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


def chip_states(seconds: float, tile_rows: int, **changes: Any) -> tuple[TileState, TileState]:
    """States of a layer on the same chip, computed by loops and by torch."""
    states = []
    for kernels in ("auto", "torch"):
        hardware = HardwareConfig(**{**changes, "kernels": kernels, "tile_rows": tile_rows, "tile_columns": 40})
        layer = AnalogLinear(target(90, 1 + tile_rows), None, hardware, "layer")
        chip = Chip(5, {"layer": layer}, hardware)
        assert (chip._loops is None) == (kernels == "torch")
        chip.age(seconds)
        assert layer.state is not None
        states.append(layer.state)
    return states[0], states[1]


@pytest.mark.parametrize("rows", [1, 2, 63, 512])
@pytest.mark.parametrize("cell", [cell for cell in CELLS if "g_min" not in CELLS[cell]])
def test_loops_and_torch_compute_the_same_chip(cell: str, rows: int) -> None:
    """How far a chip on a GPU may be from that on a CPU: 1e-6 of the largest weight, and as much in the factor."""
    for compensation in ("global", "per-column", "global-exact", "least-squares", "none"):
        for seconds in (0.0, YEAR):
            ideal = {"adc_bits": 0, "drift_compensation": compensation, **CELLS[cell]}
            fast, slow = chip_states(seconds, rows, **ideal)
            assert torch.allclose(fast.weight, slow.weight, rtol=0, atol=1e-6)
            assert torch.allclose(fast.compensation, slow.compensation, rtol=2e-6, atol=0)


def test_a_last_bit_tips_single_levels_of_a_read_out() -> None:
    fast, slow = chip_states(YEAR, 512)
    assert torch.allclose(fast.compensation[0], slow.compensation[0], rtol=1e-4, atol=0)


def test_loops_are_left_where_they_do_not_know_the_hardware() -> None:
    for changes in ({"g_min": 1.0}, {"stuck_low": 0.1}, {"ir_drop": 1.0}, {"device": "hermes"}, {"kernels": "torch"}):
        hardware = HardwareConfig(**changes)  # type: ignore[arg-type]
        chip = Chip(0, {}, hardware)
        assert ChipLoops.of(hardware, chip._cells, chip._compensation) is None


def test_any_tile_is_computed_alone() -> None:
    """Two layers of which one holds a part of the other's tiles: what a tile holds depends on no other."""
    hardware = HardwareConfig(tile_rows=40, tile_columns=30)
    weight = target(90, 120)
    whole, part = (AnalogLinear(one, None, hardware, "layer") for one in (weight, weight[:30, :40].contiguous()))
    for layer in (whole, part):
        Chip(3, {"layer": layer}, hardware).age(YEAR)
    assert whole.state is not None and part.state is not None
    assert torch.equal(whole.state.weight[:30, :40], part.state.weight)
    assert torch.equal(whole.state.compensation[0, :30], part.state.compensation[0])


def test_nothing_of_a_chip_is_kept() -> None:
    hardware = HardwareConfig()
    layer = AnalogLinear(target(64, 64), None, hardware, "layer")
    chip = Chip(3, {"layer": layer}, hardware)
    chip.age(0.0)
    chip.release()
    kept = [value for value in vars(chip).values() if isinstance(value, Tensor)]
    assert not kept and set(vars(chip)) == {"seed", "layers", "hardware", "_cells", "_compensation", "_loops"}
    assert not [value for value in vars(chip._cells).values() if isinstance(value, Tensor)]


class TestDistribution:
    """A million devices for each conductance, against a million of aihwkit's."""

    COUNT = 1_000_000

    def both(self, value: float, seconds: float, **options: Any) -> tuple[np.ndarray, np.ndarray]:
        """What cells with a target weight hold, ours and aihwkit's, in tile units."""
        hardware = HardwareConfig(drift_compensation="none", device_options=options, tile_rows=0, tile_columns=0)
        weight = torch.full((1000, 1001), value)
        weight[:, 0] = 1.0
        layer = AnalogLinear(weight, None, hardware, "layer")
        Chip(2, {"layer": layer}, hardware).age(seconds)
        assert layer.state is not None
        model = noise_model(hardware)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            theirs = model.apply_drift_noise(*model.apply_programming_noise(weight), seconds)
        return layer.state.weight[:, 1:].numpy().ravel(), theirs[:, 1:].numpy().ravel()

    @pytest.mark.parametrize("value", [0.0, 0.01, 0.1, -0.4, 1.0])
    def test_programming(self, value: float) -> None:
        ours, theirs = self.both(value, 0.0, read_noise_scale=0.0)
        assert stats.ks_2samp(ours, theirs).pvalue > 1e-3

    @pytest.mark.parametrize("value", [0.01, 0.1, -0.4, 1.0])
    def test_drift(self, value: float) -> None:
        ours, theirs = self.both(value, YEAR, read_noise_scale=0.0, prog_noise_scale=0.0)
        assert stats.ks_2samp(ours, theirs).pvalue > 1e-3

    @pytest.mark.parametrize("seconds", [0.0, 3600.0, 10 * YEAR])
    def test_read_noise(self, seconds: float) -> None:
        ours, theirs = self.both(0.2, seconds, prog_noise_scale=0.0, drift_scale=0.0)
        assert stats.ks_2samp(ours, theirs).pvalue > 1e-3

    def test_all_together(self) -> None:
        ours, theirs = self.both(0.3, YEAR)
        assert stats.ks_2samp(ours, theirs).pvalue > 1e-3
