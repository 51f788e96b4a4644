"""numba as this package uses it: its threads, vectors and cache, and the decorator of a compiled loop.

Threads are those of torch's own OpenMP pool: where torch is loaded first, numba's OpenMP calls are bound to torch's
library, and a second pool would fight it. A process forked after a call must make none.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numba
import torch

_setting = threading.local()
"""`threads`: numba's present number of threads, which it keeps for each calling thread; setting it takes time."""


def _use_torchs_threads() -> None:
    numba.config.THREADING_LAYER = "omp"
    threads = torch.get_num_threads()
    numba.set_num_threads(1)
    torch.set_num_threads(threads)  # numba, starting its threads, sets OpenMP, and so torch, to all processors.


def _use_widest_vectors() -> None:
    """Let loops use all 512 bits where a processor has them; LLVM takes 256, a third slower for the loops of chips."""
    features = llvm.get_host_cpu_features()
    if numba.config.CPU_FEATURES is None and features.get("avx512f"):
        numba.config.CPU_FEATURES = f"{features.flatten()},-prefer-256-bit"


def _cache_by_content() -> None:
    """Keep compiled loops in a folder of their own for each state of this package's loops and each release of numba.

    numba itself compiles a loop again when its own file changes, and not when a file that it is compiled from does. Of
    two environments with one source, each would replace what the other has compiled.
    """
    if not numba.config.CACHE_DIR:
        folder, digest = Path(__file__).parent, hashlib.sha256(numba.__version__.encode())
        for path in sorted(folder.glob("*.py")):
            digest.update(path.read_bytes())
        # Where it cannot be written, numba takes a folder in the user's home.
        numba.config.CACHE_DIR = str(folder / "__pycache__" / digest.hexdigest()[:16])


_use_torchs_threads()
_use_widest_vectors()
_cache_by_content()


def kernel(signature: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator that compiles a loop for one signature and caches it on disk for the next process where possible."""

    def compile_function(function: Callable[..., Any]) -> Callable[..., Any]:
        options = {"parallel": True, "nogil": True, "error_model": "numpy"}
        try:
            kernel = numba.njit(signature, cache=True, **options)(function)
        except (RuntimeError, OSError):  # Neither the package's folder nor the home folder can be written.
            kernel = numba.njit(signature, **options)(function)

        def call(*arguments: object) -> Any:
            threads = torch.get_num_threads()
            if getattr(_setting, "threads", None) != threads:
                numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
                _setting.threads = threads
            return kernel(*arguments)

        return call

    return compile_function
