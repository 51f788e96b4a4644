"""Views of tensors as numpy's arrays, for compiled loops."""

from __future__ import annotations

import ctypes

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def as_array(tensor: Tensor) -> NDArray[np.float32]:
    """numpy's view of a contiguous float32 tensor on the CPU, which must outlive it.

    Tensor.numpy would forbid the storage of a parameter to be resized, as FSDP does to free it.
    """
    assert tensor.dtype == torch.float32 and tensor.is_contiguous() and tensor.device.type == "cpu"
    memory = (ctypes.c_float * tensor.numel()).from_address(tensor.data_ptr())
    array: NDArray[np.float32] = np.frombuffer(memoryview(memory), np.float32)
    return array.reshape(tensor.shape)
