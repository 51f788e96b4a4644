"""Sizes of the part of a product that one program computes, and the precision of its sums of products."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import triton
import triton.language as tl

INTERPRETED = bool(triton.knobs.runtime.interpret)
"""Whether kernels run in Triton's interpreter, on a CPU; decided when triton is imported."""

_TRITON_TYPES = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}


@dataclass(frozen=True)
class Blocks:
    """What one program computes at a time; all are powers of two from 16 on, `outputs` and `inputs` from 32 on."""

    tokens: int
    outputs: int
    """Outputs: columns of the result in the forward pass, the dimension that is summed over in the backward pass."""
    inputs: int
    """Inputs: the other way round."""
    warps: int
    stages: int

    def for_tokens(self, tokens: int) -> Blocks:
        """Blocks of fewer tokens where there are no more, as when a language model generates."""
        return replace(self, tokens=min(self.tokens, max(triton.next_power_of_2(tokens), 16)))


HALF_FORWARD = Blocks(tokens=64, outputs=128, inputs=32, warps=8, stages=3)
HALF_BACKWARD = Blocks(tokens=128, outputs=32, inputs=128, warps=8, stages=3)
"""For tensor cores (half precision, TF32) of an A100 or H100. The forward pass has two sums in registers, the product
of a row of tiles and that over the rows: with 128 x 128 of each a program spills 2.8 kB a thread (ptxas for sm_80),
with these sizes 0.1 kB. Speed has not been measured on a card."""

SINGLE_FORWARD = Blocks(tokens=64, outputs=64, inputs=32, warps=8, stages=2)
SINGLE_BACKWARD = Blocks(tokens=64, outputs=32, inputs=64, warps=4, stages=2)
"""For float32 without tensor cores, whose operands need registers too: nothing spills. Not measured on a card."""


@dataclass(frozen=True)
class Precision:
    """The type of a product's operands, and how float32 ones are multiplied; sums are float32 always."""

    dtype: torch.dtype

    @property
    def tensor_cores(self) -> bool:
        """Whether the products run on tensor cores: half precision, and float32 where torch's matmul may round too."""
        return self.dtype != torch.float32 or self.dot == "tf32"

    @property
    def dot(self) -> str:
        """Triton's name of the multiplication."""
        exact = self.dtype != torch.float32 or torch.get_float32_matmul_precision() == "highest"
        return "ieee" if exact else "tf32"

    @property
    def operand(self) -> tl.dtype:
        """Triton's name of the type that operands are rounded to."""
        return _TRITON_TYPES[self.dtype]


def launch_options(precision: Precision, blocks: Blocks) -> dict[str, object]:
    """The arguments of a kernel and of its launch that follow from precision and sizes."""
    return {
        "OPERAND": precision.operand,
        "PRECISION": precision.dot,
        "WIDE": INTERPRETED,
        "TOKENS": blocks.tokens,
        "OUTPUTS": blocks.outputs,
        "INPUTS": blocks.inputs,
        "num_warps": blocks.warps,
        "num_stages": blocks.stages,
    }


@triton.jit
def dot(
    left: tl.tensor,
    right: tl.tensor,
    total: tl.tensor,
    OPERAND: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDE: tl.constexpr,
) -> tl.tensor:
    """total + left @ right, with both rounded to the type of the operands.

    Args:
        left: (rows, terms).
        right: (terms, columns).
        total: (rows, columns), float32.
        OPERAND: type of the operands.
        PRECISION: `Precision.dot`.
        WIDE: multiply in float32 after rounding; the interpreter cannot multiply bfloat16. Products of two numbers in
            half precision are exact in float32, so only the order of the sum differs.
    """
    left, right = left.to(OPERAND), right.to(OPERAND)
    if WIDE:
        left, right = left.to(tl.float32), right.to(tl.float32)
    return tl.dot(left, right, total, input_precision=PRECISION)
