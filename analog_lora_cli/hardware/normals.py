"""Normal random numbers, cheap enough to be drawn for every output of every tile."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

RUN = 64
"""Numbers that are drawn at once."""

RUNS = 1 << 14
"""Runs in the table: 4 MiB, which stay in a processor's cache."""


class Normals:
    """Independent standard normal numbers on one device, reproducible from a seed.

    On a GPU they are torch's. On a CPU a library normal costs as much as an output of a matrix product, so there each
    run of 64 numbers is the sum of two runs that numpy's SFC64 picks from a table of 2^14 (see `_table`). Its entries
    have variance 1/2. What this is worth, and tested for:

    * distribution: normal quantiles, and sums of two of them; the distribution function is right to about 1e-4;
    * within a run: uncorrelated exactly, because the table's columns are orthogonal; squares correlate by 0.01 at most;
    * between runs, and so between tokens, layers and steps: uncorrelated, because each run is in the table with both
      signs. Two runs have a run of the table in common once in 2^11 times, and are the same once in 2^27 times.

    The numbers do not depend on the number of threads.

    Args:
        seed: 0 .. 2^63 - 1; None takes one from torch's default CPU generator, so that `torch.manual_seed` decides.
        device: where the numbers are wanted.
    """

    def __init__(self, seed: int | None, device: torch.device) -> None:
        if seed is None:
            seed = int(torch.randint(2**62, (), dtype=torch.int64))
        self._device = device
        self._bits = np.random.SFC64(seed) if device.type == "cpu" else None
        self._generator = None if device.type == "cpu" else torch.Generator(device=device).manual_seed(seed)

    def draw(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """A new tensor of the given shape."""
        if self._bits is None:
            return torch.randn(*shape, dtype=dtype, device=self._device, generator=self._generator)
        count = math.prod(shape)
        runs = -(-count // RUN)
        # Each word of 64 bits names four runs of the table; int32 because torch does not index with fewer bits.
        words = self._bits.random_raw(-(-runs // 2))
        picked = torch.from_numpy(words.view(np.uint16)[: 2 * runs] & (RUNS - 1)).to(torch.int32).view(runs, 2)
        numbers = torch.nn.functional.embedding_bag(picked, _table(dtype), mode="sum")
        return numbers.view(-1)[:count].view(shape)


@lru_cache(maxsize=4)
def _table(dtype: torch.dtype) -> Tensor:
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


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread: sums and powers cut into pieces for several end in other last bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
