"""Saturation of ADCs: one bit for each output, and the gradient that it cuts.

Axes of tensors by suffix: R rows of tiles, T tokens, O outputs, B bytes of eight outputs each, the lowest bit first.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def bytes_of(outputs: int) -> int:
    """Bytes that a token's bits take."""
    return -(-outputs // 8)


def pack(beyond_RTO: Tensor) -> Tensor:
    """Masks, (..., outputs), to bits, (..., bytes) of uint8."""
    outputs = beyond_RTO.shape[-1]
    padded_RTO = functional.pad(beyond_RTO, (0, -outputs % 8)) if outputs % 8 else beyond_RTO
    ones = padded_RTO.view(*padded_RTO.shape[:-1], bytes_of(outputs), 8)
    return (ones * _places(ones.device)).sum(dim=-1, dtype=torch.uint8)


def unpack(saturated_RTB: Tensor, outputs: int) -> Tensor:
    """Bits, (..., bytes), to masks, (..., outputs)."""
    beyond = ((saturated_RTB.unsqueeze(-1) & _places(saturated_RTB.device)) != 0).flatten(-2)
    return beyond[..., :outputs] if outputs % 8 else beyond


def _places(device: torch.device) -> Tensor:
    """(8,): the number that each bit of a byte stands for."""
    # Computed, not copied from the host, for which a GPU would have to wait.
    return 1 << torch.arange(8, dtype=torch.uint8, device=device)


def partial_gradient(grad_TO: Tensor, compensation_RO: Tensor | None, saturated_RTB: Tensor | None) -> Tensor:
    """Gradients of the outputs before the digital addition, (rows of tiles or 1, tokens, outputs).

    The straight-through estimator: converters count as the identity inside their range, as a constant beyond.

    Args:
        grad_TO: gradient of the layer's output.
        compensation_RO: drift-compensation factors; None: 1.
        saturated_RTB: bits of saturated outputs; None: none are.
    """
    partial_RTO = grad_TO[None]
    if compensation_RO is not None:
        partial_RTO = partial_RTO * compensation_RO[:, None].to(grad_TO.dtype)
    if saturated_RTB is not None:
        partial_RTO = partial_RTO.masked_fill(unpack(saturated_RTB, grad_TO.shape[1]), 0)
    return partial_RTO
