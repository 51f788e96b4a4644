"""Memory of a model from its file to its tiles. `python -m tests.benchmarks.big_models [--sizes 135M 1B] [--chip]`.

Loaded, hashed, adapters added, weights clipped and put on tiles: decoders in the shapes of published models with random
weights, in bfloat16, each in a process of its own. Counted is the largest resident memory beyond that of the imported
libraries, pages of the mapped weight file included. A straight line through the sizes tells what 8 billion parameters
take. `--chip` also programs a chip and ages it to a year.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np
import torch

from analog_lora_cli.config.schema import Config
from analog_lora_cli.runtime import console
from analog_lora_cli.runtime.libraries import prepare_libraries
from tests.benchmarks.measure import peak

prepare_libraries()

SHAPES = {
    "135M": (576, 30, 9, 3, 1536, 49152),
    "360M": (960, 32, 15, 5, 2560, 49152),
    "1B": (2048, 16, 32, 8, 8192, 128256),
}
"""Hidden size, layers, heads, key and value heads, size of the feed-forward part, and vocabulary: SmolLM2-135M and
360M, Llama-3.2-1B; all with tied heads."""
EXTRAPOLATED = 8.03e9
"""Parameters of Llama-3.1-8B."""


def main() -> None:
    """Measure all sizes and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="*", choices=list(SHAPES), default=list(SHAPES))
    parser.add_argument("--runs", type=int, default=3, help="of each size; the median counts")
    parser.add_argument("--chip", action="store_true", help="program a chip too, and age it to a year")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--write", nargs=2, metavar=("SIZE", "FOLDER"), help="only write a random model")
    parser.add_argument("--measure", metavar="FOLDER", help="only measure this model, and print JSON")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.write:
        _write(*options.write)
    elif options.measure:
        print(json.dumps(_measured(options.measure, options.chip)))
    else:
        _print_table(options)


def _print_table(options: argparse.Namespace) -> None:
    results = []
    for size in options.sizes:
        with tempfile.TemporaryDirectory() as folder:
            _child("--write", size, folder)
            more = ["--chip"] if options.chip else []
            given = ["--measure", folder, "--threads", str(options.threads), *more]
            runs = [json.loads(_child(*given).splitlines()[-1]) for _ in range(options.runs)]
            results.append({key: statistics.median(run[key] for run in runs) for key in runs[0]})
    made = console.table(
        "Memory beyond the libraries, bfloat16, weights clipped at 3 sigma",
        "model", "parameters", "weights MB", "loaded", "on tiles", "/ weights", "workspace MB", "place s",
        *(["chip MB", "ns/weight"] if options.chip else []),
        caption=_caption(results),
    )  # fmt: skip
    for size, one in zip(options.sizes, results, strict=True):
        chip = [_mega(one["chip"]), f"{one['chip_ns']:.1f}"] if options.chip else []
        made.add_row(
            size, f"{one['parameters'] / 1e6:.0f}M", _mega(one["weights"]), _mega(one["loaded"]), _mega(one["tiles"]),
            f"{one['tiles'] / one['weights']:.2f}", _mega(one["tiles"] - one["weights"]), f"{one['place_s']:.1f}", *chip
        )  # fmt: skip
    console.results().print(made)


def _caption(results: list[dict[str, Any]]) -> str:
    lines = [
        "largest use in MB, loaded: after loading and hashing; on tiles: after that; workspace: that less the weights",
        "place s: seconds to add adapters, clip, place and hash",
    ]
    if len(results) > 1:
        slope, start = np.polyfit([one["weights"] for one in results], [one["tiles"] for one in results], 1)
        weights = 2 * EXTRAPOLATED
        lines.append(
            f"slope {slope:.2f} bytes for each byte of weights: {(start + slope * weights) / 1e9:.1f} GB for the "
            f"{weights / 1e9:.1f} GB of {EXTRAPOLATED / 1e9:.2f} G parameters"
        )
    return "\n".join(lines)


def _mega(number: float) -> str:
    return f"{number / 1e6:.0f}"


def _child(*given: str) -> str:
    command = [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.big_models", *given]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def _write(size: str, folder: str) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    hidden, layers, heads, key_value_heads, feed_forward, vocabulary = SHAPES[size]
    config = LlamaConfig(
        hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads, vocab_size=vocabulary,
        num_key_value_heads=key_value_heads, intermediate_size=feed_forward, tie_word_embeddings=True,
        dtype="bfloat16", pad_token_id=0,
    )  # fmt: skip
    with torch.device("meta"):
        model = LlamaForCausalLM(config).to(torch.bfloat16)
    model.to_empty(device="cpu")
    model.tie_weights()
    # One pool for all: drawing a billion normals would take longer than all that is measured.
    pool = (0.02 * torch.randn(1 << 20, generator=torch.Generator().manual_seed(0))).to(torch.bfloat16)
    for parameter in model.parameters():
        parameter.data.view(-1).copy_(pool.repeat(parameter.numel() // len(pool) + 1)[: parameter.numel()])
    model.save_pretrained(folder)


def _measured(folder: str, with_chip: bool) -> dict[str, float]:
    import transformers

    from analog_lora_cli.models.build import load_plain, with_adapter
    from analog_lora_cli.models.tiling import put_on_tiles

    for name in ("aihwkit.inference", "peft", "transformers.models.llama.modeling_llama"):
        importlib.import_module(name)

    transformers.logging.set_verbosity_error()
    config = Config.model_validate({"model": {"name": folder, "dtype": "bfloat16"}, "task": {"name": "sst2"}})
    before = _peak()
    loaded = load_plain(config, folder, None, None)
    result = {
        "parameters": loaded.parameters.total,
        "weights": sum(parameter.nbytes for parameter in loaded.module.parameters()),
        "loaded": _peak() - before,
    }
    begin = time.perf_counter()
    model = put_on_tiles(with_adapter(loaded), config.hardware)
    result |= {"place_s": time.perf_counter() - begin, "tiles": _peak() - before}
    if with_chip:
        begin = time.perf_counter()
        with model.on_chip(model.program(0), 31536000.0):
            weights = sum(layer.weight.numel() for layer in model.layers.values())
            result["chip_ns"] = 1e9 * (time.perf_counter() - begin) / weights
        result["chip"] = _peak() - before
    return result


def _peak() -> float:
    """Largest resident memory of this process so far, in bytes."""
    return peak("cpu") * 2**20


if __name__ == "__main__":
    main()
