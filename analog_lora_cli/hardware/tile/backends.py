"""Choice of the implementation of a layer's analog MVM: the one place that knows them all."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.hardware.kernels.choice import fits_kernels, uses_triton
from analog_lora_cli.hardware.tile.array import Backend
from analog_lora_cli.hardware.tile.mvm import TorchBackend

_TORCH = TorchBackend()


def backend_for(weight: Tensor, hardware: HardwareConfig) -> Backend:
    """The implementation for a layer.

    Args:
        weight: (out_features, in_features), in the type of its products without autocast.
        hardware: hardware of the layer.
    """
    if uses_triton(hardware, weight.device) and weight.dtype == torch.float32:
        return _triton()
    return _cpu() if fits_kernels(weight, hardware) else _TORCH


@cache
def _cpu() -> Backend:
    # Here, because numba cannot be loaded everywhere.
    from analog_lora_cli.hardware.tile.cpu_mvm import CpuBackend

    return CpuBackend()


@cache
def _triton() -> Backend:
    # Here, because triton is not installed everywhere.
    from analog_lora_cli.hardware.tile.gpu_mvm import TritonBackend

    return TritonBackend()
