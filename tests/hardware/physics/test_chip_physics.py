"""Devices of a chip against the published formulas of PCM.

The formulas (Nandakumar et al., ICECS 2019, as in aihwkit), with g = G / 25 uS, are written out here once more; nothing
below calls aihwkit's noise models. All seeds are fixed, so a test that passes once passes always; the limits are those
that chance would break less than once in a thousand seeds.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.hardware.physics.chip import Chip
from analog_lora_cli.hardware.tile.analog_linear import AnalogLinear
from tests.hardware.physics.test_chip import QUIET_READS, YEAR

G_MAX = 25.0


def devices_at(
    values: list[float], count: int, seconds: list[float], read: int = 0, **options: Any
) -> list[np.ndarray]:
    """What `count` devices with each of some target weights hold at some times, in tile units.

    Args:
        values: targets in [-1, 1].
        count: devices of each, a multiple of 400.
        seconds: the times.
        options: `device_options`; with `g_max` the largest conductance.

    Returns:
        for each time (values, count).
    """
    g_max = options.pop("g_max", None)
    each = count // 400
    # The first input holds each column's largest weight, so that tile units are the layer's units.
    weight = torch.cat([torch.ones(400, 1), *(torch.full((400, each), value) for value in values)], dim=1)
    hardware = HardwareConfig(
        tile_rows=0, tile_columns=0, device_options=options, drift_compensation="none", g_max=g_max
    )
    layer = AnalogLinear(weight, None, hardware, "layer")
    chip = Chip(11, {"layer": layer}, hardware)
    held = []
    for time in seconds:
        chip.age(time, read)
        assert layer.state is not None
        held.append(layer.state.weight[:, 1:].double().numpy().reshape(400, len(values), each))
    return [array.transpose(1, 0, 2).reshape(len(values), count) for array in held]


def sigma_programming(g: float) -> float:
    """In uS, for a largest conductance of 25 uS."""
    return 0.26348 + 1.9650 * g - 1.1731 * g * g


def close(sample: np.ndarray, mean: float, deviation: float, kurtosis: float = 3.0) -> None:
    """Mean and standard deviation of independent draws, within four standard errors."""
    assert abs(sample.mean() - mean) < 4 * deviation / math.sqrt(sample.size)
    error = math.sqrt((kurtosis - 1) / sample.size) / 2
    assert abs(sample.std() / deviation - 1) < 4 * error


def folded(mean: float, deviation: float) -> tuple[float, float]:
    """Mean and deviation of |mean + deviation xi|."""
    ratio = mean / deviation
    expected = deviation * math.sqrt(2 / math.pi) * math.exp(-(ratio**2) / 2) + mean * math.erf(ratio / math.sqrt(2))
    return expected, math.sqrt(mean**2 + deviation**2 - expected**2)


def exponent_moments(g: float) -> tuple[float, float]:
    """Mean and deviation of a device's drift exponent, before the magnitude is taken."""
    mean = min(max(-0.0155 * math.log(g) + 0.0244, 0.049), 0.1)
    return mean, min(max(-0.0125 * math.log(g) - 0.0059, 0.008), 0.045)


def sigma_read(g: float, seconds: float) -> float:
    """Relative to the drifted conductance."""
    return min(0.0088 / g**0.65, 0.2) * math.sqrt(math.log((seconds + 20 + 250e-9) / (2 * 250e-9)))


class TestPhysics:
    """Many devices at given conductances."""

    def test_programming(self) -> None:
        """A weight g > 0 has G+ at g and G- at 0, whose noise cannot go below 0: a half-normal is taken away."""
        values = [0.2, 0.5, 0.9, -0.5]
        (held,) = devices_at(values, 40_000, [0.0], **QUIET_READS)
        at_zero = sigma_programming(0)
        for value, sample in zip(values, held, strict=True):
            sigma = math.hypot(sigma_programming(abs(value)), at_zero * math.sqrt(0.5 - 0.5 / math.pi))
            close(sample * G_MAX * np.sign(value), abs(value) * G_MAX - at_zero / math.sqrt(2 * math.pi), sigma, 3.2)
        rng = np.random.default_rng(0)
        plus = np.maximum(0.5 * G_MAX + sigma_programming(0.5) * rng.standard_normal(40_000), 0)
        minus = np.maximum(at_zero * rng.standard_normal(40_000), 0)
        assert stats.ks_2samp(held[1] * G_MAX, plus - minus).pvalue > 1e-3
        assert stats.ks_2samp(held[1], -held[3]).pvalue > 1e-3

    def test_programming_of_a_zero(self) -> None:
        """Both devices at 0: the difference of two half-normals with an atom at 0."""
        (held,) = devices_at([0.0], 40_000, [0.0], **QUIET_READS)
        sample = held[0] * G_MAX
        sigma = sigma_programming(0)
        assert abs(np.mean(sample == 0) - 0.25) < 4 * math.sqrt(0.25 * 0.75 / 40_000)
        close(sample, 0.0, sigma * math.sqrt(1 - 1 / math.pi), 4.0)

    def test_programming_scales_with_the_largest_conductance(self) -> None:
        """The polynomial belongs to 25 uS; relative to the range, another range has the same noise."""
        (wide,) = devices_at([0.5], 20_000, [0.0], g_max=50.0, **QUIET_READS)
        (usual,) = devices_at([0.5], 20_000, [0.0], **QUIET_READS)
        assert np.allclose(wide, usual, atol=1e-5)
        (half,) = devices_at([0.5], 20_000, [0.0], prog_noise_scale=0.5, **QUIET_READS)
        assert np.allclose(half[0] - half[0].mean(), (usual[0] - usual[0].mean()) / 2, atol=0.02)

    @pytest.mark.parametrize("value", [0.005, 0.05, 0.15, 0.4, -0.4, 1.0])
    def test_drift(self, value: float) -> None:
        """G(t) = G ((t + 20) / 20)^-nu with one exponent a device at all times, normal with the formulas' moments."""
        count = 20_000
        start, hour, year = devices_at([value], count, [0.0, 3600.0, YEAR], prog_noise_scale=0.0, **QUIET_READS)
        assert np.allclose(start, value, rtol=1e-5)
        exponent = -np.log(year[0] / value) / math.log((YEAR + 20) / 20)
        early = -np.log(hour[0] / value) / math.log(3620 / 20)
        assert np.allclose(early, exponent, atol=2e-6)
        mean, deviation = exponent_moments(abs(value))
        expected_mean, expected_deviation = folded(mean, deviation)
        close(exponent, expected_mean, expected_deviation)
        folded_normal = stats.foldnorm(mean / deviation, scale=deviation)
        assert stats.kstest(exponent, folded_normal.cdf).pvalue > 1e-3

    @pytest.mark.parametrize("seconds", [0.0, 3600.0, YEAR])
    def test_read_noise(self, seconds: float) -> None:
        quiet = {"prog_noise_scale": 0.0, "drift_scale": 0.0}
        for value in (0.1, 0.3, 1.0):
            (held,) = devices_at([value], 20_000, [seconds], **quiet)
            close(held[0] / value, 1.0, sigma_read(value, seconds))
            assert stats.kstest((held[0] / value - 1) / sigma_read(value, seconds), "norm").pvalue > 1e-3
        # So small a conductance has the limit Q = 0.2 and often reaches 0.
        (held,) = devices_at([0.005], 20_000, [seconds], **quiet)
        sigma = sigma_read(0.005, seconds)
        assert sigma == pytest.approx(0.2 * math.sqrt(math.log((seconds + 20) / 5e-7)), rel=1e-6)
        assert (held[0] >= 0).all()
        at_zero = stats.norm.cdf(-1 / sigma)
        assert abs(np.mean(held[0] == 0) - at_zero) < 4 * math.sqrt(at_zero / 20_000)
        assert np.mean(held[0] / 0.005) == pytest.approx(1 - at_zero + sigma * stats.norm.pdf(1 / sigma), rel=0.02)

    def test_reads_differ_and_exponents_stay(self) -> None:
        values = [0.3]
        quiet = {"prog_noise_scale": 0.0}
        first, second = (devices_at(values, 20_000, [0.0, YEAR], read=read, **quiet) for read in (0, 1))
        noise = [first[0][0], second[0][0], first[1][0], second[1][0]]
        independent = 4 / math.sqrt(20_000)
        assert abs(np.corrcoef(noise[0], noise[1])[0, 1]) < independent
        assert abs(np.corrcoef(noise[0], noise[2])[0, 1]) < independent
        # After a year the exponents' spread, the same in both reads, shows besides the read noise.
        spread = exponent_moments(0.3)[1] * math.log((YEAR + 20) / 20)
        variance = math.exp(spread**2) - 1
        read_variance = sigma_read(0.3, YEAR) ** 2
        expected = variance / (variance + read_variance * (1 + variance))
        assert np.corrcoef(noise[2], noise[3])[0, 1] == pytest.approx(expected, abs=0.03)

    def test_everything_together(self) -> None:
        """Programmed, drifted and read after a year, against the same steps in numpy.

        aihwkit takes the conductances after programming from the weights again, so the difference G+ - G- drifts as
        one device, and g in the read noise is relative to the tile's largest programmed weight.
        """
        value, count = 0.4, 40_000
        (programmed,) = devices_at([value, 0.999], count, [0.0], **QUIET_READS)
        held = devices_at([value, 0.999], count, [YEAR])[0][0]
        largest = np.abs(programmed).max()
        rng = np.random.default_rng(0)
        draw = rng.standard_normal
        plus = np.maximum(value * G_MAX + sigma_programming(value) * draw(count), 0)
        weight = (plus - np.maximum(sigma_programming(0) * draw(count), 0)) / G_MAX
        mean, deviation = exponent_moments(value)
        drifted = weight * ((YEAR + 20) / 20) ** -np.abs(mean + deviation * draw(count))
        relative = np.array([sigma_read(g, YEAR) for g in weight / largest])
        expected = drifted * np.maximum(1 + relative * draw(count), 0)
        assert stats.ks_2samp(held, expected).pvalue > 1e-3
        assert held.mean() == pytest.approx(expected.mean(), rel=0.005)
        assert held.std() == pytest.approx(expected.std(), rel=0.02)

    def test_t_0_can_be_set(self) -> None:
        _, late = devices_at([0.4], 400, [0.0, 1000.0], prog_noise_scale=0.0, t_0=1000.0, **QUIET_READS)
        _, usual = devices_at([0.4], 400, [0.0, 20.0], prog_noise_scale=0.0, **QUIET_READS)
        assert np.allclose(late, usual, rtol=1e-5)
