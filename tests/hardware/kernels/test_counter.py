"""Counter-based normals: their distribution, and that loops and torch compute the same ones."""

from __future__ import annotations

import math

import numba
import numpy as np
import pytest
import torch
from scipy import stats

from analog_lora_cli.hardware.kernels.approximations import exp2, log2, mix, normal_pair
from analog_lora_cli.hardware.kernels.counter import cell_normals, normal_pairs, pairs_of_column
from analog_lora_cli.hardware.kernels.random import GAMMA, MIX_1, MIX_2

CPU = torch.device("cpu")
KEY = 2**63 - 12345


def by_hand(key: int, index: int) -> tuple[float, float]:
    """The formula once more, in Python's integers and double precision."""
    bits = (key + index * GAMMA) % 2**64
    for shift, factor in ((30, MIX_1), (27, MIX_2)):
        bits = ((bits ^ (bits >> shift)) * factor) % 2**64
    bits ^= bits >> 31
    u = ((bits >> 33) + 0.5) / 2**31
    v = ((bits & 0xFFFFFFFF) >> 1) / 2**31 - 0.5
    radius = math.sqrt(-2 * math.log(u))
    return radius * math.cos(2 * math.pi * v), radius * math.sin(2 * math.pi * v)


def test_the_formula() -> None:
    one, other = normal_pairs(KEY, (50, 20), CPU)
    for index in (0, 1, 19, 20, 777, 999):
        expected = by_hand(KEY, index)
        computed = float(one.flatten()[index]), float(other.flatten()[index])
        assert computed == pytest.approx(expected, abs=2e-6)


def test_loops_compute_the_same_numbers() -> None:
    @numba.njit(error_model="numpy")  # type: ignore[untyped-decorator]
    def loop(key: np.uint64, gamma: np.uint64, one: np.ndarray, other: np.ndarray) -> None:
        for index in range(len(one)):
            one[index], other[index] = normal_pair(mix(key + np.uint64(index) * gamma))

    numbers = np.empty((2, 1_000_000), dtype=np.float32)
    loop(np.uint64(KEY), np.uint64(GAMMA), numbers[0], numbers[1])
    for ours, torchs in zip(numbers, normal_pairs(KEY, (1_000_000,), CPU), strict=True):
        # Where u is next to 1 the logarithm's last bit is a large part of the radius.
        assert np.abs(ours - torchs.numpy()).max() < 2e-5
        assert np.percentile(np.abs(ours - torchs.numpy()), 99.9) < 1e-6


def test_logarithm_and_exponential() -> None:
    @numba.njit(error_model="numpy")  # type: ignore[untyped-decorator]
    def loop(x: np.ndarray, logarithm: np.ndarray, power: np.ndarray) -> None:
        for index in range(len(x)):
            logarithm[index] = log2(x[index])
            power[index] = exp2(logarithm[index])

    x = np.logspace(-30, 30, 200_001, dtype=np.float32)
    logarithm, power = np.empty_like(x), np.empty_like(x)
    loop(x, logarithm, power)
    exact = np.log2(x.astype(np.float64))
    assert np.abs(logarithm - exact).max() < 6e-6, "half a unit of the last place at 100"
    near = (x > 1e-2) & (x < 1e2)
    assert np.abs(logarithm - exact)[near].max() < 5e-7
    assert np.abs(power / np.exp2(logarithm.astype(np.float64)) - 1).max() < 5e-7


def test_normal_and_independent() -> None:
    one, other = (numbers.numpy() for numbers in normal_pairs(KEY, (1_000_000,), CPU))
    following, _ = (numbers.numpy() for numbers in normal_pairs(KEY + 1, (1_000_000,), CPU))
    limit = 4 / math.sqrt(1_000_000)
    for numbers in (one, other):
        assert stats.kstest(numbers, "norm").pvalue > 1e-3
        assert abs(stats.kurtosis(numbers)) < 4 * math.sqrt(24 / 1_000_000)
        assert abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < limit
    for other_numbers in (other, following):
        assert abs(np.corrcoef(one, other_numbers)[0, 1]) < limit
        assert abs(np.corrcoef(one**2, other_numbers**2)[0, 1]) < limit


@pytest.mark.parametrize("rows", [1, 32, 33, 128, 200])
def test_two_cells_of_a_column_share_a_pair(rows: int) -> None:
    pairs = pairs_of_column(rows)
    assert pairs % 16 == 0 and pairs < rows / 2 + 16
    one, other = normal_pairs(KEY, (3, pairs), CPU)
    numbers = cell_normals(KEY, 3, rows, CPU)
    assert numbers.shape == (3, rows)
    assert torch.equal(numbers[:, :pairs], one[:, :rows]) and torch.equal(
        numbers[:, pairs:], other[:, : max(rows - pairs, 0)]
    )
