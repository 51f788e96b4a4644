"""Reinforcement learning goes on from an adapter of another task, through the commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from analog_lora_cli.cli import main

pytest.importorskip("trl")

DATA = "package:analog_lora_cli/data"
SHORT = ["--set", "drift.chips=1", "--set", "drift.times=[0s]", "--set", "drift.draws=1", "--set", "drift.reads=1"]
ADAPTER = "adapters/{}/adapter_model.safetensors"


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that was tuned on instructions, on tiles."""
    folder = tmp_path_factory.mktemp("tuned") / "c"
    files = [f"task.{role}_file={DATA}/instructions/{role}.json" for role in ("train", "validation")]
    config = ["task.name=instruction", f"model.name={DATA}/tiny-llama", *files, "task.max_length=448"]
    short = ["task.max_train_samples=8", "task.max_eval_samples=4", "train.max_steps=2", "adapter.dropout=0"]
    settings = [*config, *short, "train.per_device_train_batch_size=4", "hardware.clip_sigma=0"]
    (folder.parent / "tuned.yaml").write_text("method: lora\n")
    options = [part for setting in settings for part in ("--set", setting)]
    command = ["train", "--config", str(folder.parent / "tuned.yaml"), *options, "--output", str(folder), "--no-drift"]
    assert main(command) == 0
    return folder


def adapt(checkpoint: Path, *options: str) -> int:
    return main(["adapt", str(checkpoint), "--preset", "smoke-reasoning-grpo", *options, *SHORT])


def test_it_goes_on_from_another_task(tuned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert adapt(tuned, "--from", "default", "--adapter", "solver", "--set", "train.max_steps=2") == 0
    before, after = (load_file(tuned / ADAPTER.format(name)) for name in ("default", "solver"))
    assert before.keys() == after.keys() and any(not torch.equal(before[name], after[name]) for name in before)
    manifest = json.loads((tuned / "manifest.json").read_text())
    assert manifest["adapters"]["solver"]["task"] == "reasoning"
    log = manifest["adapters"]["solver"]["training"]["log"]
    assert all({"reward", "completions/mean_length", "rewards/format_soft/mean"} <= entry.keys() for entry in log)
    recovery = json.loads((tuned / "drift/solver/adaptation.json").read_text())
    assert recovery["metric"] == "exact_match"
    assert set(recovery["results"]) == {"before", "after"}, "both on the new task, nothing of the old one"
    output = capsys.readouterr()
    assert "reward" in output.err + output.out


def test_resumed_it_is_the_same(tuned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ended by force after a saved state."""
    options = ["--no-drift", "--set", "train.save_steps=1", "--set", "train.max_steps=3"]
    assert adapt(tuned, "--adapter", "whole", *options) == 0
    from analog_lora_cli.training.grpo import trainer

    step = trainer.GrpoTrainer.training_step

    def fails_in_the_third(self: trainer.GrpoTrainer, *arguments: object) -> torch.Tensor:
        if self.state.global_step == 2:
            raise RuntimeError("killed")
        return step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(trainer.GrpoTrainer, "training_step", fails_in_the_third)
        assert adapt(tuned, "--adapter", "killed", *options) != 0
    assert adapt(tuned, "--adapter", "killed", "--resume", *options) == 0
    whole, killed = (load_file(tuned / ADAPTER.format(name)) for name in ("whole", "killed"))
    assert all(torch.equal(whole[name], killed[name]) for name in whole)


def test_an_adapter_that_cannot_be_gone_on_with(tuned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert adapt(tuned, "--from", "default", "--adapter", "wide", "--set", "adapter.rank=3") == 2
    assert "adapter.rank is 8, which cannot change" in " ".join(capsys.readouterr().err.split())
