"""A wrong option or key is reported before torch is imported, and nothing is written."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from analog_lora_cli.config.schema import Config
from analog_lora_cli.errors import EXIT_USAGE
from analog_lora_cli.workflows.train import train
from tests.cli.test_interface import PROBE


@pytest.fixture(scope="module")
def checkpoint(make_config: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("order") / "run"
    train(make_config(train={"max_steps": 1}), folder, drift=False)
    return folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--preset", "quickstart", "--set", "hardware.adc_bit=6"], "hardware.adc_bits"),
        (["train", "--preset", "quickstart", "--chips", "-1"], "--chips: "),
        (["evaluate-drift", "RUN", "--set", "hardware.adc_bit=6"], "hardware.adc_bits"),
        (["evaluate-drift", "RUN", "--times", "soon"], "--times: 'soon' is not a time"),
        (["evaluate-drift", "RUN", "--reads", "0"], "--reads: "),
        (["adapt", "RUN", "--adapter", "x", "--set", "hardware.adc_bit=6"], "hardware.adc_bits"),
        (["adapt", "RUN", "--adapter", "x", "--chip", "1"], "--chip SEED and --at TIME belong together"),
        (["inspect-tiles", "RUN", "--set", "hardware.tile_row=6"], "hardware.tile_rows"),
        (["export", "RUN", "--format", "peft", "--output", "x", "--at", "soon"], "--at: 'soon' is not a time"),
    ],
)
def test_errors_come_before_torch(arguments: list[str], message: str, checkpoint: Path, tmp_path: Path) -> None:
    before = sorted(checkpoint.rglob("*"))
    command = [sys.executable, "-c", PROBE, *(str(checkpoint) if part == "RUN" else part for part in arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    *said, modules = done.stderr.splitlines()
    assert json.loads(modules) == [EXIT_USAGE, []]
    assert message in " ".join(" ".join(said).split()) and done.stdout == ""
    assert sorted(checkpoint.rglob("*")) == before and list(tmp_path.iterdir()) == []
