"""Many chips take the memory of one."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from analog_lora_cli.config.schema import Config
from analog_lora_cli.config.sections.drift import DriftConfig
from analog_lora_cli.evaluation.drift_grid import drift_measurements, measure
from analog_lora_cli.evaluation.evaluator import Evaluator
from analog_lora_cli.models.build import load_base, with_adapter
from analog_lora_cli.workflows.observer import SilentObserver
from analog_lora_cli.workflows.train import train as run_training


def held() -> int:
    """Bytes of all tensors that something refers to."""
    gc.collect()
    tensors = [thing for thing in gc.get_objects() if type(thing) in (torch.Tensor, torch.nn.Parameter)]
    return sum(tensor.nbytes for tensor in tensors if tensor.device.type != "meta")


def test_a_chip_is_forgotten_when_the_next_is_programmed(make_config: Callable[..., Config]) -> None:
    config = make_config()
    loaded = with_adapter(load_base(config))
    evaluator = Evaluator(loaded.task, loaded.processor, 24, torch.device("cpu"))
    bytes_held: list[int] = []
    drift = DriftConfig(times=["0s"], chips=8)
    measure(loaded, evaluator, drift_measurements(drift), progress=lambda *_: bytes_held.append(held()))
    assert len(bytes_held) == 6 + 8 * drift.reads
    assert bytes_held[-1] == bytes_held[7], "one and more chips later"


@pytest.mark.slow
def test_two_hundred_chips_keep_the_memory_flat(make_config: Callable[..., Config], tmp_path: Path) -> None:
    """The resident memory of a process, looked at while it measures."""
    folder = tmp_path / "run"
    run_training(make_config(), folder, SilentObserver(), drift=False)
    finished = folder / "drift" / "default" / "measurements.jsonl"
    command = [sys.executable, "-m", "analog_lora_cli", "evaluate-drift", str(folder), "--chips", "200", "--quiet"]
    memory: dict[int, int] = {}
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        done = len(finished.read_bytes().splitlines()) if finished.is_file() else 0
        resident = [line for line in Path(f"/proc/{process.pid}/status").read_text().splitlines() if "VmRSS" in line]
        if resident:
            memory[done] = int(resident[0].split()[1])
        time.sleep(0.05)
    assert process.returncode == 0
    early = max(kib for done, kib in memory.items() if 40 <= done < 80)
    late = max(kib for done, kib in memory.items() if 360 <= done < 400)
    print(f"resident memory in MiB: {early / 1024:.1f} at 40 to 80 measurements, {late / 1024:.1f} at 360 to 400")
    assert late - early < 8 * 1024, "less than 8 MiB in 320 measurements"
