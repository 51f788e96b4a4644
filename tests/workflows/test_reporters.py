"""Drift results reach TensorBoard and Weights & Biases when `train.report_to` names them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from analog_lora_cli.config.schema import Config
from analog_lora_cli.workflows.train import train

MakeConfig = Callable[..., Config]


def test_tensorboard_gets_table_plot_and_means(make_config: MakeConfig, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(make_config(train={"report_to": ["tensorboard"], "max_steps": 2}), tmp_path / "run")
    events = EventAccumulator(str(tmp_path / "run/trainer/runs/drift-default"))
    events.Reload()
    tags = events.Tags()
    assert tags["images"] == ["drift"] and "drift/text_summary" in tags["tensors"]
    content = json.loads((tmp_path / "run/drift/default/drift.json").read_text())
    expected = [(int(one["seconds"]), one["metrics"]["accuracy"]["mean"]) for one in content["times"]]
    assert [(one.step, pytest.approx(one.value)) for one in events.Scalars("drift/accuracy")] == expected


def test_wandb_gets_them_offline(make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    train(make_config(train={"report_to": ["wandb"], "max_steps": 2}), tmp_path / "run")
    (media,) = (tmp_path / "wandb").glob("offline-run-*/files/media")
    assert list(media.glob("images/drift/*.png")) and list(media.glob("table/drift/*.json"))
