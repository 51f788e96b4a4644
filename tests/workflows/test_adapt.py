"""Further adapters for one checkpoint: tasks, hardware and aged chips, on weights that stay as they are."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from analog_lora_cli.cli import main
from analog_lora_cli.config.adapt import adaptation_config
from analog_lora_cli.config.schema import Config
from analog_lora_cli.errors import CheckpointError, UsageError
from analog_lora_cli.models.build import build_from
from analog_lora_cli.models.tiling import put_on_tiles
from analog_lora_cli.storage.checkpoint import read_checkpoint, verify_adapter
from analog_lora_cli.storage.locks import locked
from analog_lora_cli.storage.manifest import read_manifest, write_manifest
from analog_lora_cli.training.callbacks.chips import ChipInTheLoop
from analog_lora_cli.workflows.adaptation import Adaptation, AgedChip
from analog_lora_cli.workflows.observer import SilentObserver
from analog_lora_cli.workflows.recover import measure_recovery
from analog_lora_cli.workflows.train import train as run_training
from analog_lora_cli.workflows.train_adapter import train_adapter
from tests.workflows.test_train import Interrupted

MakeConfig = Callable[..., Config]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, make_config: MakeConfig) -> Path:
    """A checkpoint for question answering, which has no pooler, without drift results."""
    folder = tmp_path_factory.mktemp("trained") / "c"
    run_training(make_config("squad", train={"max_steps": 4}), folder, SilentObserver(), drift=False)
    shutil.rmtree(folder / "drift")
    return folder


@pytest.fixture(scope="module")
def trained_sst2(tmp_path_factory: pytest.TempPathFactory, make_config: MakeConfig) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "s"
    train = {"max_steps": 40, "learning_rate": 5e-3, "save_steps": 100}
    run_training(make_config(train=train), folder, SilentObserver(), drift=False)
    shutil.rmtree(folder / "drift")
    return folder


@pytest.fixture
def checkpoint(trained: Path, tmp_path: Path) -> Path:
    """A copy to write into."""
    return Path(shutil.copytree(trained, tmp_path / "c"))


@pytest.fixture
def sst2_checkpoint(trained_sst2: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained_sst2, tmp_path / "s"))


@pytest.fixture
def new_task(sst2_files: tuple[Path, Path]) -> list[str]:
    """Overrides that make SST-2 of whatever the checkpoint was trained for."""
    files = dict(zip(("train_file", "validation_file"), map(str, sst2_files), strict=True))
    return ["task.name=sst2", "task.max_length=32", *(f"task.{key}={value}" for key, value in files.items())]


def adapt(folder: Path, *arguments: object, sets: list[str] | None = None) -> int:
    options = [part for text in sets or [] for part in ("--set", text)]
    return main(["adapt", str(folder), *map(str, arguments), *options, "--quiet"])


def adaptation(folder: Path, name: str, overrides: list[str], **options: Any) -> Adaptation:
    opened = read_checkpoint(folder)
    base = opened.config_of(options.get("start") or "default")
    config = adaptation_config(base, None, None, overrides, in_the_loop="chip" in options)
    return Adaptation(opened, config, name, **options)


def files(folder: Path, *without: str) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(".lock") and not set(path.relative_to(folder).parts) & set(without)
    }


def tensors(folder: Path, name: str) -> dict[str, torch.Tensor]:
    return load_file(str(folder / "adapters" / name / "adapter_model.safetensors"))


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_a_new_task_gets_an_adapter_of_its_own_on_the_same_weights(checkpoint: Path, new_task: list[str]) -> None:
    before, old = files(checkpoint, "trainer"), read_checkpoint(checkpoint)
    assert adapt(checkpoint, "--adapter", "sst2", "--no-drift", sets=new_task) == 0
    after = files(checkpoint, "trainer", "drift")
    assert {name for name in after if before.get(name) != after[name]} == {
        "manifest.json",
        "log.txt",
        "adapters/sst2/analora.yaml",
        "adapters/sst2/adapter_config.json",
        "adapters/sst2/adapter_model.safetensors",
    }
    new = read_checkpoint(checkpoint)
    assert new.analog_layers == old.analog_layers
    assert new.entry("default") == old.entry("default")
    assert any("classifier" in key for key in tensors(checkpoint, "sst2")), "the head is stored with the adapter"
    model = put_on_tiles(build_from(new, "sst2", new.config_of("sst2")), new.config.hardware)
    assert model.mapped == model.analog_sha256() == old.analog_layers
    reasons = {layer.name: layer.reason for layer in model.placement.layers}
    assert reasons["bert.pooler.dense"] == "not on this chip", "the chip was programmed without it"


def test_a_chip_is_the_same_for_all_its_adapters(checkpoint: Path, new_task: list[str]) -> None:
    adapt(checkpoint, "--adapter", "sst2", "--no-drift", sets=new_task)
    opened = read_checkpoint(checkpoint)
    prints = []
    for name in ("default", "sst2"):
        chip = put_on_tiles(build_from(opened, name, opened.config_of(name)), opened.config.hardware).program(3)
        chip.age(31536000.0)
        prints.append(chip.fingerprint())
    assert prints[0] == prints[1]


def test_plain_peft_loads_a_second_adapter_with_its_head(
    checkpoint: Path, new_task: list[str], tiny_model: Path
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    sets = [*new_task, "method=digital", "train.max_steps=20", "train.learning_rate=5e-3"]
    adapt(checkpoint, "--adapter", "sst2", "--no-drift", sets=sets)
    opened = read_checkpoint(checkpoint)
    ours = build_from(opened, "sst2", opened.config_of("sst2"))
    plain = AutoModelForSequenceClassification.from_pretrained(str(tiny_model), num_labels=2)
    theirs = PeftModel.from_pretrained(plain, str(checkpoint / "adapters" / "sst2")).eval()
    assert ours.processor is not None
    inputs = ours.processor(["the tile is good"], return_tensors="pt")
    with torch.no_grad():
        assert torch.allclose(ours.module(**inputs).logits, theirs(**inputs).logits, atol=1e-6)


@pytest.mark.parametrize("variant", ["lora", "dora", "vera", "rslora"])
def test_an_adapter_starts_from_another(variant: str, make_config: MakeConfig, tmp_path: Path) -> None:
    options = {"variant": variant, "dropout": 0.0, "rank": 4}
    run_training(make_config(adapter=options), tmp_path / "c", SilentObserver(), drift=False)
    task = adaptation(tmp_path / "c", "next", ["train.max_steps=1", "train.learning_rate=1e-7"], start="default")
    train_adapter(task, SilentObserver())
    old, new = tensors(tmp_path / "c", "default"), tensors(tmp_path / "c", "next")
    assert old.keys() == new.keys()
    assert all(torch.allclose(old[key], new[key], atol=1e-6) for key in old)
    assert any(not torch.equal(old[key], new[key]) for key in old), "a step was taken"


def test_a_frozen_head_comes_along(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config("squad", adapter={"train_head": False}, train={"max_steps": 2})
    run_training(config, tmp_path / "c", SilentObserver(), drift=False)
    for name, start in (("from", "default"), ("fresh", None)):
        train_adapter(adaptation(tmp_path / "c", name, ["train.seed=9"], start=start), SilentObserver())
        head = "frozen_head.safetensors"
        assert (tmp_path / "c/adapters" / name / head).read_bytes() == (
            tmp_path / "c/adapters/default" / head
        ).read_bytes()


def test_new_hardware_is_measured_before_and_after(sst2_checkpoint: Path) -> None:
    sets = ["hardware.adc_bits=3", "hardware.dac_bits=3", "train.max_steps=6"]
    assert adapt(sst2_checkpoint, "--adapter", "coarse", "--from", "default", sets=sets) == 0
    report = json.loads((sst2_checkpoint / "drift/coarse/adaptation.json").read_text())
    results = report["results"]
    assert set(results) == {"old hardware", "before", "after"}
    assert results["old hardware"]["hardware"]["adc_bits"] == 8
    assert results["before"]["hardware"]["adc_bits"] == results["after"]["hardware"]["adc_bits"] == 3
    assert (results["before"]["adapter"], results["after"]["adapter"]) == ("default", "coarse")
    assert report["cost"]["steps"] == 6
    values = [results[key]["times"][-1]["metrics"]["accuracy"]["values"] for key in ("before", "after")]
    expected = sum(b - a for a, b in zip(*values, strict=True)) / 2
    assert report["recovered"]["1y"]["mean"] == pytest.approx(expected)
    lost = results["old hardware"]["times"][-1]["metrics"]["accuracy"]["mean"] - sum(values[0]) / 2
    assert report["lost"]["1y"] == pytest.approx(lost)
    assert (sst2_checkpoint / "drift/coarse/before/drift.json").is_file()
    assert not (sst2_checkpoint / "drift/default/drift.json").exists(), "the old adapter's own result stays as it was"


def test_an_aged_chip_is_trained_on_itself(sst2_checkpoint: Path) -> None:
    """With the noise of the reads away, training on the chip must see that chip's weights and no others."""
    arguments = ["--adapter", "aged", "--chip", 7, "--at", "1y"]
    assert adapt(sst2_checkpoint, *arguments, sets=["train.max_steps=3", "drift.chips=3"]) == 0
    opened = read_checkpoint(sst2_checkpoint)
    entry, config = opened.entry("aged"), opened.config_of("aged")
    assert (entry["from"], entry["chip"]) == ("default", {"seed": 7, "at": "1y"})
    assert config.hardware.weight_noise == 0.0
    report = json.loads((sst2_checkpoint / "drift/aged/adaptation.json").read_text())
    assert report["results"]["own chip after"]["chips"] == [7]
    assert report["results"]["after"]["chips"] == [0, 1, 2]
    assert report["recovered_elsewhere"]["1y"] is not None


def test_the_chip_in_the_loop_is_read_anew_and_never_as_in_the_evaluation(sst2_checkpoint: Path) -> None:
    opened = read_checkpoint(sst2_checkpoint)
    model = put_on_tiles(build_from(opened, "default", opened.config), opened.config.hardware)
    loop = ChipInTheLoop(model.layers, opened.config.hardware, 7, 31536000.0)
    layer = model.layers["bert.encoder.layer.0.attention.self.query"]
    held = []
    for step in (0, 9, 10):
        loop.on_step_begin(None, type("State", (), {"global_step": step}), None)
        held.append(layer.state.weight.clone())
    model.program(7).age(31536000.0)
    assert torch.equal(held[0], held[1]), "one reading for ten steps"
    assert not torch.equal(held[1], held[2])
    assert not torch.equal(held[0], layer.state.weight), "not the reading that the evaluation measures"
    own = (held[0] - layer.state.weight).norm()
    model.program(8).age(31536000.0)
    assert own < 0.7 * (held[0] - layer.state.weight).norm(), (
        "but the same chip: read noise is less than programming noise"
    )


def test_without_the_chip_option_others_must_not_be_counted_in(sst2_checkpoint: Path) -> None:
    """The trained chip is among those of `drift`: the column of the others must leave it out."""
    task = adaptation(sst2_checkpoint, "aged", ["train.max_steps=2"], start="default", chip=AgedChip(1, "1y"))
    recovery = measure_recovery(task, train_adapter(task, SilentObserver()), SilentObserver())
    elsewhere = recovery.elsewhere("1y")
    assert elsewhere is not None
    assert len(elsewhere["values"]) == 1
    recovered = recovery.recovered("1y")
    assert recovered is not None
    assert len(recovered["values"]) == 1


def test_all_adapters_are_shown_on_the_same_chips_with_what_they_save(
    checkpoint: Path, new_task: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from analog_lora_cli.runtime import console

    console.results.cache_clear()
    adapt(checkpoint, "--adapter", "sst2", "--no-drift", sets=new_task)
    capsys.readouterr()
    output = tmp_path / "out"
    code = main(["evaluate-drift", str(checkpoint), "--adapter", "all", "--output", str(output), "--quiet"])
    assert code == 0
    shown = capsys.readouterr().out
    assert "squad f1" in shown and "sst2 accuracy" in shown and "2 adapters on one deployment" in shown
    content = json.loads((output / "deployment.json").read_text())
    parameters, manifest = content["parameters"], read_checkpoint(checkpoint).manifest
    tiles = manifest["parameters"]["on_tiles"]
    assert parameters["on_tiles"] == tiles
    trained = manifest["parameters"]["trainable"] + manifest["adapters"]["sst2"]["parameters"]["trainable"]
    assert parameters["deployment"] == tiles + parameters["digital"] + trained
    assert parameters["separate"] == 2 * tiles + parameters["digital"] + parameters["heads"]
    assert content["adapters"]["sst2"]["chips"] == content["adapters"]["default"]["chips"]
    rule = ["--require", "accuracy>=101@1y"]
    assert main(["evaluate-drift", str(checkpoint), "--adapter", "all", *rule, "--quiet"]) == 3


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["hardware.tile_rows=256"], r"hardware\.tile_rows.*programmed|tile_rows.*program the chip anew"),
        (["hardware.clip_sigma=2"], r"hardware\.clip_sigma.*program the chip anew.*clipped"),
        (["hardware.g_max=20"], r"hardware\.g_max.*conductances"),
        (["hardware.device=hermes"], r"hardware\.device.*memory"),
        (["hardware.layers=[query]"], r"hardware\.layers"),
        (["method=full"], "method: full"),
        (["adapter.train_head=false"], r"adapter\.train_head"),
        (["hardware.adc_bitz=6"], "adc_bits"),
    ],
)
def test_what_would_program_the_chip_anew_is_refused(
    overrides: list[str], message: str, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from analog_lora_cli.runtime import console

    console.messages.cache_clear()
    before = files(checkpoint)
    assert adapt(checkpoint, "--adapter", "x", sets=overrides) == 2
    import re

    assert re.search(message, " ".join(capsys.readouterr().err.split()))
    assert files(checkpoint) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--adapter NAME"),
        (["--adapter", "default"], "meaning of its own"),
        (["--adapter", "all"], "meaning of its own"),
        (["--adapter", "../x"], "expected a name"),
        (["--adapter", "x", "--chip", "3"], "belong together"),
        (["--adapter", "x", "--chip", "3", "--at", "soon"], "--at: 'soon' is not a time"),
        (["--adapter", "x", "--from", "nothing"], "no adapter 'nothing'"),
        (["--adapter", "x", "--from", "default", "--set", "adapter.rank=2"], "adapter.rank is 8"),
        (["--adapter", "x", "--resume", "--overwrite"], "one of them"),
        (["--adapter", "x", "--from", "default", "--set", "task.name=sst2"], "--from default"),
        (["--preset", "squad-lora-bert-base"], "bert-base-uncased, the chip holds the weights of"),
    ],
)
def test_what_makes_no_sense_is_refused(
    arguments: list[str], message: str, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from analog_lora_cli.runtime import console

    console.messages.cache_clear()
    before = files(checkpoint)
    assert adapt(checkpoint, *arguments) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert files(checkpoint) == before


def test_a_full_checkpoint_has_no_adapters_to_add(make_config: MakeConfig, tmp_path: Path) -> None:
    run_training(make_config(method="full", train={"max_steps": 2}), tmp_path / "f", SilentObserver(), drift=False)
    with pytest.raises(UsageError, match="method full"):
        train_adapter(adaptation(tmp_path / "f", "x", ["method=lora"]), SilentObserver())


def test_a_digital_checkpoint_is_put_on_tiles_by_its_first_analog_adapter(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    run_training(make_config(method="digital", train={"max_steps": 2}), tmp_path / "d", SilentObserver(), drift=False)
    assert read_checkpoint(tmp_path / "d").analog_layers == {}
    train_adapter(adaptation(tmp_path / "d", "noisy", ["method=lora"], start="default"), SilentObserver())
    assert len(read_checkpoint(tmp_path / "d").analog_layers) == 13


def test_an_interrupted_adaptation_leaves_the_checkpoint_and_resumes_to_the_same(
    checkpoint: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(checkpoint, tmp_path / "whole"))
    overrides = ["hardware.adc_bits=6", "train.max_steps=8"]
    train_adapter(adaptation(other, "six", overrides, start="default"), SilentObserver())
    before = files(checkpoint, "trainer")
    report = SilentObserver()

    def step(number: int, samples: int) -> None:
        if number == 5:
            raise Interrupted

    report.training.step = step  # type: ignore[method-assign]
    with pytest.raises(Interrupted):
        train_adapter(adaptation(checkpoint, "six", overrides, start="default"), report)
    assert files(checkpoint, "trainer") == before
    with pytest.raises(CheckpointError, match="adapter six is not complete; finish it .* adapt --resume"):
        verify_adapter(read_checkpoint(checkpoint), "six")
    with pytest.raises(UsageError, match="unfinished adaptation six; continue it with --resume"):
        train_adapter(adaptation(checkpoint, "six", overrides, start="default"), SilentObserver())
    with pytest.raises(UsageError, match=r"train\.max_steps: 8 there, 9 here"):
        changed = adaptation(checkpoint, "six", [*overrides, "train.max_steps=9"], start="default")
        train_adapter(changed, SilentObserver(), resume=True)
    with pytest.raises(UsageError, match="--from: 'default' there, None here"):
        train_adapter(adaptation(checkpoint, "six", overrides), SilentObserver(), resume=True)
    done = train_adapter(adaptation(checkpoint, "six", overrides, start="default"), SilentObserver(), resume=True)
    assert done.entry("six")["training"]["resumed_from"] == 4
    assert same(tensors(checkpoint, "six"), tensors(other, "six"))


def test_an_existing_adapter_is_replaced_only_when_asked(checkpoint: Path) -> None:
    train_adapter(adaptation(checkpoint, "x", ["train.max_steps=1"]), SilentObserver())
    old = tensors(checkpoint, "x")
    with pytest.raises(UsageError, match="has an adapter x already.*--overwrite"):
        train_adapter(adaptation(checkpoint, "x", ["train.max_steps=2"]), SilentObserver())
    assert same(old, tensors(checkpoint, "x"))
    assert train_adapter(adaptation(checkpoint, "x", ["train.max_steps=1"]), SilentObserver(), resume=True)
    train_adapter(adaptation(checkpoint, "x", ["train.max_steps=2"]), SilentObserver(), overwrite=True)
    assert not same(old, tensors(checkpoint, "x"))


def test_two_adaptations_at_once_do_not_get_in_each_others_way(checkpoint: Path) -> None:
    first = adaptation(checkpoint, "x", ["train.max_steps=2"])
    second = adaptation(checkpoint, "y", ["train.max_steps=2"])
    with locked(first.trainer_folder), pytest.raises(UsageError, match="another process"):
        train_adapter(first, SilentObserver())
    train_adapter(second, SilentObserver())
    done = train_adapter(first, SilentObserver(), resume=True)
    assert done.adapters == ["default", "x", "y"], "the manifest keeps what the other has written meanwhile"


def test_changed_bases_and_adapters_are_noticed(checkpoint: Path, tiny_model: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    copied = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    train_adapter(adaptation(checkpoint, "moved", [f"model.name={copied}", "train.max_steps=1"]), SilentObserver())
    weights = load_file(str(copied / "model.safetensors"))
    weights["embeddings.word_embeddings.weight"][3, 0] += 1
    save_file(weights, str(copied / "model.safetensors"), metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="not the weights"):
        train_adapter(adaptation(checkpoint, "other", [f"model.name={copied}"]), SilentObserver())
    (checkpoint / "adapters/moved/analora.yaml").write_text("task: {}\n")
    assert main(["evaluate-drift", str(checkpoint), "--adapter", "moved", "--quiet"]) == 2


def test_a_manifest_of_other_analog_weights_is_noticed(checkpoint: Path) -> None:
    content = read_manifest(checkpoint)
    name = next(iter(content["analog_layers"]))
    content["analog_layers"][name] = "0" * 64
    write_manifest(checkpoint, content)
    with pytest.raises(CheckpointError, match=f"{name}: the weights on tiles are not those of the training"):
        train_adapter(adaptation(checkpoint, "x", []), SilentObserver())


@pytest.mark.slow
def test_an_adaptation_killed_at_any_point_resumes_to_the_same_adapter(checkpoint: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(checkpoint, tmp_path / "whole"))
    (tmp_path / "six.yaml").write_text(
        yaml.safe_dump({"hardware": {"adc_bits": 6}, "train": {"max_steps": 30, "save_steps": 3}})
    )
    options = ["--config", str(tmp_path / "six.yaml"), "--from", "default", "--resume"]

    def start(folder: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "analog_lora_cli", "adapt", str(folder), *options],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    assert start(other).wait() == 0
    trainer, finished = checkpoint / "trainer/adapters/six", checkpoint / "drift/six/measurements.jsonl"
    moments: list[Callable[[], bool]] = [
        lambda: (trainer / "checkpoint-12").exists(),
        lambda: finished.exists() and finished.read_text().count("\n") > 2,
    ]
    for moment in moments:
        process = start(checkpoint)
        while process.poll() is None and not moment():
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert read_checkpoint(checkpoint).entry("default") == read_checkpoint(other).entry("default")
    assert start(checkpoint).wait() == 0
    assert same(tensors(checkpoint, "six"), tensors(other, "six"))
    results = [json.loads((folder / "drift/six/adaptation.json").read_text()) for folder in (checkpoint, other)]
    for content in results:
        del content["cost"]["seconds"]
    assert results[0] == results[1]


def test_old_and_new_hardware_are_measured_on_the_same_samples(sst2_checkpoint: Path) -> None:
    sets = ["hardware.adc_bits=6", "task.max_eval_samples=5", "train.max_steps=1", "drift.chips=1"]
    assert adapt(sst2_checkpoint, "--adapter", "six", "--from", "default", sets=sets) == 0
    results = json.loads((sst2_checkpoint / "drift/six/adaptation.json").read_text())["results"]
    assert results.keys() == {"old hardware", "before", "after"}
    assert all(one["samples"]["validation"]["samples"] == 5 for one in results.values())


def test_other_samples_are_no_other_hardware(sst2_checkpoint: Path) -> None:
    sets = ["task.max_eval_samples=5", "train.max_steps=1", "drift.chips=1"]
    assert adapt(sst2_checkpoint, "--adapter", "few", "--from", "default", sets=sets) == 0
    report = json.loads((sst2_checkpoint / "drift/few/adaptation.json").read_text())
    assert report["results"].keys() == {"before", "after"}
