"""Input ranges from calibration to checkpoint and back: training, resume, evaluation, adaptation."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from analog_lora_cli.config.schema import Config
from analog_lora_cli.errors import CheckpointError, UsageError
from analog_lora_cli.evaluation.drift_result import DriftResult
from analog_lora_cli.models.build import build_from
from analog_lora_cli.models.input_ranges import calibrated_ranges, set_input_ranges
from analog_lora_cli.models.tiling import put_on_tiles
from analog_lora_cli.storage.checkpoint import read_checkpoint, verify_adapter
from analog_lora_cli.workflows.adapt import adapt
from analog_lora_cli.workflows.drift import evaluate_drift
from analog_lora_cli.workflows.observer import SilentObserver
from analog_lora_cli.workflows.train import prepare
from analog_lora_cli.workflows.train import train as run_training

MakeConfig = Callable[..., Config]
FILES = {
    "lora": "adapters/default/input_ranges.safetensors",
    "full": "model/input_ranges.safetensors",
}


def ranges(folder: Path, method: str = "lora") -> dict[str, Tensor]:
    return load_file(str(folder / FILES[method]))


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def ranged(kind: str, **more: Any) -> dict[str, Any]:
    return {"hardware": {"input_range": kind, "tile_rows": 24, **more}}


def metrics(result: DriftResult | None) -> dict[str, Any]:
    assert result is not None
    return {str(key): value for key, value in result.measurements.items()}


class Interrupted(Exception):
    """Stands for whatever ends a run."""


def interrupt_after(config: Config, folder: Path, steps: int) -> None:
    observer = SilentObserver()

    def step(number: int, samples: int) -> None:
        if number == steps:
            raise Interrupted

    observer.training.step = step  # type: ignore[method-assign]
    with pytest.raises(Interrupted):
        run_training(config, folder, observer)


@pytest.fixture(scope="module")
def dynamic(make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranges") / "dynamic"
    train = {"max_steps": 40, "learning_rate": 5e-3, "save_steps": 100}
    run_training(make_config(hardware={"tile_rows": 24}, train=train), folder, SilentObserver(), drift=False)
    return folder


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("kind", ["static", "learned"])
def test_trained_saved_resumed_and_measured_again(
    kind: str, method: str, make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config(method=method, **ranged(kind))
    before = prepare(config).model.input_ranges
    whole = run_training(config, tmp_path / "whole", SilentObserver())
    interrupt_after(config, tmp_path / "cut", steps=5)
    cut = run_training(config, tmp_path / "cut", SilentObserver(), resume=True)
    assert metrics(whole.drift) == metrics(cut.drift)
    stored = ranges(tmp_path / "whole", method)
    assert same(stored, ranges(tmp_path / "cut", method))
    assert same(stored, before) == (kind == "static"), "a training changes learned ranges, and no others"
    assert {len(one) for one in stored.values()} == {2, 3}
    again = evaluate_drift(tmp_path / "whole", output=tmp_path / "again", overwrite=True)
    assert metrics(again.measured[0].drift) == metrics(whole.drift)
    extra = {"model.safetensors", "config.json"} if method == "full" else set()
    names = {path.name for path in (tmp_path / "whole" / FILES[method]).parent.iterdir()}
    assert names >= extra | {"input_ranges.safetensors"}
    if method == "full":
        assert not [key for key in load_file(str(tmp_path / "whole/model/model.safetensors")) if "range" in key]


def test_ranges_of_a_checkpoint_that_has_none_are_calibrated(dynamic: Path, tmp_path: Path) -> None:
    """The wider the percentile, the nearer are the products to the digital ones; with nearly all clipped, far off."""
    checkpoint, distances = read_checkpoint(dynamic), []
    for value in (1.0, 90.0, 100.0):
        changes = {"input_range": "static", "input_range_value": value, "output_noise": 0.0}
        hardware = checkpoint.config.hardware.model_copy(update=changes)
        loaded = build_from(checkpoint, "default", checkpoint.config.model_copy(update={"hardware": hardware}))
        model = put_on_tiles(loaded, hardware)
        set_input_ranges(model)
        assert loaded.processor is not None
        inputs = loaded.processor(["the tile is good"], return_tensors="pt")
        with torch.no_grad():
            analog = loaded.module(**inputs).logits
            with model.digital():
                distances.append(float((analog - loaded.module(**inputs).logits).norm()))
    assert distances[0] > 10 * distances[1] > 10 * distances[2]
    sets = ["hardware.input_range=static"]
    measured = evaluate_drift(dynamic, overrides=sets, output=tmp_path / "static", chips=1, times="0s").measured[0]
    assert measured.converters_only["accuracy"] > 80
    assert not (dynamic / FILES["lora"]).exists(), "the checkpoint stays as it was"


def test_learned_ranges_need_a_training(dynamic: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="learned ranges come from a training"):
        evaluate_drift(dynamic, overrides=["hardware.input_range=learned"], output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_plain_peft_loads_a_folder_with_ranges(make_config: MakeConfig, tmp_path: Path, tiny_model: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    config = make_config(**ranged("learned", clip_sigma=0.0))
    run_training(config, tmp_path / "run", SilentObserver(), drift=False)
    ours = build_from(read_checkpoint(tmp_path / "run"), "default", config)
    assert ours.input_ranges and ours.processor is not None
    plain = AutoModelForSequenceClassification.from_pretrained(str(tiny_model), num_labels=2)
    theirs = PeftModel.from_pretrained(plain, str(tmp_path / "run" / "adapters" / "default")).eval()
    inputs = ours.processor(["the tile is good"], return_tensors="pt")
    with torch.no_grad():
        assert torch.allclose(ours.module(**inputs).logits, theirs(**inputs).logits, atol=1e-6)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_changed_ranges_are_noticed(method: str, make_config: MakeConfig, tmp_path: Path) -> None:
    run_training(make_config(method=method, **ranged("static")), tmp_path / "run", SilentObserver(), drift=False)
    file = tmp_path / "run" / FILES[method]
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match="input_ranges"):
        verify_adapter(read_checkpoint(tmp_path / "run"), "default")


def test_an_adaptation_keeps_the_ranges_unless_told_otherwise(make_config: MakeConfig, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run_training(make_config(**ranged("static")), folder, SilentObserver(), drift=False)
    base = ranges(folder)
    for name, sets in {
        "kept": ["hardware.adc_bits=6", "train.seed=5"],
        "mse": ["hardware.input_range_rule=mse"],
        "learned": ["hardware.input_range=learned"],
        "dynamic": ["hardware.input_range=dynamic"],
    }.items():
        adapt(folder, adapter=name, overrides=[*sets, "train.max_steps=2"], drift=False)
    stored = {
        name: load_file(str(folder / "adapters" / name / "input_ranges.safetensors"))
        for name in ("kept", "mse", "learned")
    }
    assert same(stored["kept"], base)
    assert not same(stored["mse"], base) and not same(stored["learned"], base)
    assert not (folder / "adapters/dynamic/input_ranges.safetensors").exists()
    entry = json.loads((folder / "manifest.json").read_text())["adapters"]["kept"]
    assert "input_ranges.safetensors" in entry["files"]


def test_calibration_sees_the_digital_model_and_no_padding(make_config: MakeConfig) -> None:
    """Samples, mode and random numbers are as before; fewer samples than asked for are all there are."""
    config = make_config(**ranged("static", input_range_value=100.0, input_range_samples=1000))
    model = prepare(config).model
    analog = model.analog
    assert analog is not None
    model.loaded.module.train()
    state = torch.get_rng_state()
    found = calibrated_ranges(analog)
    assert torch.equal(torch.get_rng_state(), state) and model.loaded.module.training
    assert same(found, model.input_ranges) and same(found, calibrated_ranges(analog))
    task, name = model.loaded.task, next(iter(analog.layers))
    largest = torch.zeros(2)
    features = task.train_features(model.loaded.processor)

    def record(_: object, arguments: tuple[Tensor, ...]) -> None:
        for row, (start, stop) in enumerate(analog.layers[name].grid.rows):
            largest[row] = torch.maximum(largest[row], arguments[0][..., start:stop].abs().max())

    handle = analog.layers[name].register_forward_pre_hook(record)
    collate = task.collator(model.loaded.processor)
    model.loaded.module.eval()
    with torch.no_grad(), analog.digital():
        for feature in features:  # One by one there is no padding.
            model.loaded.module(**collate([feature]))
    handle.remove()
    assert torch.allclose(largest, found[name], rtol=1e-5)


def test_the_samples_are_drawn_by_the_seed(make_config: MakeConfig) -> None:
    def of(**train: Any) -> dict[str, Tensor]:
        hardware = {"tile_rows": 24, "input_range": "static", "input_range_samples": 3}
        return prepare(make_config(hardware=hardware, train={"max_steps": 1, **train})).model.input_ranges

    assert same(of(seed=1), of(seed=1))
    assert not same(of(seed=1), of(seed=2))
