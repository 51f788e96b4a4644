"""Whole runs on a tiny model: every method, every variant, the exact files, resume after SIGKILL."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from analog_lora_cli.config.load import dump_config
from analog_lora_cli.config.schema import Config
from analog_lora_cli.errors import AnaloraError, CheckpointError, UsageError
from analog_lora_cli.models.build import build_from
from analog_lora_cli.models.tiling import AnalogModel, put_on_tiles
from analog_lora_cli.storage.checkpoint import read_checkpoint
from analog_lora_cli.workflows.observer import SilentObserver
from analog_lora_cli.workflows.train import prepare
from analog_lora_cli.workflows.train import train as run_training

MakeConfig = Callable[..., Config]


def adapter(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(str(folder / "adapters" / "default" / "adapter_model.safetensors"))


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize(
    ("task", "method"), [("sst2", "lora"), ("sst2", "digital"), ("sst2", "full"), ("squad", "lora")]
)
def test_each_method_writes_the_files_of_the_contract(
    task: str, method: str, make_config: MakeConfig, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    result = run_training(make_config(task, method=method), folder, SilentObserver())
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    names = {name for name in names if not name.startswith("trainer/") and not name.endswith(".lock")}
    weights = {"model/config.json", "model/model.safetensors"}
    if method != "full":
        weights = {"adapters/default/adapter_config.json", "adapters/default/adapter_model.safetensors"}
    tokenizer = {"tokenizer.json", "tokenizer_config.json"}
    results = {
        f"drift/default/{name}"
        for name in ("measurements.jsonl", "drift.json", "drift.csv", "drift.png", "samples.npz")
    }
    assert names == {"analora.yaml", "manifest.json", "metrics.json"} | results | weights | tokenizer
    assert set(json.loads((folder / "metrics.json").read_text())) == {"digital", "analog", "train"}
    assert result.drift is not None
    assert len(result.drift.measurements) == 8
    assert read_checkpoint(folder).config == make_config(task, method=method)


def test_training_under_noise_learns_and_leaves_the_base_alone(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(train={"max_steps": 60, "learning_rate": 5e-3, "save_steps": 100})
    result = run_training(config, tmp_path / "run", SilentObserver())
    assert result.metrics["digital"]["accuracy"] > 90
    assert result.drift is not None
    assert result.drift.summary("accuracy", "0s")["mean"] > 80
    assert result.baseline["accuracy"] == pytest.approx(50)


def test_plain_peft_loads_the_adapter_with_its_head(make_config: MakeConfig, tmp_path: Path, tiny_model: Path) -> None:
    config = make_config(method="digital", train={"max_steps": 30, "learning_rate": 5e-3})
    run_training(config, tmp_path / "run", SilentObserver())
    checkpoint = read_checkpoint(tmp_path / "run")
    ours = build_from(checkpoint, "default", config)
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    plain = AutoModelForSequenceClassification.from_pretrained(str(tiny_model), num_labels=2)
    theirs = PeftModel.from_pretrained(plain, str(tmp_path / "run" / "adapters" / "default")).eval()
    assert ours.processor is not None
    inputs = ours.processor(["the tile is good"], return_tensors="pt")
    with torch.no_grad():
        assert torch.allclose(ours.module(**inputs).logits, theirs(**inputs).logits, atol=1e-6)
    head = [key for key in adapter(tmp_path / "run") if "classifier" in key]
    assert head, "the head must be stored with the adapter"


@pytest.mark.parametrize(
    "options",
    [
        {"variant": "rslora"},
        {"variant": "dora", "dropout": 0.0},
        {"variant": "adalora"},
        {"variant": "vera", "rank": 4},
        {"variant": "lora+"},
        {"init": "gaussian"},
        {"init": "error-aware"},
        {"train_head": False},
        {"targets": ["query", "value"]},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_each_adapter_trains_resumes_and_loads(
    options: dict[str, Any], make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config(adapter=options, drift={"chips": 1, "times": ["1y"], "draws": 1})
    run_training(config, tmp_path / "whole", SilentObserver(), drift=False)
    interrupt_after(config, tmp_path / "cut", steps=5)
    result = run_training(config, tmp_path / "cut", SilentObserver(), resume=True)
    assert result.metrics["train"]["resumed_from"] == 4
    assert same(adapter(tmp_path / "whole"), adapter(tmp_path / "cut"))
    assert result.drift is not None and len(result.drift.measurements) == 2


class Interrupted(Exception):
    """Stands for whatever ends a run."""


def interrupt_after(config: Config, folder: Path, steps: int) -> None:
    """Start a run and break it off after some steps."""
    report = SilentObserver()

    def step(number: int, samples: int) -> None:
        if number == steps:
            raise Interrupted

    report.training.step = step  # type: ignore[method-assign]
    with pytest.raises(Interrupted):
        run_training(config, folder, report)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_resume_in_a_later_epoch_sees_the_same_data_and_noise(
    method: str, make_config: MakeConfig, tmp_path: Path
) -> None:
    train = {"max_steps": -1, "num_train_epochs": 3.0, "per_device_train_batch_size": 16, "save_steps": 4}
    hardware = {"weight_noise_ramp": 0.5}
    config = make_config(method=method, train=train, hardware=hardware)
    run_training(config, tmp_path / "whole", SilentObserver(), drift=False)
    interrupt_after(config, tmp_path / "cut", steps=11)
    run_training(config, tmp_path / "cut", SilentObserver(), resume=True, drift=False)
    file = "model/model.safetensors" if method == "full" else "adapters/default/adapter_model.safetensors"
    assert same(load_file(str(tmp_path / "whole" / file)), load_file(str(tmp_path / "cut" / file)))


@pytest.mark.slow
def test_a_run_killed_at_any_point_resumes_to_the_same_adapter(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(train={"max_steps": 40, "save_steps": 3}, drift={"chips": 3})
    (tmp_path / "config.yaml").write_text(dump_config(config))
    command = [sys.executable, "-m", "analog_lora_cli", "train", "--config", str(tmp_path / "config.yaml"), "--resume"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def start(folder: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*command, "--output", str(tmp_path / folder)],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    assert start("whole").wait() == 0
    trainer, finished = tmp_path / "cut" / "trainer", tmp_path / "cut" / "drift" / "default" / "measurements.jsonl"
    moments: list[Callable[[], bool]] = [
        lambda: (tmp_path / "cut" / "analora.yaml").exists(),
        lambda: any(trainer.glob("checkpoint-*")),
        lambda: (trainer / "checkpoint-21").exists(),
        lambda: finished.exists() and finished.read_text().count("\n") > 3,
    ]
    for moment in moments:
        process = start("cut")
        while process.poll() is None and not moment():
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert start("cut").wait() == 0
    assert same(adapter(tmp_path / "whole"), adapter(tmp_path / "cut"))
    whole = json.loads((tmp_path / "whole" / "drift/default/drift.json").read_text())
    assert json.loads((tmp_path / "cut" / "drift/default/drift.json").read_text()) == whole


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_saves_and_ends_within_seconds(number: int, make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(train={"max_steps": 100, "save_steps": 20})
    (tmp_path / "config.yaml").write_text(dump_config(config))
    command = [
        sys.executable,
        "-m",
        "analog_lora_cli",
        "train",
        "--config",
        str(tmp_path / "config.yaml"),
        "--no-drift",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*command, "--output", str(tmp_path / "cut")],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    trainer = tmp_path / "cut" / "trainer"
    while process.poll() is None and not (trainer / "checkpoint-20").exists():
        time.sleep(0.005)
    sent = time.monotonic()
    process.send_signal(number)
    said = process.communicate()[1]
    assert process.returncode == 130
    assert time.monotonic() - sent < 10
    assert "--resume" in said
    last = max(int(state.name.rpartition("-")[2]) for state in trainer.glob("checkpoint-*"))
    assert 20 <= last < 100
    done = [run_training(config, tmp_path / "cut", SilentObserver(), resume=True, drift=False)]
    done.append(run_training(config, tmp_path / "whole", SilentObserver(), drift=False))
    assert done[0].metrics["train"]["resumed_from"] == last
    assert same(adapter(tmp_path / "whole"), adapter(tmp_path / "cut"))


def test_weight_noise_of_the_device_programs_a_new_chip_each_step(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(hardware={"weight_noise_type": "device"}, train={"max_steps": 3})
    result = run_training(config, tmp_path / "run", SilentObserver(), drift=False)
    other = run_training(make_config(train={"max_steps": 3}), tmp_path / "gaussian", SilentObserver(), drift=False)
    assert result.metrics["train"]["final_loss"] != other.metrics["train"]["final_loss"]


def test_the_aihwkit_simulator_trains_and_agrees_without_noise(make_config: MakeConfig, tmp_path: Path) -> None:
    quiet = {"output_noise": 0.0, "weight_noise": 0.0}
    drift = {"chips": 1}
    results = []
    for simulator in ("fast", "aihwkit"):
        hardware = {**quiet, "simulator": simulator}
        config = make_config(hardware=hardware, adapter={"dropout": 0.0}, drift=drift, train={"max_steps": 4})
        run_training(config, tmp_path / simulator, SilentObserver(), drift=False)
        results.append(adapter(tmp_path / simulator))
    for key, tensor in results[0].items():
        # aihwkit lets the gradient flow through each token's input scale, this project's tile does not.
        cosine = torch.nn.functional.cosine_similarity(tensor.flatten(), results[1][key].flatten(), dim=0)
        assert cosine > 0.95, key


def test_folders_in_use_are_refused_and_nothing_is_lost(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(train={"max_steps": 2})
    folder = tmp_path / "run"
    run_training(config, folder, SilentObserver(), drift=False)
    before = adapter(folder)
    with pytest.raises(UsageError, match="--resume.*--overwrite"):
        run_training(config, folder, SilentObserver(), drift=False)
    other = make_config(train={"max_steps": 3})
    with pytest.raises(UsageError, match=r"train\.max_steps: 2 there, 3 here"):
        run_training(other, folder, SilentObserver(), resume=True, drift=False)
    assert same(before, adapter(folder))
    run_training(other, folder, SilentObserver(), overwrite=True, drift=False)
    assert not same(before, adapter(folder))
    assert [path.name for path in tmp_path.iterdir()] == ["run"], "the replaced run is removed at the end"


def test_a_failed_overwrite_keeps_the_old_run(make_config: MakeConfig, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run_training(make_config(train={"max_steps": 2}), folder, SilentObserver(), drift=False)
    before = adapter(folder)
    report = SilentObserver()
    report.training.step = lambda number, samples: (_ for _ in ()).throw(Interrupted())  # type: ignore[method-assign]
    with pytest.raises(Interrupted):
        run_training(make_config(train={"max_steps": 3}), folder, report, overwrite=True, drift=False)
    (aside,) = [path for path in tmp_path.iterdir() if "replaced" in path.name]
    assert same(before, adapter(aside))


def test_changed_or_damaged_weights_are_noticed(make_config: MakeConfig, tmp_path: Path, tiny_model: Path) -> None:
    import shutil

    copied = tmp_path / "model"
    shutil.copytree(tiny_model, copied)
    config = make_config(model={"name": str(copied)}, train={"max_steps": 2})
    folder = tmp_path / "run"
    run_training(config, folder, SilentObserver(), drift=False)
    file = folder / "adapters/default/adapter_model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(CheckpointError, match="damaged"):
        run_training(config, folder, SilentObserver(), resume=True, drift=False)
    file.write_bytes(whole)
    from safetensors.torch import save_file

    weights = load_file(str(copied / "model.safetensors"))
    weights["encoder.layer.0.attention.self.query.weight"][0, 0] += 1
    save_file(weights, str(copied / "model.safetensors"), metadata={"format": "pt"})
    (folder / "drift/default/measurements.jsonl").unlink()  # What was measured on the right base stays valid.
    with pytest.raises(CheckpointError, match="not the weights"):
        run_training(config, folder, SilentObserver(), resume=True, drift=False)


def test_a_diverged_training_is_an_error(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(train={"learning_rate": 1e30, "logging_nan_inf_filter": False, "max_grad_norm": 0.0})
    with pytest.raises(AnaloraError, match="diverged"):
        run_training(config, tmp_path / "run", SilentObserver(), drift=False)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"adapter": {"targets": ["qurey"]}}, r"adapter\.targets.*'qurey'.*query"),
        ({"hardware": {"layers": ["nothing"]}}, r"hardware\.layers.*'nothing'"),
        ({"task": {"max_length": 128}}, r"task\.max_length.*64"),
        ({"hardware": {"simulator": "aihwkit"}, "method": "full"}, "simulator"),
        ({"hardware": {"device": "reram-wan2022"}}, r"1s, 1d, 2d"),
        ({"hardware": {"device_options": {"prog_noise_scal": 1}}}, "prog_noise_scale"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    sections: dict[str, Any], message: str, make_config: MakeConfig, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        run_training(make_config(**sections), tmp_path / "run", SilentObserver())
    assert not any(tmp_path.iterdir())


def analog(config: Config) -> AnalogModel:
    model = prepare(config).model.analog
    assert model is not None
    return model


def test_the_head_is_digital_and_everything_else_on_tiles(make_config: MakeConfig) -> None:
    model = analog(make_config("squad"))
    reasons = {layer.name: layer.reason for layer in model.placement.layers if not layer.analog}
    assert reasons["qa_outputs"] == "task head, trained"
    assert len(model.placement.analog) == 12
    frozen = analog(make_config("squad", adapter={"train_head": False}))
    assert "qa_outputs" in frozen.layers
    qkv = analog(make_config("squad", adapter={"targets": ["query", "key", "value"]}))
    assert len(qkv.layers) == 12, "layers without an adapter lie on tiles all the same"


@pytest.mark.parametrize("task", ["sst2", "squad"])
def test_the_adapted_model_sees_the_token_types(task: str, make_config: MakeConfig) -> None:
    """PEFT's class for question answering takes them and drops them."""
    model = prepare(make_config(task, method="digital")).model.loaded.module.eval()
    inputs = {"input_ids": torch.tensor([[2, 7, 3, 8, 9, 3]]), "attention_mask": torch.ones(1, 6, dtype=torch.long)}
    with torch.no_grad():
        one, other = (
            model(**inputs, token_type_ids=torch.tensor([types]))[0] for types in ([0] * 6, [0] * 3 + [1] * 3)
        )
    assert not torch.equal(one, other)


def test_a_frozen_random_head_comes_back_as_it_was(make_config: MakeConfig, tmp_path: Path) -> None:
    """Clipped hard, so that clipping it twice would show; another seed would draw another head."""
    config = make_config("squad", adapter={"train_head": False}, hardware={"clip_sigma": 1.0}, train={"max_steps": 2})
    run_training(config, tmp_path / "run", SilentObserver(), drift=False)
    checkpoint = read_checkpoint(tmp_path / "run")
    other = config.model_copy(update={"train": config.train.model_copy(update={"seed": 7})})
    stored = put_on_tiles(build_from(checkpoint, "default", other), config.hardware)
    assert torch.equal(stored.layers["qa_outputs"].weight, analog(config).layers["qa_outputs"].weight)
