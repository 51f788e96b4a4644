"""The drift-compensation factors that a chip computes; those of least squares have a file of their own."""

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
from tests.hardware.physics.test_chip import QUIET_READS, YEAR, matrix


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
