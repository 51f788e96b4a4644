"""SIGTERM to several processes, as torchrun passes it on: they agree on the step, save, and end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_ranks_agree_on_the_step_to_save_at(config_file: Path, tmp_path: Path) -> None:
    def start(name: str, *more: str) -> subprocess.Popen[bytes]:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", "analog_lora_cli"]
        command = ["train", "--config", str(config_file), "--output", str(tmp_path / name / "c"), "--no-drift", *more]
        with (tmp_path / f"{name}.txt").open("ab") as said:
            return subprocess.Popen([*launcher, *command], env={**os.environ, "OMP_NUM_THREADS": "1"},
                                    stdout=said, stderr=said)  # fmt: skip

    assert start("whole").wait(60) == 0
    cut, log = start("cut"), tmp_path / "cut" / "c" / "log.txt"
    while not (log.exists() and "step 4:" in log.read_text()):
        assert cut.poll() is None, (tmp_path / "cut.txt").read_text()[-2000:]
        time.sleep(0.002)
    sent = time.monotonic()
    cut.send_signal(signal.SIGTERM)
    assert cut.wait(60) != 0
    assert time.monotonic() - sent < 15
    said = (tmp_path / "cut.txt").read_text()
    assert said.count("error: interrupted; what is finished is kept, continue with --resume") == 1, said
    last = max(int(path.name.rpartition("-")[2]) for path in (tmp_path / "cut/c/trainer").glob("checkpoint-*"))
    assert last >= 4 and (tmp_path / f"cut/c/trainer/checkpoint-{last}/complete.json").exists()
    assert last % 3, "a state of the present step, not only one of every third"
    assert start("cut", "--resume").wait(60) == 0
    # PEFT writes the list of targets in an order that changes from process to process, so only the weights are equal.
    weights = [tmp_path / name / "c/adapters/default/adapter_model.safetensors" for name in ("whole", "cut")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
