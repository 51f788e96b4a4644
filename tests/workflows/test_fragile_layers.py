"""`hardware.layers: auto:N` from the beginning of a training to later commands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import analog_lora_cli.workflows.train as train_workflow
from analog_lora_cli.config.schema import Config
from analog_lora_cli.errors import UsageError
from analog_lora_cli.storage.checkpoint import read_checkpoint
from analog_lora_cli.workflows.adapt import adapt
from analog_lora_cli.workflows.drift import evaluate_drift
from analog_lora_cli.workflows.inspect import inspect_tiles
from analog_lora_cli.workflows.observer import SilentObserver
from analog_lora_cli.workflows.train import train as run_training


class Stages(SilentObserver):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def stage(self, text: str) -> None:
        self.texts.append(text)


def test_the_layers_are_measured_once_and_stored(
    make_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, observer = tmp_path / "run", Stages()
    config = make_config(hardware={"layers": "auto:2"}, train={"max_steps": 2}, drift={"times": ["0s"], "chips": 1})
    run_training(config, folder, observer, drift=False)
    stored: dict[str, Any] = yaml.safe_load((folder / "analora.yaml").read_text())["hardware"]
    names = stored["digital_layers"]
    assert stored["layers"] == "auto:2" and len(names) == 2
    listed = next(text for text in observer.texts if "auto:2" in text)
    assert all(name in listed for name in names) and "%" in listed
    checkpoint = read_checkpoint(folder)
    assert not set(names) & checkpoint.analog_layers.keys() and checkpoint.analog_layers

    monkeypatch.setattr(train_workflow, "fragile_layers", None)  # Nothing measures again.
    run_training(config, folder, SilentObserver(), resume=True, drift=False)
    assert evaluate_drift(folder).measured
    other = make_config(hardware={"layers": "auto:3"}, train={"max_steps": 2}, drift={"times": ["0s"], "chips": 1})
    with pytest.raises(UsageError, match=r"hardware\.(layers|digital_layers)"):
        run_training(other, folder, SilentObserver(), resume=True)

    inspection = inspect_tiles(folder)
    reasons = {layer.name: layer.reason for layer in inspection.placement.layers}
    assert all(reasons[name] == "most fragile, auto:2" for name in names)
    assert 0 < inspection.placement.digital_macs < 1
    adapt(folder, adapter="more", overrides=["train.max_steps=1"], drift=False)
    assert read_checkpoint(folder).config_of("more").hardware.digital_layers == names


def test_other_commands_do_not_measure(make_config: Callable[..., Config], tmp_path: Path) -> None:
    config = make_config(train={"max_steps": 1}, method="digital")
    run_training(config, tmp_path / "run", SilentObserver(), drift=False)
    with pytest.raises(UsageError, match=r"measured when a training begins"):
        evaluate_drift(tmp_path / "run", overrides=["hardware.layers=auto:2"], output=tmp_path / "other")
