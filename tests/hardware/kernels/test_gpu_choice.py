"""`hardware.kernels: triton`: where it is accepted, and that the compiler takes the kernels."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.errors import ConfigError
from analog_lora_cli.hardware.kernels import choice
from analog_lora_cli.hardware.kernels.choice import kernels_in_use, require_kernels, uses_triton

TRITON, AUTO = HardwareConfig(kernels="triton"), HardwareConfig()
CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@contextmanager
def forgotten() -> Iterator[None]:
    """Look for triton anew."""
    choice.triton_load_error.cache_clear()
    yield
    choice.triton_load_error.cache_clear()


def test_without_triton() -> None:
    with patch.dict(sys.modules, {"analog_lora_cli.hardware.kernels.gpu.blocks": None}), forgotten():
        require_kernels(AUTO)
        assert not uses_triton(TRITON, CUDA)
        with pytest.raises(ConfigError, match=r"hardware\.kernels: triton cannot be used here .*CUDA\); use auto"):
            require_kernels(TRITON)


def test_without_a_gpu() -> None:
    blocks = pytest.importorskip("analog_lora_cli.hardware.kernels.gpu.blocks")
    with patch.object(blocks, "INTERPRETED", False), patch.object(torch.cuda, "is_available", bool), forgotten():
        with pytest.raises(ConfigError, match=r"hardware\.kernels: triton .*no CUDA device.*TRITON_INTERPRET=1"):
            require_kernels(TRITON)
        assert not uses_triton(TRITON, CUDA)


def test_on_which_devices_they_run() -> None:
    """On a GPU for its tensors, in the interpreter for a CPU's; `auto` never takes them."""
    blocks = pytest.importorskip("analog_lora_cli.hardware.kernels.gpu.blocks")
    for interpreted, device, other in ((True, CPU, CUDA), (False, CUDA, CPU)):
        available = patch.object(torch.cuda, "is_available", lambda found=not interpreted: found)
        with patch.object(blocks, "INTERPRETED", interpreted), available, forgotten():
            require_kernels(TRITON)
            assert uses_triton(TRITON, device) and not uses_triton(TRITON, other)
            assert kernels_in_use(TRITON, device) == "triton" and kernels_in_use(TRITON, other) != "triton"
            assert not uses_triton(AUTO, device) and kernels_in_use(AUTO, device) != "triton"


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("arguments", "kernels"),
    [(["80"], 5), pytest.param(["80", "all"], 7, marks=SLOW), pytest.param(["90", "all"], 7, marks=SLOW)],
)
def test_they_compile_for_a_card(arguments: list[str], kernels: int, tmp_path: Path) -> None:
    """The interpreter does not check types as the compiler does, which needs no GPU."""
    pytest.importorskip("triton.backends.nvidia.compiler")
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "tests.hardware.kernels.gpu_compile", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(f"sm_{arguments[0]}") == kernels
