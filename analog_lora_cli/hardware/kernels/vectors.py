"""Width of the vectors that numba's compiler uses, set when the module is loaded: before anything is compiled."""

from __future__ import annotations

import llvmlite.binding as llvm
import numba


def use_widest_vectors() -> None:
    """Let loops use all 512 bits where a processor has them; LLVM takes 256, a third slower for the loops of chips."""
    features = llvm.get_host_cpu_features()
    if numba.config.CPU_FEATURES is None and features.get("avx512f"):
        numba.config.CPU_FEATURES = f"{features.flatten()},-prefer-256-bit"


use_widest_vectors()
