"""Dropout whose masks cost little: on a CPU, torch draws them number by number, a third of a LoRA training step."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


class Dropout(nn.Dropout):
    """`torch.nn.Dropout` with the masks of `cpu_kernels.drop` for float32 on a CPU; torch's own elsewhere.

    Each number is dropped with probability p, independently of the others, and the others are multiplied by
    1 / (1 - p). The mask is a function of a seed that torch's default generator gives in the forward pass, whatever the
    number of threads; it is not stored but made again in the backward pass.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Drop from a tensor of any shape; the identity in evaluation."""
        fits = input.device.type == "cpu" and input.dtype == torch.float32 and 0 < self.p < 1
        if not self.training or not fits or torch.compiler.is_compiling():
            return super().forward(input)
        seed = int(torch.randint(2**62, (), dtype=torch.int64))
        kept: Tensor = _Dropped.apply(input, self.p, seed)
        return kept


class _Dropped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float, seed: int) -> Tensor:
        from analog_lora_cli.hardware import cpu_kernels

        ctx.p, ctx.seed = p, seed
        given = x.detach().contiguous()
        kept = torch.empty_like(given)
        threshold, scale = np.uint32(round(p * 2**32)), np.float32(1 / (1 - p))
        cpu_kernels.drop(given.view(-1).numpy(), np.uint64(seed), threshold, scale, kept.view(-1).numpy())
        return kept

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return _Dropped.apply(gradients[0], ctx.p, ctx.seed), None, None


def use_cheap_dropout(model: nn.Module) -> None:
    """Replace every `torch.nn.Dropout` of a model, in place."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Dropout:
                setattr(module, name, Dropout(child.p, child.inplace).train(child.training))
