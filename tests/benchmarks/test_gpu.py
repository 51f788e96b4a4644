"""The benchmark of a GPU: it says so where there is none, and its dry run goes through everything."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from analog_lora_cli.hardware.kernels.choice import triton_load_error


def run(*options: str, interpreter: bool = False) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "100", "TRITON_INTERPRET": str(int(interpreter))}
    environment["CUDA_VISIBLE_DEVICES"] = ""
    command = [sys.executable, "-m", "tests.benchmarks.gpu", *options]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def test_without_a_card() -> None:
    done = run()
    assert done.returncode == 2 and done.stdout == ""
    assert "error: there is no CUDA device here; --dry-run runs a tiny version on the CPU" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("interpreter", [False, True])
def test_dry_run(interpreter: bool) -> None:
    done, with_triton = run("--dry-run", interpreter=interpreter), interpreter and triton_load_error() is None
    assert done.returncode == 0, done.stderr
    assert "failed" not in done.stderr
    names = ["digital LoRA", "analora", "paper's way"] + ["analora, Triton"] * with_triton
    for row in [f"{name}, {precision}" for name in names for precision in ("fp32", "bf16")]:
        assert f"\n {row} " in done.stdout
    for row in ["analora, CPU", "analora, torch"] + ["analora, Triton"] * with_triton:
        assert f"\n {row} " in done.stdout
