"""The pooled normals: distribution, independence where a simulation could notice, and reproducibility."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.hardware.kernels.random import RUN, PooledNormal
from analog_lora_cli.hardware.tile.training_noise import TrainingNoise

CPU = torch.device("cpu")
COUNT = 1 << 22


@pytest.fixture(scope="module")
def numbers() -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return PooledNormal(1, CPU).draw(COUNT).double().numpy()  # type: ignore[no-any-return]


def test_distribution(numbers: np.ndarray[tuple[int], np.dtype[np.float64]]) -> None:
    """Kolmogorov-Smirnov at four million numbers sees deviations of 8e-4; moments at five standard errors."""
    assert stats.kstest(numbers[: 1 << 21], "norm").pvalue > 1e-3
    error = COUNT**-0.5
    assert abs(numbers.mean()) < 5 * error
    assert abs(numbers.var() - 1) < 5 * error * 2**0.5
    assert abs(stats.skew(numbers)) < 5 * error * 6**0.5
    assert abs(stats.kurtosis(numbers)) < 5 * error * 24**0.5 + 0.005
    beyond = (np.abs(numbers) > 4).mean()
    assert beyond == pytest.approx(2 * stats.norm.sf(4), rel=0.5)


def test_numbers_of_a_run_are_uncorrelated(numbers: np.ndarray[tuple[int], np.dtype[np.float64]]) -> None:
    runs = numbers.reshape(-1, RUN)
    off = ~np.eye(RUN, dtype=bool)
    assert np.abs(np.corrcoef(runs.T)[off]).max() < 5 / len(runs) ** 0.5
    assert np.abs(np.corrcoef((runs**2).T)[off]).max() < 5 / len(runs) ** 0.5 + 0.02


@pytest.mark.parametrize("lag", [1, 2, 63, RUN, RUN + 1, 2 * RUN, 768, 10 * RUN])
def test_neighbours_are_uncorrelated(lag: int, numbers: np.ndarray[tuple[int], np.dtype[np.float64]]) -> None:
    """Between the outputs of a token, and between those of tokens that follow each other."""
    for values in (numbers, numbers**2):
        assert abs(np.corrcoef(values[:-lag], values[lag:])[0, 1]) < 5 / COUNT**0.5


def test_layers_steps_passes_and_ranks_are_uncorrelated() -> None:
    draws = []
    for rank in range(2):
        noise = TrainingNoise(3, rank)
        for step in range(3):
            noise.begin_step(step)
            for _ in range(2):
                noise.begin_forward()
                layers = [noise.of_layer(f"layer.{index}", HardwareConfig(), training=True) for index in range(4)]
                draws.extend(PooledNormal(layer.output_seed, CPU).draw(100_000).double() for layer in layers)
    correlation = torch.corrcoef(torch.stack(draws)) - torch.eye(len(draws), dtype=torch.float64)
    assert correlation.abs().max() < 5.5 * 100_000**-0.5


def test_runs_are_not_reused() -> None:
    runs = PooledNormal(4, CPU).draw(200_000, RUN)
    assert len({row.tobytes() for row in runs.numpy()}) >= 200_000 - 400  # 150 pairs expected of 2e10, one in 2^27.


def test_repeatable_with_any_number_of_threads() -> None:
    expected = PooledNormal(5, CPU).draw(100, 1000)
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 4):
            torch.set_num_threads(count)
            assert torch.equal(PooledNormal(5, CPU).draw(100, 1000), expected)
    finally:
        torch.set_num_threads(threads)
    assert not torch.equal(PooledNormal(6, CPU).draw(100, 1000), expected)


def test_a_second_draw_goes_on() -> None:
    source = PooledNormal(5, CPU)
    assert not torch.equal(source.draw(64), source.draw(64))


@pytest.mark.parametrize("shape", [(1,), (3, 5), (0, 7), (64,), (65,), (2, 3, 129)])
def test_any_shape_and_type(shape: tuple[int, ...]) -> None:
    single, double = (PooledNormal(7, CPU).draw(*shape, dtype=dtype) for dtype in (torch.float32, torch.float64))
    assert single.shape == double.shape == shape
    assert (single.dtype, double.dtype) == (torch.float32, torch.float64)
    assert torch.allclose(single.double(), double, atol=1e-6)


def test_without_a_seed_torchs_generator_decides() -> None:
    torch.manual_seed(1)
    first, second = PooledNormal(None, CPU).draw(10), PooledNormal(None, CPU).draw(10)
    torch.manual_seed(1)
    assert torch.equal(PooledNormal(None, CPU).draw(10), first)
    assert not torch.equal(first, second)


@pytest.mark.gpu
def test_on_a_gpu() -> None:
    cuda = torch.device("cuda")
    values = PooledNormal(1, cuda).draw(1 << 20)
    assert torch.equal(values, PooledNormal(1, cuda).draw(1 << 20))
    assert stats.kstest(values.cpu().numpy(), "norm").pvalue > 1e-3
