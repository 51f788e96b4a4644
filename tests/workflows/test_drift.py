"""`evaluate_drift` on several checkpoints: each has a name of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from analog_lora_cli.config.schema import Config
from analog_lora_cli.storage.checkpoint import Checkpoint
from analog_lora_cli.workflows.drift import _distinct
from analog_lora_cli.workflows.subject import Subject

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
