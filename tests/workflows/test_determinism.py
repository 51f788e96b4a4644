"""The same seed in other processes, with one thread and with two: what is the same bit by bit, and what nearly."""

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

from analog_lora_cli.config.load import dump_config
from analog_lora_cli.config.schema import Config
from analog_lora_cli.workflows.observer import SilentObserver
from analog_lora_cli.workflows.train import train as run_training

ADAPTER = "adapters/default/adapter_model.safetensors"


def analora(*arguments: object, threads: int = 1) -> None:
    command = [sys.executable, "-m", "analog_lora_cli", *map(str, arguments), "--quiet"]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONHASHSEED": "random"}
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert finished.returncode == 0, finished.stderr[-3000:]


def same_seed(make_config: Callable[..., Config]) -> Config:
    """A training with batches that are large enough for torch to share their products among threads."""
    train = {"per_device_train_batch_size": 48, "max_steps": 6, "save_steps": 100}
    return make_config(train=train, adapter={"dropout": 0.1})


Runs = Callable[[str, int], Path]


@pytest.fixture(scope="module")
def trained(make_config: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Trains in a process of its own, always the same, under a name and with a number of threads; each name once."""
    folder = tmp_path_factory.mktemp("same-seed")
    (folder / "run.yaml").write_text(dump_config(same_seed(make_config)))

    def run(name: str, threads: int) -> Path:
        output = folder / name
        if not output.exists():
            analora("train", "--config", folder / "run.yaml", "--output", output, "--no-drift", threads=threads)
        return output

    return run


def test_the_same_seed_gives_the_same_adapter(
    trained: Runs, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    """In a process of its own, and in this one, which has another hash seed and has done other things before."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        run_training(same_seed(make_config), tmp_path / "again", SilentObserver(), drift=False)
    finally:
        torch.set_num_threads(threads)
    assert (trained("first", 1) / ADAPTER).read_bytes() == (tmp_path / "again" / ADAPTER).read_bytes()


@pytest.mark.slow
def test_other_threads_give_the_same_adapter_up_to_rounding_and_the_manifest_says_so(trained: Runs) -> None:
    folders = [trained("first", 1), trained("two threads", 2)]
    first, other = (load_file(str(folder / ADAPTER)) for folder in folders)
    for key, tensor in first.items():
        assert torch.allclose(tensor, other[key], atol=1e-3 * float(tensor.abs().max()) + 1e-6), key
    said = [json.loads((folder / "manifest.json").read_text())["numerics"] for folder in folders]
    assert [entry["threads"] for entry in said] == [1, 2]
    assert {entry["processes"] for entry in said} == {1}
    if not torch.cuda.is_available():
        assert all("bit-identical results with" in entry["same_seed_gives"] for entry in said)
        assert {entry["kernels"] for entry in said} == {"numba"}


@pytest.mark.slow
def test_chips_measure_the_same_with_other_threads(trained: Runs, tmp_path: Path) -> None:
    files = []
    for threads in (1, 2):
        output = tmp_path / str(threads)
        analora("evaluate-drift", trained("first", 1), "--chips", 3, "--output", output, "--overwrite", threads=threads)
        files.append((output / "drift.json").read_bytes())
    assert files[0] == files[1]
