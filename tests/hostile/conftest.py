"""A checkpoint of each kind, with drift results, a second adapter and the states of its training."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from analog_lora_cli.cli import main
from analog_lora_cli.config.schema import Config
from analog_lora_cli.workflows.observer import SilentObserver
from analog_lora_cli.workflows.train import train as run_training

TRAIN = {"max_steps": 30, "learning_rate": 5e-3, "save_steps": 10, "save_total_limit": 3}


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory, make_config: Callable[..., Config]) -> Path:
    """Checkpoints `lora` (two adapters) and `full`, evaluated on two chips."""
    folder = tmp_path_factory.mktemp("whole")
    for method in ("lora", "full"):
        config = make_config(method=method, train=TRAIN, drift={"chips": 2, "times": ["0s", "1y"]})
        run_training(config, folder / method, SilentObserver())
        assert main(["evaluate-drift", str(folder / method), "--quiet"]) == 0
    second = ["--adapter", "second", "--quiet"]
    assert main(["adapt", str(folder / "lora"), *second, "--set", "train.seed=7", "--no-drift"]) == 0
    assert main(["evaluate-drift", str(folder / "lora"), *second]) == 0
    return folder


@pytest.fixture
def checkpoint(whole: Path, tmp_path: Path) -> Path:
    """A copy of `lora` to damage."""
    return Path(shutil.copytree(whole / "lora", tmp_path / "lora"))
