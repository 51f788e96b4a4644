"""Chips: what they depend on, and their devices' statistics against the published formulas of PCM.

The formulas (Nandakumar et al., ICECS 2019, as in aihwkit), with g = G / 25 uS, are written out here once more; nothing
below calls aihwkit's noise models but for `test_compensation_as_in_aihwkit`. All seeds are fixed, so a test that passes
once passes always; the limits are those that chance would break less than once in a thousand seeds.
"""

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
from scipy import stats

from analog_lora_cli.config.device_file import PCM
from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.hardware.physics.chip import Chip
from analog_lora_cli.hardware.tile.analog_linear import AnalogLinear

YEAR = 365 * 86400.0
G_MAX = 25.0
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


def compensated(compensation: str, seconds: float, seed: int = 3, **changes: Any) -> tuple[AnalogLinear, Chip]:
    hardware = HardwareConfig(
        **{"drift_compensation": compensation, "tile_rows": 100, "tile_columns": 50, "output_noise": 0.0, **changes}
    )
    layer = AnalogLinear(matrix(100, 200), None, hardware, "a").eval()
    chip = Chip(seed, {"a": layer}, hardware)
    chip.age(seconds)
    return layer, chip


class TestCompensation:
    """The drift-compensation factor."""

    @pytest.mark.parametrize("compensation", ["none", "global", "global-exact", "per-column"])
    def test_factors_from_the_weights(self, compensation: str) -> None:
        """Without read noise and converters the factor is a ratio of mean magnitudes, in each tile."""
        ideal = {"adc_bits": 0, "adc_bound": 0.0, "device_options": QUIET_READS}
        fresh, _ = compensated(compensation, 0.0, **ideal)
        aged, _ = compensated(compensation, YEAR, **ideal)
        assert fresh.state is not None and aged.state is not None
        for row, (start, stop) in enumerate(aged.grid.rows):
            for first, last in aged.grid.columns:
                scale = aged.column_scale[row, first:last, None]
                target, programmed, drifted = (
                    (weight[first:last, start:stop] / scale).double().abs()
                    for weight in (aged.weight, fresh.state.weight, aged.state.weight)
                )
                factor = {
                    "none": torch.ones(50).double(),
                    "global": (programmed.mean() / drifted.mean()).expand(50),
                    "global-exact": (target.mean() / drifted.mean()).expand(50),
                    "per-column": programmed.mean(dim=1) / drifted.mean(dim=1),
                }[compensation]
                assert torch.allclose(aged.state.compensation[row, first:last].double(), factor, rtol=1e-5)
                assert compensation == "none" or (factor > 1.5).all()

    @pytest.mark.parametrize("compensation", ["global", "global-exact", "per-column"])
    def test_restores_the_magnitude_of_outputs(self, compensation: str) -> None:
        """With converters and read noise; uncompensated, outputs fall to little over a half within a year."""
        x = matrix(200, 200, seed=8)
        exact = (x @ matrix(100, 200).T).abs().mean()
        for seconds in (0.0, 86400.0, YEAR):
            layer, _ = compensated(compensation, seconds, output_noise=0.04)
            plain, _ = compensated("none", seconds, output_noise=0.04)
            with torch.no_grad():
                restored = float(layer(x).abs().mean() / exact)
                fallen = float(plain(x).abs().mean() / exact)
            assert 0.95 < restored < 1.05
            assert fallen < {0.0: 1.02, 86400.0: 0.75, YEAR: 0.6}[seconds]

    def test_per_column_corrects_each_column(self) -> None:
        """A column of small weights drifts faster than its neighbours, which one factor a tile cannot correct.

        Without programming noise: it changes a column's magnitude before the first read-out, out of reach.
        """
        weight = torch.full((2, 401), 0.05)
        weight[1] = 1.0
        weight[:, 0] = 1.0
        ratios = {}
        for compensation in ("global", "per-column"):
            hardware = HardwareConfig(
                drift_compensation=compensation,  # type: ignore[arg-type]
                output_noise=0.0,
                adc_bits=0,
                adc_bound=0.0,
                device_options={"prog_noise_scale": 0.0},
            )
            layer = AnalogLinear(weight, None, hardware, "a")
            Chip(3, {"a": layer}, hardware).age(YEAR)
            assert layer.state is not None
            magnitude = (layer.state.weight * layer.state.compensation.T).abs().sum(dim=1) / weight.sum(dim=1)
            ratios[compensation] = float(magnitude[0] / magnitude[1])
        assert ratios["global"] < 0.9
        assert ratios["per-column"] == pytest.approx(1.0, abs=0.1)

    def test_dead_columns_get_a_finite_factor(self) -> None:
        weight = matrix(6, 20)
        weight[2] = 0
        hardware = HardwareConfig(
            drift_compensation="per-column", output_noise=0.0, device_options={"prog_coeff": [0.0]}
        )
        for zeros in (weight, torch.zeros(6, 20)):
            layer = AnalogLinear(zeros, None, hardware, "a").eval()
            Chip(3, {"a": layer}, hardware).age(YEAR)
            y = layer(matrix(5, 20, seed=2))
            assert torch.isfinite(y).all()
            assert (y[:, 2] == 0).all()

    @pytest.mark.parametrize("compensation", ["global", "global-exact", "per-column"])
    def test_compensation_as_in_aihwkit(self, compensation: str) -> None:
        """Thirty chips here and thirty of aihwkit's own layer: same factors, same weights, as distributions."""
        from aihwkit.inference.compensation import drift as compensations
        from aihwkit.inference.noise.pcm import PCMLikeNoiseModel
        from aihwkit.nn import AnalogLinear as Layer
        from aihwkit.simulator.configs import TorchInferenceRPUConfig
        from aihwkit.simulator.parameters.enums import BoundManagementType

        weight = matrix(30, 40)
        config = TorchInferenceRPUConfig()
        config.mapping.weight_scaling_omega = 1.0
        config.mapping.weight_scaling_columnwise = True
        config.forward.inp_res = config.forward.out_res = 1 / 254
        config.forward.out_noise = 0.04
        config.forward.out_bound = 12.0
        config.forward.bound_management = BoundManagementType.NONE
        config.noise_model = PCMLikeNoiseModel(g_max=25.0)
        names = {
            "global": "GlobalDriftCompensation",
            "global-exact": "GlobalDriftCompensationWithExactReference",
            "per-column": "PerColumnDriftCompensation",
        }
        config.drift_compensation = getattr(compensations, names[compensation])()
        theirs = Layer(40, 30, bias=False, rpu_config=config)
        theirs.set_weights(weight)
        (tile,) = theirs.analog_tiles()
        torch.manual_seed(0)
        factors: dict[str, list[float]] = {"ours": [], "theirs": []}
        held: dict[str, list[np.ndarray]] = {"ours": [], "theirs": []}
        hardware = HardwareConfig(drift_compensation=compensation)  # type: ignore[arg-type]
        layer = AnalogLinear(weight, None, hardware, "a")
        for seed in range(30):
            Chip(seed, {"a": layer}, hardware).age(YEAR)
            assert layer.state is not None
            factors["ours"] += layer.state.compensation[0, :: 1 if compensation == "per-column" else 30].tolist()
            held["ours"].append((layer.state.weight / layer.column_scale[0, :, None]).numpy())
            tile.program_weights()
            tile.drift_weights(YEAR)
            factors["theirs"] += tile.alpha.reshape(-1).tolist()
            held["theirs"].append(tile.tile.get_weights().numpy())
        assert len(factors["ours"]) == len(factors["theirs"])
        assert stats.ks_2samp(factors["ours"], factors["theirs"]).pvalue > 1e-3
        error = math.hypot(*(np.std(values) / math.sqrt(len(values)) for values in factors.values()))
        assert abs(np.mean(factors["ours"]) - np.mean(factors["theirs"])) < 4 * error
        for column, row in ((0, 0), (3, 17), (29, 39)):
            ours, them = (np.array([sample[column, row] for sample in held[side]]) for side in ("ours", "theirs"))
            assert stats.ks_2samp(ours, them).pvalue > 1e-3
        whole = [np.stack(held[side]).ravel() for side in ("ours", "theirs")]
        assert stats.ks_2samp(*whole).pvalue > 1e-3
