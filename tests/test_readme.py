"""README's section on a user's own data does what it says."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from analog_lora_cli.cli import main

README = Path(__file__).parents[1] / "README.md"


def own_data_block() -> str:
    """The configuration in README's section on a user's own data."""
    section = README.read_text(encoding="utf-8").partition("## Your own model, your own data")[2]
    return section.partition("```yaml\n")[2].partition("```")[0]


def test_own_data(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my-run.yaml").write_text(own_data_block())
    with Path("train.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["title", "body", "topic"])
        writer.writerows(["the chip", f"it is {kind}", kind] for kind in ("cold", "fast", "good", "warm") * 10)
    command = ["train", "--config", "my-run.yaml", "--output", "run", "--quiet", "--chips", "1", "--times", "1y"]
    changes = [f"model.name={tiny_model}", "train.max_steps=3", "task.max_length=32"]
    assert main([*command, *(part for change in changes for part in ("--set", change))]) == 0
    digital = json.loads(Path("run/metrics.json").read_text())["digital"]
    assert list(digital) == ["accuracy", "f1_macro", "matthews_correlation"]
