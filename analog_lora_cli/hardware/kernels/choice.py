"""Choice of the implementation of tiles and dropout: `hardware.kernels`, and what this machine can load."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.errors import ConfigError

LEAST_WEIGHTS = 1 << 14
"""Weights of a layer from which `auto` uses compiled loops on a CPU; a smaller one is not worth loading a compiler."""


@cache
def load_error() -> str | None:
    """Reason why `kernels.cpu` cannot be loaded here; None if it can.

    numba's threads need the system's OpenMP library (Debian's libgomp1), which some containers lack.
    """
    try:
        import analog_lora_cli.hardware.kernels.cpu  # noqa: F401
    except (ImportError, ValueError) as error:
        return str(error)
    return None


@cache
def triton_load_error() -> str | None:
    """Reason why `kernels.gpu` cannot be used here; None if it can."""
    try:
        from analog_lora_cli.hardware.kernels.gpu.blocks import INTERPRETED
    except ImportError as error:
        return f"{error}; it comes with torch for CUDA"
    if not INTERPRETED and not torch.cuda.is_available():
        return "there is no CUDA device, and TRITON_INTERPRET=1 is not set"
    return None


def require_kernels(hardware: HardwareConfig) -> None:
    """Check that what `hardware.kernels` asks for can be used here.

    Raises:
        ConfigError: `numba` or `triton` is asked for and cannot be used.
    """
    if hardware.kernels == "numba" and load_error() is not None:
        raise ConfigError(
            [f"hardware.kernels: numba cannot be loaded here ({load_error()}); use auto or torch, or install libgomp1"]
        )
    if hardware.kernels == "triton" and triton_load_error() is not None:
        raise ConfigError([f"hardware.kernels: triton cannot be used here ({triton_load_error()}); use auto or torch"])


def compiled(hardware: HardwareConfig) -> bool:
    """Whether compiled loops are allowed and can be loaded."""
    return hardware.kernels != "torch" and load_error() is None


def uses_triton(hardware: HardwareConfig, device: torch.device) -> bool:
    """Whether Triton's kernels compute layers on a device: those of a GPU, and in the interpreter those of a CPU."""
    if hardware.kernels != "triton" or triton_load_error() is not None:
        return False
    from analog_lora_cli.hardware.kernels.gpu.blocks import INTERPRETED

    return device.type == ("cpu" if INTERPRETED else "cuda")


def fits_kernels(weight: Tensor, hardware: HardwareConfig) -> bool:
    """Whether the compiled loops compute a layer with this weight; they are for float32 on a CPU."""
    supported = weight.device.type == "cpu" and weight.dtype == torch.float32
    worthwhile = hardware.kernels == "numba" or weight.numel() >= LEAST_WEIGHTS
    return supported and worthwhile and compiled(hardware)


def kernels_in_use(hardware: HardwareConfig, device: torch.device) -> str:
    """Implementation of large layers on a device, for the manifest: `numba`, `torch`, `triton` or `aihwkit`."""
    if hardware.simulator == "aihwkit":
        return "aihwkit"
    if uses_triton(hardware, device):
        return "triton"
    return "numba" if compiled(hardware) and device.type == "cpu" else "torch"
