"""Recalibration through the commands: measured with and without, and written as an adapter."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from analog_lora_cli.cli import main
from analog_lora_cli.config.recalibration import Recalibration
from analog_lora_cli.config.schema import Config
from analog_lora_cli.errors import UsageError
from analog_lora_cli.evaluation.log import MeasurementLog
from analog_lora_cli.evaluation.stored_result import read_drift
from analog_lora_cli.models.build import build_from
from analog_lora_cli.models.recalibration import Recalibrator
from analog_lora_cli.models.tiling import put_on_tiles
from analog_lora_cli.models.training_inputs import batches_with_tokens
from analog_lora_cli.runtime import console
from analog_lora_cli.storage.checkpoint import read_checkpoint
from analog_lora_cli.workflows.drift import evaluate_drift
from analog_lora_cli.workflows.observer import SilentObserver
from analog_lora_cli.workflows.train import train as run_training

MakeConfig = Callable[..., Config]
SMALL = ["--set", "drift.recalibration_tokens=128", "--set", "drift.recalibration_reads=2"]
YEAR = 31536000.0


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, make_config: MakeConfig) -> Path:
    """Checkpoints of an encoder and a decoder without drift results."""
    folder = tmp_path_factory.mktemp("trained")
    for name, task, adapter in (
        ("sst2", "sst2", {}),
        ("instruction", "instruction", {"targets": ["q_proj"]}),
    ):
        config = make_config(task, adapter=adapter, train={"max_steps": 8, "learning_rate": 5e-3, "save_steps": 100})
        run_training(config, folder / name, SilentObserver(), drift=False)
        shutil.rmtree(folder / name / "drift")
    return folder


@pytest.fixture
def checkpoints(trained: Path, tmp_path: Path) -> Path:
    """A copy to write into."""
    return Path(shutil.copytree(trained, tmp_path / "c"))


def evaluate(folder: Path, *arguments: object) -> int:
    settings = ["--set", "drift.draws=1", *(SMALL if "--recalibrate" in arguments else [])]
    return main(["evaluate-drift", str(folder), *map(str, arguments), *settings, "--quiet"])


def result(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "drift/default/drift.json").read_text())
    return content


def lines(folder: Path) -> dict[str, object]:
    """The measurements in a log by their key, without the durations."""
    entries = [json.loads(line) for line in (folder / "measurements.jsonl").read_text().splitlines()[1:]]
    return {
        entry["measurement"]: (entry["metrics"], entry["samples"], entry.get("calibration", {}).get("ranks"))
        for entry in entries
        if "measurement" in entry
    }


def test_every_chip_is_measured_with_and_without(checkpoints: Path, tmp_path: Path) -> None:
    run = checkpoints / "sst2"
    options = ["--chips", 2, "--times", "0s,1y"]
    assert evaluate(run, *options, "--output", tmp_path / "without") == 0
    assert evaluate(run, *options, "--recalibrate", 4) == 0
    content = result(run)
    before = json.loads((tmp_path / "without/drift.json").read_text())
    assert before["recalibrated"] is before["recalibration"] is None
    assert content["times"] == before["times"], "what is measured without is what it always was"
    rows = content["recalibrated"]
    assert [row["label"] for row in rows] == ["0s", "1y"] and [row["reads"] for row in rows] == [[2, 2], [2, 2]]
    assert rows[0].keys() == content["times"][0].keys()
    own = content["recalibration"]
    assert (own["rank"], own["tokens"], own["reads"]) == (4, 128, 2)
    assert own["seconds"] > 0 and 0 < own["parameters"] <= 4 * (10 * 64 + 2 * 96 * 2) and max(own["ranks"].values()) > 4
    csv = (run / "drift/default/drift.csv").read_text()
    assert "default,recalibrated,1y,31536000,1,1,accuracy," in csv and csv.splitlines()[0].endswith(",calibrated")
    kept, log = lines(run / "drift/default"), run / "drift/default/measurements.jsonl"
    found = MeasurementLog(log, json.loads(log.read_text().splitlines()[0])).read().calibrations
    assert {one.kind for one in found} == {"recalibrated"} and len(found) == 8
    assert (
        evaluate(run, "--chips", 1, "--seed", 1, "--times", "1y", "--recalibrate", 4, "--output", tmp_path / "o") == 0
    )
    part = lines(tmp_path / "o")
    assert len(part) == 2 + 2 + 2 and all(kept[key] == part[key] for key in part), "the same on any process"
    assert evaluate(run, *options) == 0
    assert result(run) == content, "a smaller evaluation leaves it as it is"
    assert evaluate(run, "--chips", 1, "--times", "0s", "--recalibrate", 2) == 0
    assert result(run)["recalibration"]["rank"] == 2 and len(result(run)["recalibrated"]) == 1


def test_an_interrupted_one_goes_on(checkpoints: Path) -> None:
    run = checkpoints / "sst2"
    options = ["--chips", 1, "--times", "0s,1y", "--recalibrate", 2]
    assert evaluate(run, *options) == 0
    whole, log = result(run), run / "drift/default/measurements.jsonl"
    log.write_bytes(b"".join(log.read_bytes().splitlines(True)[:-3]) + b'{"measurement": "chip 0 at 3153')
    assert evaluate(run, *options) == 0
    again = result(run)
    for content in (whole, again):
        del content["recalibration"]["seconds"], content["sha256"]  # Durations differ, and so the seal.
    assert again == whole
    assert json.loads(log.read_text().splitlines()[-1])["measurement"].endswith("recalibrated at 31536000 s, rank 2, "
                                                                               "128 tokens x 2")  # fmt: skip


def test_a_calibration_is_used_until_later(checkpoints: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = checkpoints / "instruction"
    console.results.cache_clear()
    options = ["--chips", 1, "--times", "0s,1d,1y", "--recalibrate", 4, "--set", "drift.recalibrate_at=0s"]
    assert evaluate(run, *options) == 0
    table = capsys.readouterr().out
    assert max(map(len, table.splitlines())) <= 80
    stored = read_drift(run / "drift/default/drift.json", "run")
    assert [row.label for row in stored.further][-2:] == ["1d recalibrated at 0s", "1y recalibrated at 0s"]
    assert "1y recalibrated at 0s" in table and "rank 4 beside each layer" in table and "128 training" in table
    content = result(run)
    assert [row["label"] for row in content["recalibrated"]] == ["0s", "1d", "1y"]
    later = content["recalibrated_before"]
    assert [(row["label"], row["calibrated_seconds"]) for row in later] == [("1d", 0.0), ("1y", 0.0)]
    assert later[1]["metrics"] != content["recalibrated"][2]["metrics"]
    assert evaluate(run, "--chips", 1, "--times", "0s,1d") == 0
    assert result(run) == content, "what drift.json says is found again in the log"


def test_other_training_data_are_refused(checkpoints: Path, tmp_path: Path, make_config: MakeConfig) -> None:
    data = shutil.copy(make_config().task.train_file, tmp_path / "train.csv")
    config = make_config(task={"train_file": str(data)}, train={"max_steps": 1})
    run_training(config, tmp_path / "r", SilentObserver(), drift=False)
    Path(data).write_text(Path(data).read_text() + "the good,1\n")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError, match="has changed since the training of r"):
        evaluate_drift(tmp_path / "r", chips=1, times="0s", recalibrate=2)
    assert sorted(tmp_path.rglob("*")) == before
    run_training(make_config(train={"max_steps": 1}), tmp_path / "first", SilentObserver(), drift=False)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError, match="has changed since the training of r"):
        evaluate_drift([tmp_path / "first", tmp_path / "r"], chips=1, times="0s", recalibrate=2, output=tmp_path / "o")
    assert sorted(tmp_path.rglob("*")) == before, "the first is not measured before the second is refused"


def test_another_adapter_of_other_text_is_measured_before_and_after(checkpoints: Path, tmp_path: Path) -> None:
    run = checkpoints / "sst2"
    own = read_checkpoint(run).config.task.train_file
    Path(tmp_path / "mine.csv").write_text(Path(str(own)).read_text() + "the good,1\n")
    sets = [f"task.train_file={tmp_path / 'mine.csv'}", "train.max_steps=1", "drift.recalibrate=2", "drift.chips=1"]
    sets += ["drift.times=[1y]", *(text for text in SMALL if text != "--set")]
    options = [part for text in sets for part in ("--set", text)]
    assert main(["adapt", str(run), "--adapter", "mine", "--from", "default", *options, "--quiet"]) == 0
    report = json.loads((run / "drift/mine/adaptation.json").read_text())
    assert all(report["results"][name]["recalibrated"] for name in ("before", "after"))


def adapt(folder: Path, *arguments: object, **settings: object) -> int:
    preset = [] if "--preset" in arguments else ["--preset", "recalibrate-chip"]
    settings = {
        "objective.recalibration_rank": 4,
        "objective.recalibration_tokens": 128,
        "objective.recalibration_reads": 2,
        **settings,
    }
    options = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    return main(["adapt", str(folder), *preset, *map(str, arguments), *options, "--quiet"])


@pytest.mark.parametrize("name", ["sst2", "instruction"])
def test_the_correction_becomes_a_plain_lora_adapter(name: str, checkpoints: Path, tmp_path: Path) -> None:
    run = checkpoints / name
    assert adapt(run, "--chip", 3, "--at", "1y", "--no-drift") == 0
    opened = read_checkpoint(run)
    entry, config = opened.entry("recalibrate-chip"), opened.config_of("recalibrate-chip")
    assert (entry["from"], entry["chip"]) == ("default", {"seed": 3, "at": "1y"})
    assert entry["training"]["steps"] == 0 and entry["training"]["final_loss"] is None
    assert config.adapter.variant == "lora" and config.adapter.rank == opened.config.adapter.rank + 4
    assert entry["parameters"]["adapters"] > sum(entry["recalibration"]["ranks"].values())

    old = put_on_tiles(build_from(opened, "default", opened.config), opened.config.hardware)
    new = put_on_tiles(build_from(opened, "recalibrate-chip", config), config.hardware)
    batch = {key: value for key, value in batches_with_tokens(old.loaded, 64)[0].items() if key != "labels"}
    calibration = Recalibrator(old, Recalibration(4, 128, 2)).calibrate(3, YEAR)
    assert entry["recalibration"]["ranks"] == calibration.ranks
    logits = []
    for model in (old, new):
        torch.manual_seed(0)
        with model.on_chip(model.program(3), YEAR), torch.no_grad():
            if model is new:
                logits.append(model.loaded.module(**batch).logits)
            else:
                logits.append(model.loaded.module(**batch).logits)
                torch.manual_seed(0)
                with calibration.applied(model):
                    logits.append(model.loaded.module(**batch).logits)
    assert torch.allclose(logits[1], logits[2], atol=2e-3 * float(logits[1].abs().max()))
    assert not torch.allclose(logits[0], logits[1], atol=1e-2 * float(logits[1].abs().max()))

    assert main(["export", str(run), "--format", "peft", "--adapter", "recalibrate-chip", "--output",
                 str(tmp_path / "peft"), "--quiet"]) == 0  # fmt: skip
    auto = AutoModelForCausalLM if name == "instruction" else AutoModelForSequenceClassification
    theirs = PeftModel.from_pretrained(auto.from_pretrained(tmp_path / "peft/base"), tmp_path / "peft").eval()
    with new.digital(), torch.no_grad():
        assert torch.allclose(theirs(**batch).logits, new.loaded.module(**batch).logits, atol=1e-4)


def test_what_it_recovers_is_measured(checkpoints: Path) -> None:
    run = checkpoints / "sst2"
    settings = {"drift.chips": 2, "drift.draws": 1, "drift.times": "[1y]"}
    assert adapt(run, "--adapter", "again", "--chip", 1, "--at", "1y", **settings) == 0
    report = json.loads((run / "drift/again/adaptation.json").read_text())
    assert report["results"]["own chip after"]["chips"] == [1]
    assert report["cost"]["steps"] == 0 and report["cost"]["samples"] > 0
    assert adapt(run, "--adapter", "again", "--chip", 1, "--at", "1y", "--no-drift", **settings) == 2
    assert adapt(run, "--adapter", "again", "--chip", 1, "--at", "1y", "--no-drift", "--resume", **settings) == 0


@pytest.mark.parametrize(
    ("adapter", "arguments", "settings", "message"),
    [
        ({}, [], {}, "for one chip at one time: add --chip SEED --at TIME"),
        ({}, ["--chip", 1, "--at", "1y"], {"adapter.rank": 4}, "adapter.rank: a recalibration trains nothing"),
        ({}, ["--chip", 1, "--at", "1y"], {"train.max_steps": 4}, "train.max_steps: a recalibration trains nothing"),
        ({}, ["--chip", 1, "--at", "1y"], {"objective.recalibration_reads": 1}, "objective.recalibration_reads"),
        ({"variant": "dora", "dropout": 0.0}, ["--chip", 1, "--at", "1y"], {}, "adapter.variant dora: it scales each"),
        ({"variant": "vera"}, ["--chip", 1, "--at", "1y"], {}, "adapter.variant vera: it has one pair"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    adapter: dict[str, object], arguments: list[object], settings: dict[str, object], message: str,
    trained: Path, make_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run = Path(shutil.copytree(trained / "sst2", tmp_path / "r"))
    if adapter:
        shutil.rmtree(run)
        run_training(make_config(adapter=adapter, train={"max_steps": 1}), run, SilentObserver(), drift=False)
    before = sorted(run.rglob("*"))
    console.messages.cache_clear()
    assert adapt(run, *arguments, **settings) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert [path for path in sorted(run.rglob("*")) if path not in before and path.suffix != ".lock"] == []


def test_it_is_no_training(make_config: MakeConfig, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="adapt CHECKPOINT --preset recalibrate-chip"):
        run_training(make_config(objective={"kind": "recalibration"}), tmp_path / "r", SilentObserver())
    assert not (tmp_path / "r").exists()
