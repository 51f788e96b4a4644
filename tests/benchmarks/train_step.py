"""One training step: forward, backward, optimizer. `python -m tests.benchmarks.train_step [--model minilm]`."""

from __future__ import annotations

import functools
import sys

import torch

from tests.benchmarks.competitors import competitor, installed_names
from tests.benchmarks.measure import arguments, batch_of, forget_peak, interleaved, peak, peak_memory, table


def main() -> None:
    """Measure all competitors and print one table for each LoRA dropout."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--dropout", type=float, nargs="*", default=[0.1, 0.0], help="of the LoRA")
    parser.add_argument("--memory-of", help="print the peak memory of one competitor's step, in MiB")
    options = parser.parse_args()
    batch = batch_of(options)
    precision = torch.autocast(options.device, torch.bfloat16, enabled=options.bf16)
    if options.memory_of:
        one = competitor(options.memory_of, options.model, options.dropout[0], options.device)
        before = forget_peak(options.device)
        with precision:
            one.train_step(batch)
        print(peak(options.device) - before)
        return
    for dropout in options.dropout:
        models = [competitor(name, options.model, dropout, options.device) for name in installed_names()]
        work = {one.name: functools.partial(one.train_step, batch) for one in models}
        with precision:
            seconds = interleaved(work, options.runs, options.device)
        given = [*sys.argv[1:], "--dropout", str(dropout)]
        memory = {one.name: peak_memory("tests.benchmarks.train_step", one.name, given) for one in models}
        size = "x".join(map(str, batch["input_ids"].shape))
        table(f"Training step, {options.model}, {size} tokens, LoRA dropout {dropout}", seconds, memory)


if __name__ == "__main__":
    main()
