"""Chips: what they depend on. All seeds are fixed, so a test that passes once passes always."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from analog_lora_cli.config.device_file import PCM
from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.hardware.physics.chip import Chip
from analog_lora_cli.hardware.tile.analog_linear import AnalogLinear

YEAR = 365 * 86400.0
DEVICES: dict[str, dict[str, Any]] = {
    "pcm": {},
    "custom-drift": {
        "device_options": {
            "custom_drift_model": {
                "g_lst": [0.0, 10.0, 25.0],
                "nu_mean_lst": [0.1, 0.06, 0.05],
                "nu_std_lst": [0.02] * 3,
            }
        }
    },
    "hermes": {},
    "reram-cmo": {},
    "reram-wan2022": {},
    "state-independent": {},
    "fitted": {"device_options": PCM.model_dump()},
}
QUIET_READS = {"read_noise_scale": 0.0}


def matrix(rows: int = 40, columns: int = 60, seed: int = 1) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def layers(hardware: HardwareConfig, names: tuple[str, ...] = ("a", "b.dense")) -> dict[str, AnalogLinear]:
    return {name: AnalogLinear(matrix(seed=len(name)), None, hardware, name) for name in names}


def fingerprint(seed: int = 1, seconds: float = 3600.0, read: int = 0, **changes: Any) -> str:
    """Of a chip made anew, at one time only."""
    hardware = HardwareConfig(**{"tile_rows": 32, "tile_columns": 24, **changes})
    chip = Chip(seed, layers(hardware), hardware)
    chip.age(seconds, read)
    return chip.fingerprint()


class TestIdentity:
    """A chip depends on its seed and hardware; what it holds, on the time and the number of the reading too."""

    @pytest.mark.parametrize("device", DEVICES)
    def test_same_seed_after_other_random_draws(self, device: str) -> None:
        changes = {"device": device, **DEVICES[device]}
        first = fingerprint(seconds=86400.0, **changes)
        torch.manual_seed(77)
        torch.randn(13)
        np.random.seed(5)
        assert fingerprint(seconds=86400.0, **changes) == first

    def test_leaves_generator_and_threads_alone(self) -> None:
        torch.manual_seed(5)
        expected = torch.rand(3)
        torch.manual_seed(5)
        torch.set_num_threads(2)
        try:
            fingerprint()
            assert torch.get_num_threads() == 2
        finally:
            torch.set_num_threads(1)
        assert torch.equal(torch.rand(3), expected)

    def test_other_seed_time_read_and_hardware(self) -> None:
        prints = [
            fingerprint(),
            fingerprint(seed=2),
            fingerprint(seconds=3601.0),
            fingerprint(seconds=0.0),
            fingerprint(read=1),
            fingerprint(device_options={"t_0": 25.0}),
            fingerprint(drift_compensation="none"),
            fingerprint(tile_rows=20),
        ]
        assert len(set(prints)) == len(prints)

    def test_order_of_calls(self) -> None:
        hardware = HardwareConfig()
        chip = Chip(1, layers(hardware), hardware)
        times = [0.0, 3600.0, YEAR]
        forwards = []
        for seconds in times:
            chip.age(seconds)
            forwards.append(chip.fingerprint())
        backwards = []
        for seconds in reversed(times):
            chip.age(seconds, read=3)
            chip.release()
            chip.age(seconds)
            backwards.append(chip.fingerprint())
        assert forwards == backwards[::-1]
        alone = []
        for seconds in times:
            chip = Chip(1, layers(hardware), hardware)
            chip.age(seconds)
            alone.append(chip.fingerprint())
        assert alone == forwards

    def test_seconds_as_integer_or_float(self) -> None:
        assert fingerprint(seconds=3600) == fingerprint(seconds=3600.0)

    def test_order_and_company_of_layers(self) -> None:
        hardware = HardwareConfig()
        both, turned = layers(hardware), layers(hardware, ("b.dense", "a"))
        single = layers(hardware, ("b.dense",))
        prints = []
        for chosen in (both, turned, single):
            chip = Chip(1, chosen, hardware)
            chip.age(3600.0)
            prints.append(chip.fingerprint())
        assert prints[0] == prints[1]
        for other in (turned, single):
            assert torch.equal(both["b.dense"].state.weight, other["b.dense"].state.weight)

    def test_layers_and_tiles_with_equal_weights_are_programmed_differently(self) -> None:
        hardware = HardwareConfig(tile_rows=30, tile_columns=20)
        block = matrix(20, 30)
        weight = block.repeat(2, 2)
        chosen = {name: AnalogLinear(weight, None, hardware, name) for name in ("a", "b")}
        Chip(1, chosen, hardware).age(0.0)
        held = [
            layer.state.weight[i : i + 20, j : j + 30] for layer in chosen.values() for i in (0, 20) for j in (0, 30)
        ]
        errors = [(tile - block).flatten() for tile in held]
        correlations = np.corrcoef(torch.stack(errors).numpy()) - np.eye(8)
        assert np.abs(correlations).max() < 5 / math.sqrt(600)

    @pytest.mark.parametrize(
        "compensation", ["none", "global", "per-column", "least-squares", "least-squares-per-column"]
    )
    def test_number_of_threads(self, compensation: str) -> None:
        """Found: torch's powers and sums differ in their last bits with the number of threads."""
        hardware = HardwareConfig(drift_compensation=compensation)
        weight = matrix(300, 400)
        prints = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            try:
                chip = Chip(1, {"a": AnalogLinear(weight, None, hardware, "a")}, hardware)
                chip.age(3600.0)
                prints.append(chip.fingerprint())
            finally:
                torch.set_num_threads(1)
        assert len(set(prints)) == 1

    def test_another_process(self) -> None:
        code = (
            "import torch; torch.manual_seed(9); torch.randn(5)\n"
            "from tests.hardware.physics.test_chip import fingerprint\n"
            "print(fingerprint(), fingerprint(seconds=0.0, seed=4))"
        )
        environment = {**os.environ, "OMP_NUM_THREADS": "2", "PYTHONHASHSEED": "7"}
        environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[3]), *sys.path])
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == [fingerprint(), fingerprint(seconds=0.0, seed=4)]

    def test_release_gives_the_exact_weights_back(self) -> None:
        hardware = HardwareConfig(output_noise=0.0)
        layer = AnalogLinear(matrix(), None, hardware, "a").eval()
        x = matrix(7, 60, seed=3)
        before = layer(x)
        chip = Chip(1, {"a": layer}, hardware)
        assert torch.equal(layer(x), before), "programming alone changes nothing"
        chip.age(0.0)
        assert not torch.equal(layer(x), before)
        chip.release()
        assert torch.equal(layer(x), before)
        assert torch.equal(layer.weight, matrix())
