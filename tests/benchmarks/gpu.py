"""All that has been left to measure on a GPU, in two tables: `python -m tests.benchmarks.gpu`.

Training step, evaluation forward and peak memory, in float32 and under autocast to bfloat16; and a new chip, aged
by a year. `--dry-run` does the same with a tiny model on a CPU, to test this program: with TRITON_INTERPRET=1 in the
environment Triton's kernels take part. Kernels are compiled in calls that are not counted.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.hardware.kernels.choice import triton_load_error
from analog_lora_cli.runtime import console
from tests.benchmarks.competitors import Competitor, competitor, installed_names
from tests.benchmarks.measure import arguments, batch_of, forget_peak, interleaved, peak, versions

YEAR = 365.0 * 86400
PRECISIONS = {"fp32": False, "bf16": True}
LEFT_OUT = {"digital, our dropout"}
"""On a GPU dropout is torch's for all."""


def main() -> None:
    """Measure everything and print both tables."""
    parser = arguments((__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--dry-run", action="store_true", help="a tiny version on the CPU, to test this program")
    parser.add_argument("--width", type=int, default=4096, help="inputs and outputs of the layer that chips have")
    options = parser.parse_args()
    if options.dry_run:
        options.device, options.model, options.batch, options.length, options.runs = "cpu", "tiny", 1, 8, 1
        options.width, options.threads = 24, 1
    elif not torch.cuda.is_available():
        console.error("there is no CUDA device here; --dry-run runs a tiny version on the CPU")
        sys.exit(2)
    failures: dict[str, str] = {}
    steps = _steps_table(options, failures)
    chips = _chips_table(options, failures)
    console.results().print(steps, chips)
    for name, reason in failures.items():
        console.warn(f"{name} failed: {reason}")


def _steps_table(options: argparse.Namespace, failures: dict[str, str]) -> Any:
    batch = batch_of(options)
    size = "x".join(map(str, batch["input_ids"].shape))
    title = f"Training step and evaluation forward, {options.model}, {size} tokens"
    columns = ["train ms", "ratio", "MiB", "evaluate ms", "ratio", "MiB"]
    table = console.table(title, "", *columns, caption=f"Ratio: to digital LoRA. {versions()}")
    for precision, half in PRECISIONS.items():
        with torch.autocast(options.device, torch.bfloat16, enabled=half):
            for name, numbers in _steps(options, batch, precision, failures).items():
                table.add_row(f"{name}, {precision}", *numbers)
    return table


def _steps(
    options: argparse.Namespace, batch: dict[str, torch.Tensor], precision: str, failures: dict[str, str]
) -> dict[str, list[str]]:
    """The numbers of each competitor that runs."""
    memory: dict[str, tuple[float, float]] = {}
    models: dict[str, Competitor] = {}
    for name in installed_names():
        if name not in LEFT_OUT and name not in failures:
            try:
                one = competitor(name, options.model, 0.1, options.device)
                memory[name] = (_memory_of(one.train_step, batch, options), _memory_of(one.evaluate, batch, options))
                models[name] = one
            except Exception as error:  # The others' numbers must not be lost.
                failures[f"{name}, {precision}"] = _reason(error)
    training = {name: functools.partial(one.train_step, batch) for name, one in models.items()}
    evaluation = {name: functools.partial(one.evaluate, batch) for name, one in models.items()}
    seconds = [_medians(interleaved(work, options.runs, options.device)) for work in (training, evaluation)]
    rows: dict[str, list[str]] = {}
    for name in models:
        columns = zip(seconds, memory[name], strict=True)
        rows[name] = [text for one, size in columns for text in (*_compared(one, name, "digital LoRA"), f"{size:.0f}")]
    return rows


def _memory_of(work: Callable[[dict[str, torch.Tensor]], None], batch: Any, options: argparse.Namespace) -> float:
    """MiB at the peak of the second call, beyond what was there before; the first call compiles."""
    work(batch)
    before = forget_peak(options.device)
    work(batch)
    return peak(options.device) - before


def _chips_table(options: argparse.Namespace, failures: dict[str, str]) -> Any:
    millions = options.width**2 / 1e6
    work, memory = {}, {}
    for name, one in _chips(options):
        try:
            one()
            before = forget_peak(options.device)
            one()
            memory[name], work[name] = peak(options.device) - before, one
        except Exception as error:
            failures[f"chips, {name}"] = _reason(error)
    seconds = _medians(interleaved(work, options.runs, options.device))
    caption = f"{options.width} x {options.width} weights on tiles; programmed, and read after a year"
    title = "A new chip at a time"
    table = console.table(title, "", "ms a million weights", "ratio", "MiB", caption=f"{caption}. Ratio: to torch")
    for name in work:
        scaled = {key: value / millions for key, value in seconds.items()}
        table.add_row(name, *_compared(scaled, name, "analora, torch"), f"{memory[name]:.0f}")
    return table


def _chips(options: argparse.Namespace) -> Iterator[tuple[str, Callable[[], None]]]:
    """Names, and functions that program a layer's devices and read them after a year."""
    ways = {"analora, CPU": ("auto", "cpu"), "analora, torch": ("torch", options.device)}
    if triton_load_error() is None:
        ways["analora, Triton"] = ("triton", options.device)
    for name, (kernels, device) in ways.items():
        yield name, _our_chip(options.width, kernels, device)
    yield "paper's way", _paper_chip(options.width, options.device)


def _weight(width: int) -> torch.Tensor:
    return torch.randn(width, width, generator=torch.Generator().manual_seed(1))


def _our_chip(width: int, kernels: Any, device: str) -> Callable[[], None]:
    from analog_lora_cli.hardware.physics.chip import Chip
    from analog_lora_cli.hardware.tile.analog_linear import AnalogLinear

    hardware = HardwareConfig(kernels=kernels, drift_compensation="none")
    layer = AnalogLinear(_weight(width).to(device), None, hardware, "layer")
    seeds = iter(range(10**9))
    return lambda: Chip(next(seeds), {"layer": layer}, hardware).age(YEAR)


def _paper_chip(width: int, device: str) -> Callable[[], None]:
    from aihwkit.inference import PCMLikeNoiseModel
    from aihwkit.nn import AnalogLinear

    from analog_lora_cli.hardware.physics.aihwkit_tiles import rpu_config

    config = rpu_config(HardwareConfig())
    config.noise_model, config.drift_compensation = PCMLikeNoiseModel(g_max=25.0), None
    layer = AnalogLinear(width, width, bias=False, rpu_config=config)
    layer.set_weights(_weight(width), None)
    layer.to(device).eval()

    def program_and_drift() -> None:
        with torch.no_grad():
            layer.program_analog_weights()
            layer.drift_analog_weights(YEAR)

    return program_and_drift


def _medians(seconds: dict[str, list[float]]) -> dict[str, float]:
    return {name: statistics.median(values) for name, values in seconds.items()}


def _compared(seconds: dict[str, float], name: str, baseline: str) -> tuple[str, str]:
    """Milliseconds, and times those of the baseline."""
    ratio = f"{seconds[name] / seconds[baseline]:.2f}" if baseline in seconds else "-"
    return f"{seconds[name] * 1e3:.2f}", ratio


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


if __name__ == "__main__":
    main()
