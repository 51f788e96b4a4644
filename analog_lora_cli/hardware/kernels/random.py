"""Normal random numbers that cost little enough to be drawn for every output of every tile."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

RUN = 64
"""Numbers that are drawn at once."""

RUNS = 1 << 14
"""Runs in the table: 4 MiB, which stay in a processor's cache."""

GAMMA, MIX_1, MIX_2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
"""SplitMix64's step of the counter and multipliers."""


class PooledNormal:
    """Independent standard normal numbers on one device, reproducible from a seed.

    On a GPU they are torch's. On a CPU a library normal costs as much as an output of a matrix product, so there each
    run of 64 numbers is the sum of two runs of a table of 2^14 (see `run_table`), whose entries have variance 1/2.
    SplitMix64 (Steele, Lea and Flood, OOPSLA 2014)
    of the seed and the run's number says which two, so that any
    run can be drawn alone, by any thread. Its quality, which tests check:

    * distribution: normal quantiles, and sums of two of them; the distribution function is right to about 1e-4;
    * within a run: uncorrelated exactly, because the table's columns are orthogonal; squares correlate by 0.01 at most;
    * between runs, and so between tokens, layers and steps: uncorrelated, because each run is in the table with both
      signs. Two runs have a run of the table in common once in 2^11 times, and are the same once in 2^27 times.

    The numbers do not depend on the number of threads. Each line of the last dimension begins a run.

    Args:
        seed: 0 .. 2^63 - 1; None takes one from torch's default CPU generator, so that `torch.manual_seed` decides.
        device: device of the numbers.
        anywhere: give the numbers of a CPU on a GPU too, where they take longer than torch's.
    """

    def __init__(self, seed: int | None, device: torch.device, anywhere: bool = False) -> None:
        if seed is None:
            seed = int(torch.randint(2**62, (), dtype=torch.int64))
        self._device = device
        self._counter = seed
        own = device.type != "cpu" and not anywhere
        self._generator = torch.Generator(device=device).manual_seed(seed) if own else None

    def draw(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """A new tensor of the given shape."""
        if self._generator is not None:
            return torch.randn(*shape, dtype=dtype, device=self._device, generator=self._generator)
        lines, length = math.prod(shape[:-1]), shape[-1]
        counter = self.reserve(lines, length)
        runs = runs_in(length)
        bits = _mix(np.uint64(counter) + np.arange(lines * runs, dtype=np.uint64) * np.uint64(GAMMA))
        pairs = np.stack([bits, bits >> np.uint64(32)], axis=1) & np.uint64(RUNS - 1)
        # A sum of two rows of the table: what an embedding bag of two computes in one pass.
        indices = torch.from_numpy(pairs.astype(np.int32)).to(self._device)
        numbers = torch.nn.functional.embedding_bag(indices, run_table(dtype).to(self._device), mode="sum")
        return numbers.view(lines, runs * RUN)[:, :length].reshape(shape)

    def reserve(self, lines: int, length: int) -> int:
        """Reserve the runs of a matrix without drawing them; not for torch's own numbers on a GPU.

        Returns:
            the counter of the first run, 0 .. 2^64 - 1. Run `k`, counted along the lines, has `counter + k * GAMMA`.
        """
        counter = self._counter
        self._counter = (counter + lines * runs_in(length) * GAMMA) % 2**64
        return counter


def runs_in(length: int) -> int:
    """Runs that a line of numbers takes."""
    return -(-length // RUN)


def _mix(counters: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finalizer: (runs,) counters to (runs,) hashes."""
    counters = (counters ^ (counters >> np.uint64(30))) * np.uint64(MIX_1)
    counters = (counters ^ (counters >> np.uint64(27))) * np.uint64(MIX_2)
    return counters ^ (counters >> np.uint64(31))


@lru_cache(maxsize=4)
def run_table(dtype: torch.dtype) -> Tensor:
    """(RUNS, RUN): runs of normal numbers with variance 1/2, each of them also with the other sign.

    Each column holds the normal quantiles in the middle of 2^14 equally likely intervals in an order of its own; then
    the columns are made orthogonal (Cholesky whitening), which moves them by about a percent.
    """
    half = RUNS // 2
    generator = np.random.Generator(np.random.SFC64(20241117))
    quantiles = torch.special.ndtri(0.5 + (torch.arange(half, dtype=torch.float64) + 0.5) / RUNS).numpy()
    columns = [generator.permutation(quantiles) * generator.choice((-1.0, 1.0), half) for _ in range(RUN)]
    runs = torch.from_numpy(np.stack(columns, axis=1))
    with one_thread():
        factor = torch.linalg.cholesky(runs.t() @ runs / half)
        white = torch.linalg.solve_triangular(factor, runs.t(), upper=False).t() / math.sqrt(2.0)
    return torch.cat([white, -white]).to(dtype)


@lru_cache(maxsize=1)
def run_array() -> NDArray[np.float32]:
    """`run_table` in float32, for compiled loops."""
    array: NDArray[np.float32] = run_table(torch.float32).numpy()
    return array


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread: sums and powers cut into pieces for several end in other last bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
