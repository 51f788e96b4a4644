"""Interleaved timings, peak memory in processes of their own, and the table."""

from __future__ import annotations

import argparse
import ctypes
import gc
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from analog_lora_cli.runtime import console


def arguments(description: str) -> argparse.ArgumentParser:
    """What all benchmarks understand."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--model", choices=["mobilebert", "minilm", "tiny"], default="mobilebert")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=None, help="sequences; 32 on a GPU, 4 on a CPU")
    parser.add_argument("--length", type=int, default=320, help="tokens of a sequence")
    parser.add_argument("--runs", type=int, default=5, help="counted runs of each competitor")
    parser.add_argument("--threads", type=int, default=2, help="of torch, on a CPU")
    parser.add_argument("--bf16", action="store_true", help="under autocast to bfloat16")
    return parser


def batch_of(options: argparse.Namespace) -> dict[str, torch.Tensor]:
    """Random questions, without padding."""
    torch.set_num_threads(options.threads)
    size = options.batch or (32 if options.device == "cuda" else 4)
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(1000, 20000, (size, options.length), generator=generator)
    positions = torch.randint(0, options.length, (size,), generator=generator)
    batch = {"input_ids": ids, "start_positions": positions, "end_positions": positions}
    return {name: tensor.to(options.device) for name, tensor in batch.items()}


def interleaved(work: dict[str, Callable[[], None]], runs: int, device: str) -> dict[str, list[float]]:
    """Seconds of each run: every competitor once, then all again; the first round is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for number in range(runs + 1):
        for name, run in work.items():
            _wait(device)
            start = time.perf_counter()
            run()
            _wait(device)
            if number:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def peak_memory(module: str, name: str, options: list[str]) -> float:
    """MiB that one training step needs beyond the built model, in a process of its own."""
    command = [sys.executable, "-m", module, "--memory-of", name, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def table(title: str, seconds: dict[str, list[float]], memory: dict[str, float] | None = None) -> None:
    """Print medians, their range, and how many times analora's time each needs."""
    ours = statistics.median(seconds["analora"])
    headings = ["median s", "min", "max", "/ analora", *(["MiB of a step"] if memory else [])]
    made = console.table(title, "", *headings, caption=versions())
    for name, values in seconds.items():
        median = statistics.median(values)
        row = [f"{median:.3f}", f"{min(values):.3f}", f"{max(values):.3f}", f"{median / ours:.2f}"]
        made.add_row(name, *row, *([f"{memory[name]:.0f}"] if memory else []))
    console.results().print(made)


def peak(device: str) -> float:
    """Largest use since `forget_peak`, in MiB: of the GPU's allocator, or of resident memory."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return _status("VmHWM") / 1024


def forget_peak(device: str) -> float:
    """Start to watch the peak anew; returns the present use in MiB."""
    gc.collect()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated() / 2**20
    # What building has left behind would hide what the step takes.
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS") / 1024


def _status(key: str) -> int:
    # Not getrusage, whose maximum a child takes over from its parent.
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1])


def versions() -> str:
    """The device, and the versions of what is compared."""
    found = []
    for package in ("torch", "transformers", "peft", "aihwkit", "aihwkit-lightning", "triton"):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} CPU threads"
    return f"{device}; {', '.join(found)}"
