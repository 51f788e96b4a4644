"""`evaluate_drift` on several checkpoints: each has a name of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from analog_lora_cli.config.schema import Config
from analog_lora_cli.errors import UsageError
from analog_lora_cli.storage.checkpoint import Checkpoint
from analog_lora_cli.workflows.drift import _distinct, evaluate_drift
from analog_lora_cli.workflows.observer import SilentObserver
from analog_lora_cli.workflows.subject import Subject
from analog_lora_cli.workflows.train import train as run_training

MakeConfig = Callable[..., Config]


def test_folders_of_one_name_are_told_apart(make_config: MakeConfig, tmp_path: Path) -> None:
    def names(*adapters: tuple[str, str]) -> list[str]:
        subjects = [Subject(Checkpoint(tmp_path / folder, config, {}), config, name) for folder, name in adapters]
        return [subject.name for subject in _distinct(subjects)]

    config = make_config()
    assert names(("a/run", "default"), ("b/run", "default")) == ["a/run", "b/run"]
    assert names(("run", "default"), ("run/run", "default")) == ["run", "run/run"]
    assert names(("a/run", "six"), ("b/run", "six"), ("b/other", "default")) == ["a/run/six", "b/run/six", "b/other"]
    assert names(("a/run", "default"), ("b/digital", "default"), ("a/run", "six")) == ["run", "digital", "run/six"]
    assert names(("a/run", "default"), ("b/../a/run", "default")) == ["run"]


def test_trained_weights_are_not_clipped_again(make_config: MakeConfig, tmp_path: Path) -> None:
    run_training(make_config(method="full", train={"max_steps": 1}), tmp_path / "run", SilentObserver(), drift=False)
    with pytest.raises(UsageError, match=r"hardware\.clip_sigma: would change nothing here.*in training, at 3\.0"):
        evaluate_drift(tmp_path / "run", overrides=["hardware.clip_sigma=1.0"], output=tmp_path / "out")
    assert not (tmp_path / "out").exists()
