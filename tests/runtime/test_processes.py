"""Two gloo processes on one machine against one: the same loss curve, the same adapter, the same drift result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from analog_lora_cli import evaluate_drift
from analog_lora_cli.config.load import dump_config
from analog_lora_cli.config.schema import Config
from analog_lora_cli.workflows.observer import SilentObserver
from analog_lora_cli.workflows.train import train as run_training

TORCHRUN = ["-m", "torch.distributed.run", "--nproc_per_node"]
ACCELERATE = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes"]


def launch(config: Config, folder: Path, processes: int, launcher: list[str]) -> Path:
    """Train in a number of processes, as a user starts them; returns the checkpoint folder."""
    file = folder / f"{processes}.yaml"
    file.write_text(dump_config(config))
    output = folder / f"{processes}-processes"
    command = [sys.executable, *launcher, str(processes), "-m", "analog_lora_cli", "train"]
    command += ["--config", str(file), "--output", str(output)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert finished.stdout.count("accuracy over time") == 1, "only one process prints"
    return output


def test_two_processes_train_like_one(make_config: Callable[..., Config], tmp_path: Path) -> None:
    """Without dropout and output noise, which depend on the rank; the weight noise is one draw for all ranks."""
    compare(make_config, tmp_path, 2, TORCHRUN)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4])
def test_processes_of_accelerate_train_like_one(
    processes: int, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    compare(make_config, tmp_path, processes, ACCELERATE)


def compare(make_config: Callable[..., Config], folder: Path, processes: int, launcher: list[str]) -> None:
    """Train with one process and with several, on the same global batch."""
    sections = {"hardware": {"output_noise": 0.0}, "adapter": {"dropout": 0.0}}

    def config(batch: int) -> Config:
        train = {"per_device_train_batch_size": batch, "max_steps": 13, "save_steps": 100}
        return make_config(**sections, train=train, drift={"chips": 1})

    one = folder / "1-process"
    run_training(config(8), one, SilentObserver(), drift=False)
    two = launch(config(8 // processes), folder, processes, launcher)
    losses = [
        [entry["loss"] for entry in json.loads((output / "manifest.json").read_text())["training"]["log"]]
        for output in (one, two)
    ]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)
    first, second = (load_file(str(f / "adapters/default/adapter_model.safetensors")) for f in (one, two))
    for key in first:
        assert torch.allclose(first[key], second[key], atol=1e-4), key
    evaluate_drift(two, output=folder / "alone")
    alone, together = folder / "alone" / "drift.json", two / "drift/default/drift.json"
    assert alone.read_text() == together.read_text(), "several processes measure like one"


def test_accumulated_batches_train_like_one_batch(make_config: Callable[..., Config], tmp_path: Path) -> None:
    sections = {"hardware": {"output_noise": 0.0, "weight_noise": 0.0}, "adapter": {"dropout": 0.0}}
    stored = []
    for batch, accumulated in ((8, 1), (2, 4)):
        train = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulated, "max_steps": 12}
        folder = tmp_path / str(batch)
        run_training(make_config(**sections, train=train), folder, SilentObserver(), drift=False)
        stored.append(load_file(str(folder / "adapters/default/adapter_model.safetensors")))
    for key, tensor in stored[0].items():
        assert torch.allclose(tensor, stored[1][key], atol=1e-4), key


@pytest.mark.slow
def test_processes_meet_again_in_one_program_and_measure_like_one(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    """A Python program under a launcher may train and then measure: the launcher's store remembers the first time."""
    (tmp_path / "run.yaml").write_text(dump_config(make_config(train={"max_steps": 1}, drift={"chips": 3})))
    (tmp_path / "program.py").write_text(
        "import os, pathlib\n"
        "from analog_lora_cli import evaluate_drift, load_config, train\n"
        "config = load_config(file='run.yaml')\n"
        "train(config, 'run', drift=False)\n"
        "evaluate_drift('run', times='0s,1y', output='first', overwrite=True)\n"
        "count = len(evaluate_drift('run', times='0s', chips=1, output='second').measured)\n"
        # Files, because lines that two processes print at once may mix.
        "pathlib.Path(os.environ['RANK']).write_text(str(count))\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, *TORCHRUN, "2", "program.py"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    assert [(tmp_path / rank).read_text() for rank in ("0", "1")] == ["1", "1"]
    evaluate_drift(tmp_path / "run", times="0s,1y", output=tmp_path / "alone", overwrite=True)
    assert (tmp_path / "first" / "drift.json").read_text() == (tmp_path / "alone" / "drift.json").read_text()
    first, second = (
        json.loads((tmp_path / name / "drift.json").read_text())["times"][0]["metrics"]["accuracy"]["values"]
        for name in ("first", "second")
    )
    assert first[:1] == second
    # Two lines of the file's own, the digital row, five draws of the converters, and each chip twice at each time.
    assert len((tmp_path / "first" / "measurements.jsonl").read_text().splitlines()) == 2 + 6 + 12
