"""One forward pass in evaluation. `python -m tests.benchmarks.evaluate [--model minilm]`."""

from __future__ import annotations

import functools

import torch

from tests.benchmarks.competitors import competitor, installed_names
from tests.benchmarks.measure import arguments, batch_of, interleaved, table


def main() -> None:
    """Measure all competitors and print one table."""
    options = arguments(__doc__ or "").parse_args()
    batch = batch_of(options)
    models = [competitor(name, options.model, 0.0, options.device) for name in installed_names()]
    work = {one.name: functools.partial(one.evaluate, batch) for one in models}
    with torch.autocast(options.device, torch.bfloat16, enabled=options.bf16):
        seconds = interleaved(work, options.runs, options.device)
    size = "x".join(map(str, batch["input_ids"].shape))
    table(f"Evaluation forward, {options.model}, {size} tokens", seconds)


if __name__ == "__main__":
    main()
