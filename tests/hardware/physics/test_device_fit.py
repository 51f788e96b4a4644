"""Fits of devices: PCM's constants from data that aihwkit's own PCM model simulated."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from aihwkit.inference.noise.pcm import PCMLikeNoiseModel

from analog_lora_cli.config.device_file import PCM, DeviceConstants
from analog_lora_cli.errors import DataError
from analog_lora_cli.hardware.physics.clipped_law import fit_clipped_line
from analog_lora_cli.hardware.physics.device_fit import DeviceFit, fit_device
from analog_lora_cli.hardware.physics.device_laws import (
    flat_constants,
    law_values,
    programming_noise,
    relative_read_noise,
)
from analog_lora_cli.hardware.physics.device_measurements import Measurements
from analog_lora_cli.hardware.physics.fitted_noise import FittedNoiseModel

LEVELS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0, 13.0, 16.0, 20.0, 25.0)
TIMES = (0.0, 60.0, 600.0, 3600.0, 21600.0, 86400.0, 259200.0, 604800.0, 2592000.0, 2592060.0)


def simulate(
    model: PCMLikeNoiseModel | FittedNoiseModel,
    levels: tuple[float, ...] = LEVELS,
    each: int = 200,
    times: tuple[float, ...] = TIMES,
    seed: int = 3,
) -> Measurements:
    target = torch.tensor(levels).repeat_interleave(each)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        programmed = model.apply_programming_noise_to_conductance(target)
        exponent = model.generate_drift_coefficients(target)
        reads = [model.apply_drift_noise_to_conductance(programmed, exponent, time) for time in times]
    measured = torch.stack(reads, dim=1).double().numpy()
    time = np.broadcast_to(np.array(times) + 20.0, measured.shape)
    names = [str(number) for number in range(len(target))]
    return Measurements(names, target.double().numpy(), time, measured, np.ones(measured.shape, dtype=bool), [])


@pytest.fixture(scope="module")
def fit() -> DeviceFit:
    return fit_device(simulate(PCMLikeNoiseModel(g_max=25.0)))


class TestPcm:
    """2,800 devices, 10 reads over a month. Tolerances: about four standard errors of such a fit."""

    def test_programming_noise(self, fit: DeviceFit) -> None:
        g = np.array([0.0, 0.05, 0.2, 0.5, 0.8])
        assert np.allclose(programming_noise(fit.constants, g), programming_noise(PCM, g), rtol=0.15)

    def test_drift(self, fit: DeviceFit) -> None:
        constants = fit.constants
        g = np.array([0.06, 0.1, 0.16, 0.3, 0.5, 1.0])
        assert np.allclose(law_values(constants.drift_mean, g), law_values(PCM.drift_mean, g), rtol=0.1)
        assert np.allclose(law_values(constants.drift_spread, g), law_values(PCM.drift_spread, g), rtol=0.25)
        assert constants.drift_mean.min == pytest.approx(PCM.drift_mean.min, rel=0.04)
        assert constants.drift_spread.min == pytest.approx(PCM.drift_spread.min, rel=0.15)

    def test_read_noise(self, fit: DeviceFit) -> None:
        assert fit.constants.read_noise.factor == pytest.approx(PCM.read_noise.factor, rel=0.04)
        assert fit.constants.read_noise.exponent == pytest.approx(PCM.read_noise.exponent, abs=0.04)
        g = np.array([0.06, 0.2, 1.0])
        assert np.allclose(relative_read_noise(fit.constants, g), relative_read_noise(PCM, g), rtol=0.06)

    def test_intervals_hold_the_constants(self, fit: DeviceFit) -> None:
        known = flat_constants(PCM)
        # What the measured levels do not reach cannot be known: the largest values of the laws.
        reached = [key for key in known if not key.endswith(".max")]
        for key in reached:
            low, high = fit.intervals[key]
            assert low < high
            assert low - (high - low) < known[key] < high + (high - low), key

    def test_laws_are_not_extrapolated(self, fit: DeviceFit) -> None:
        assert fit.drift_mean.g_uS.min() == pytest.approx(1.5)  # Below, reads scatter too much.
        at_limit = law_values(fit.constants.drift_mean, np.array([1.5 / 25]))
        assert law_values(fit.constants.drift_mean, np.array([1e-3])) == pytest.approx(at_limit, rel=0.1)


def test_another_device_is_told_from_pcm() -> None:
    """Twice the drift, three times its spread, up to 60 uS, reads missing here and there."""
    own = DeviceConstants.model_validate(
        PCM.model_dump()
        | {
            "g_max_uS": 60.0,
            "programming_noise_uS": [0.5, 3.0, 0.0],
            "drift_mean": {"slope": 0.0, "intercept": 0.12, "min": 0.12, "max": 0.12},
            "drift_spread": {"slope": 0.0, "intercept": 0.03, "min": 0.03, "max": 0.03},
            "read_noise": {"factor": 0.01, "exponent": 0.0, "max": 0.01},
        }
    )
    data = simulate(FittedNoiseModel(**own.model_dump()), levels=(0.0, 5.0, 10.0, 20.0, 40.0, 60.0))
    dropped = data.read.copy()
    dropped[::2, 3] = dropped[1::3, 5] = False
    data = replace(data, read=dropped, time=np.where(dropped, data.time, 1.0), measured=data.measured * dropped)
    constants = fit_device(data).constants
    g = np.array([0.1, 0.3, 1.0])
    assert constants.g_max_uS == 60.0
    assert np.allclose(programming_noise(constants, g), programming_noise(own, g), rtol=0.25)
    assert np.allclose(law_values(constants.drift_mean, g), 0.12, rtol=0.06)
    assert np.allclose(law_values(constants.drift_spread, g), 0.03, rtol=0.2)
    assert np.allclose(relative_read_noise(constants, g), 0.01, rtol=0.12)


def test_read_noise_is_not_taken_for_a_spread_of_drift() -> None:
    same_drift = PCM.model_dump() | {"drift_spread": {"slope": 0.0, "intercept": 0.0, "min": 0.0, "max": 0.0}}
    data = simulate(FittedNoiseModel(**same_drift), times=(0.0, 60.0, 600.0, 3600.0, 7200.0))
    spread = law_values(fit_device(data).constants.drift_spread, np.array([0.5, 1.0]))
    total = np.std(np.log(data.measured[-200:, -1] / data.measured[-200:, 0]) / np.log(7220 / 20))
    assert (spread < 0.4 * total).all()


def test_levels_that_cannot_be_read_are_an_error() -> None:
    with pytest.raises(DataError, match="only 0 levels have reads that scatter less than 35%"):
        fit_device(simulate(PCMLikeNoiseModel(g_max=25.0), levels=(0.1, 0.2, 0.3, 0.4), each=30))
    data = simulate(PCMLikeNoiseModel(g_max=25.0), each=20)
    with pytest.raises(DataError, match=r"mine.csv: column time_s: the first read \(20 s\) is before"):
        fit_device(data, t_read=100.0, source="mine.csv")


def test_pcm_constants_compute_what_aihwkit_computes() -> None:
    target = torch.linspace(0.0, 25.0, 500)
    results = []
    for model in (PCMLikeNoiseModel(g_max=25.0), FittedNoiseModel(**PCM.model_dump())):
        torch.manual_seed(0)
        programmed = model.apply_programming_noise_to_conductance(target)
        exponent = model.generate_drift_coefficients(target)
        aged = [model.apply_drift_noise_to_conductance(programmed, exponent, time) for time in (0.0, 3600.0, 3e8)]
        results.append([programmed, exponent, *aged])
    for theirs, ours in zip(*results, strict=True):
        assert torch.equal(theirs, ours)


def test_a_clipped_line_is_recovered() -> None:
    x = np.linspace(-4.0, 0.0, 17)
    y = -0.5 * np.clip(x, -3.0, -1.0) + 0.2
    slope, intercept, first, last = fit_clipped_line(x, y, np.ones(17))
    assert (slope, intercept, first, last) == pytest.approx((-0.5, 0.2, -3.0, -1.0), abs=1e-6)
