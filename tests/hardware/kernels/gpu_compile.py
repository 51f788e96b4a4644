"""Compile Triton's kernels for an A100 and an H100, which needs no GPU: what the interpreter lets pass fails here.

Run as a program, because a process uses either the interpreter or the compiler. Prints a line for each kernel.
"""

from __future__ import annotations

import sys
from typing import Any

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from analog_lora_cli.hardware.kernels.gpu import blocks, chips, input_gradient, mvm, noise

FLOATS = {"fp32": tl.float32, "bf16": tl.bfloat16, "fp16": tl.float16}
COUNTS = {"tokens", "outputs", "inputs", "rows", "per_row", "columns"}


def compiled(kernel: Any, capability: int, sizes: blocks.Blocks | None, **given: Any) -> None:
    """Compile a kernel; `given` are types of pointers and values of constants, the rest follows from the names."""
    types, constants = {}, {}
    for name in kernel.arg_names:
        value = given.get(name)
        if name in given and not (isinstance(value, str) and value.startswith("*")):
            types[name], constants[name] = "constexpr", value
        elif value is not None:
            types[name] = value
        elif name in COUNTS:
            types[name] = "i32"
        elif name.endswith("key"):
            types[name] = "i64"
        elif name.startswith("largest") or ("_" in name and name.rsplit("_", 1)[1].isupper()):
            types[name] = "*i32" if name == "edges_E" else "*u8" if name == "saturated_RTB" else "*fp32"
        else:
            types[name] = "fp32"
    options = {} if sizes is None else {"num_warps": sizes.warps, "num_stages": sizes.stages}
    target = GPUTarget("cuda", capability, 32)
    result = triton.compile(ASTSource(kernel, types, constexprs=constants), target=target, options=options)
    print(f"{kernel.__name__} for sm_{capability}: {result.metadata.shared} bytes of shared memory", flush=True)
    assert result.metadata.shared <= 99 * 1024, "more than any recent GPU has for a program"


def main() -> None:
    """Compile what a layer needs with all there is in bfloat16, and with `all` as plain as possible in float32 too."""
    capability, both = int(sys.argv[1]), "all" in sys.argv
    full = {"DAC": True, "ROUNDS": True, "LIMITED": True, "OUTPUT_NOISE": True}
    plain = {"DAC": False, "ROUNDS": False, "LIMITED": False, "OUTPUT_NOISE": False, "tokens": 1, "rows": 1}
    absent = dict.fromkeys(("offset_RO", "range_R", "column_scale_RO", "saturated_RTB", "bias_O"))
    for number, forward, backward, more in (
        ("bf16", blocks.HALF_FORWARD, blocks.HALF_BACKWARD, full),
        ("fp32", blocks.SINGLE_FORWARD, blocks.SINGLE_BACKWARD, plain | absent),
    )[: 2 if both else 1]:
        sums = {"OPERAND": FLOATS[number], "PRECISION": "ieee", "WIDE": False}
        pointers = dict.fromkeys(("x_TI", "weight_OI", "y_TO"), f"*{number}")
        compiled(mvm._analog_mvm, capability, forward, **sums, **_shape(forward), **more, **pointers)
        pointers = dict.fromkeys(("grad_TO", "weight_OI", "result_TI"), f"*{number}")
        compiled(input_gradient._input_gradient, capability, backward, **sums, **_shape(backward), **pointers)
    compiled(noise._noisy_weights, capability, None, OUTPUTS=noise.DRAWN_OUTPUTS, INPUTS=noise.DRAWN_INPUTS)
    halves = {"COLUMNS": chips.COLUMNS, "HALVES": chips.HALVES}
    compiled(chips._program, capability, None, ADDS=True, **halves)
    compiled(chips._read, capability, None, ADDS=True, DRIFTS=True, **halves)


def _shape(sizes: blocks.Blocks) -> dict[str, int]:
    return {"TOKENS": sizes.tokens, "OUTPUTS": sizes.outputs, "INPUTS": sizes.inputs}


if __name__ == "__main__":
    main()
