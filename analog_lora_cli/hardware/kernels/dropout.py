"""Dropout with masks from a hash: torch draws them number by number on a CPU, a third of a LoRA training step."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.hardware.kernels.choice import compiled, load_error, require_kernels

LEAST_NUMBERS = 1 << 12
"""Size of a tensor from which torch's own dropout is worth replacing."""


class Dropout(nn.Dropout):
    """`torch.nn.Dropout` with the masks of `kernels.cpu_dropout.drop` for float32 on a CPU; torch's own elsewhere.

    Each number is dropped with probability p, independently of the others (correlations are below 0.001), and the
    others are multiplied by 1 / (1 - p). The mask is a function of a seed that torch's default generator gives in the
    forward pass, whatever the number of threads; it is not stored but drawn again in the backward pass.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Drop from a tensor of any shape; the identity in evaluation."""
        supported = input.device.type == "cpu" and input.dtype == torch.float32 and input.numel() >= LEAST_NUMBERS
        usable = supported and 0 < self.p < 1 and not torch.compiler.is_compiling()
        if not self.training or not usable or load_error() is not None:
            return super().forward(input)
        seed = int(torch.randint(2**62, (), dtype=torch.int64))
        output: Tensor = _HashedDropout.apply(input, self.p, seed)
        return output


class _Context(FunctionCtx):
    """Attributes that the backward pass needs."""

    p: float
    seed: int


class _HashedDropout(torch.autograd.Function):
    """The kernel with a gradient: the same mask, drawn again from its seed, on the gradient."""

    @staticmethod
    def forward(ctx: _Context, x: Tensor, p: float, seed: int) -> Tensor:
        from analog_lora_cli.hardware.kernels import cpu_dropout

        ctx.p, ctx.seed = p, seed
        x = x.detach().contiguous()
        output = torch.empty_like(x)
        threshold, scale = np.uint32(round(p * 2**32)), np.float32(1 / (1 - p))
        cpu_dropout.drop(x.view(-1).numpy(), np.uint64(seed), threshold, scale, output.view(-1).numpy())
        return output

    @staticmethod
    def backward(ctx: _Context, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return _HashedDropout.apply(gradients[0], ctx.p, ctx.seed), None, None


ATTENTION = "sdpa_with_fast_dropout"
"""Name of `attention` in transformers' register; configurations are saved without it."""


def install_fast_dropout(model: nn.Module, hardware: HardwareConfig) -> None:
    """Replace every `torch.nn.Dropout` of a model, in place, and the dropout of transformers' scaled dot products.

    Does nothing where `hardware.kernels` or this machine leaves torch's operations only: the model then has torch's own
    dropout, masks included.

    Raises:
        ConfigError: `hardware.kernels` asks for what cannot be loaded here.
    """
    require_kernels(hardware)
    if not compiled(hardware):
        return
    from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
    from transformers.masking_utils import sdpa_mask

    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Dropout:
                # A subclass, so that nothing which looks for torch's own class misses it.
                setattr(module, name, Dropout(child.p, child.inplace).train(child.training))
    pretrained = next((module for module in model.modules() if isinstance(module, PreTrainedModel)), None)
    if pretrained is not None and pretrained.config._attn_implementation == "sdpa":
        AttentionInterface.register(ATTENTION, attention)
        AttentionMaskInterface.register(ATTENTION, sdpa_mask)
        pretrained.set_attn_implementation(ATTENTION)


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **options: object,
) -> tuple[Tensor, Tensor | None]:
    """transformers' `sdpa_attention_forward`; with dropout, softmax(q k^T scaling + mask) step by step.

    That is what torch does on a CPU too, where its fused attention has no dropout. Causal attention and shared keys
    are left to torch.

    Args:
        module: the attention layer.
        query: (batch, heads, queries, width).
        key: (batch, heads, keys, width).
        value: like `key`.
        attention_mask: (batch, 1, queries, keys): bias to add, or boolean: true where a key takes part; None: all do.
        dropout: probability.
        scaling: factor of the products; None: 1 / sqrt(width).
        options: further arguments of transformers' function.

    Returns:
        (batch, queries, heads, width), and None.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    causal = options.get("is_causal") or getattr(module, "is_causal", True)
    plain = options.get("position_bias") is None and not causal and key.shape == query.shape
    if dropout == 0 or not plain or query.device.type != "cpu" or torch.compiler.is_compiling():
        result: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, **options
        )
        return result
    scores = (query * (query.shape[-1] ** -0.5 if scaling is None else scaling)) @ key.transpose(-1, -2)
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    elif attention_mask is not None:
        scores = scores + attention_mask
    weights = Dropout(dropout)(scores.softmax(dim=-1))
    return (weights @ value).transpose(1, 2).contiguous(), None
