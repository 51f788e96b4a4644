"""What is shown is what a training does; by configuration alone no weights are needed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from analog_lora_cli.config.schema import Config
from analog_lora_cli.errors import CheckpointError, UsageError
from analog_lora_cli.inspection import source as inspected_model
from analog_lora_cli.inspection.inspect import Inspection, InspectionRequest, inspect
from analog_lora_cli.inspection.source import Source
from analog_lora_cli.report.progress.console import ConsoleObserver
from analog_lora_cli.storage.checkpoint import read_checkpoint
from analog_lora_cli.workflows.train import prepare
from analog_lora_cli.workflows.train import train as run_training

MakeConfig = Callable[..., Config]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def trained(make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "checkpoint"
    run_training(make_config(), folder, ConsoleObserver(), drift=False)
    return folder


def described(folder: Path, config_class: str, **settings: Any) -> Config:
    """A folder that holds nothing but config.json."""
    import transformers

    getattr(transformers, config_class)(**settings).save_pretrained(folder)
    assert [path.name for path in folder.iterdir()] == ["config.json"]
    return Config.model_validate({"model": {"name": str(folder)}})


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"adapter": {"targets": ["query", "value"], "rank": 3}},
        {"adapter": {"variant": "dora", "dropout": 0.0}},
        {"adapter": {"variant": "adalora", "rank": 4}},
        {"adapter": {"variant": "vera", "rank": 16, "targets": ["query"]}},
        {"adapter": {"train_head": False}},
        {"hardware": {"layers": ["query", "dense"], "tile_rows": 20, "tile_columns": 24}},
        {"method": "full"},
    ],
    ids=str,
)
def test_what_is_shown_without_weights_is_what_training_does(sections: dict[str, Any], make_config: MakeConfig) -> None:
    config = make_config("squad" if "train_head" in str(sections) else "sst2", **sections)
    shown = inspect(Source("it", config), InspectionRequest()).placement
    trained = prepare(config).model.analog
    assert trained is not None
    assert shown.layers == [replace(layer, clipped=0, clip_change=0.0) for layer in trained.placement.layers]
    assert any(layer.adapter_parameters for layer in shown.layers) == (config.method != "full")


def test_bert_large_by_its_configuration(tmp_path: Path) -> None:
    shape = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
    found = inspect(Source("bert-large", described(tmp_path / "model", "BertConfig", **shape)), InspectionRequest())
    assert len(found.placement.analog) == 144
    # 4 times 1024x1024 on 2x2 tiles, twice 1024x4096 on 2x8, in 24 layers; all of them full.
    assert found.tiles == 24 * (4 * 4 + 2 * 16) and found.utilisation(found.placement.analog) == 1.0
    assert found.cells(found.placement.analog) == 24 * 12 * 1024**2
    assert sum(layer.adapter_parameters for layer in found.placement.layers) == 3_538_944
    assert set(found.ranks.values()) == {8}


def test_mobilebert_by_its_configuration(tmp_path: Path) -> None:
    source = Source("mobilebert", described(tmp_path / "model", "MobileBertConfig"))
    found = inspect(source, InspectionRequest(pack=True))
    assert len(found.placement.analog) == found.tiles == 361
    assert found.cells(found.placement.analog) == 20_250_624
    assert found.utilisation(found.placement.analog) == pytest.approx(20_250_624 / (361 * 512**2))
    assert sum(layer.adapter_parameters for layer in found.placement.layers) == 1_629_184
    # 20.25 M cells need at least 77.2 arrays.
    assert found.arrays == 78


def test_smaller_tiles_are_more_and_fuller(tmp_path: Path) -> None:
    config = described(tmp_path / "model", "BertConfig")
    small = config.model_copy(update={"hardware": config.hardware.model_copy(update={"tile_rows": 256})})
    usual, found = inspect(Source("a", config), InspectionRequest()), inspect(Source("a", small), InspectionRequest())
    assert (usual.tiles, found.tiles) == (12 * (4 * 4 + 2 * 12), 12 * (4 * 6 + 3 * 6 + 12 * 2))
    assert usual.utilisation(usual.placement.analog) < found.utilisation(found.placement.analog)


def test_tiles_without_limit(make_config: MakeConfig) -> None:
    config = make_config(hardware={"tile_rows": 0, "tile_columns": 0})
    found = inspect(Source("it", config), InspectionRequest())
    assert found.tiles == len(found.placement.analog) and found.utilisation(found.placement.analog) == 1.0
    with pytest.raises(UsageError, match="--pack: tiles without a limit"):
        inspect(Source("it", config), InspectionRequest(pack=True))


def test_reference_columns_take_bit_lines_and_devices(make_config: MakeConfig) -> None:
    """Layers of 32 outputs: with 4 reference columns they need a second tile of 32 bit lines beside the first."""
    tiles = {"tile_rows": 64, "tile_columns": 32, "layers": ["query"], "device": "reram-cmo"}
    request = InspectionRequest(pack=True)
    without, found = (
        inspect(Source("it", make_config(hardware={**tiles, **more})), request)
        for more in ({"reference_columns": 0}, {})
    )
    layers = found.placement.analog
    assert found.tiles == 2 * without.tiles == 2 * len(layers)
    assert without.devices(layers) == without.cells(layers) == found.cells(layers)
    assert found.devices(layers) == found.cells(layers) + 4 * 32 * found.tiles
    assert found.arrays > without.arrays


def test_shapes_are_kept_until_something_they_depend_on_changes(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = described(tmp_path / "model", "BertConfig", num_hidden_layers=2)
    first = inspect(Source("it", config), InspectionRequest())
    looked = []
    real = inspected_model.load_shapes
    monkeypatch.setattr(inspected_model, "load_shapes", lambda *given: looked.append(given) or real(*given))
    small = config.model_copy(update={"hardware": config.hardware.model_copy(update={"tile_rows": 100})})
    assert inspect(Source("it", config), InspectionRequest()).placement == first.placement
    assert inspect(Source("it", small), InspectionRequest()).tiles > first.tiles and looked == []
    rank = config.model_copy(update={"adapter": config.adapter.model_copy(update={"rank": 2})})
    assert set(inspect(Source("it", rank), InspectionRequest()).ranks.values()) == {2} and len(looked) == 1
    task = config.model_copy(update={"task": config.task.model_copy(update={"name": "mnli"})})
    assert len(inspect(Source("it", task), InspectionRequest()).placement.layers) == len(first.placement.layers) + 1
    described(tmp_path / "model", "BertConfig", num_hidden_layers=3)
    assert len(inspect(Source("it", config), InspectionRequest()).placement.analog) == 18 and len(looked) == 3
    for file in (tmp_path / "cache").rglob("*.json"):
        file.write_text('{"modules": [{}], "heads": []}')
    assert len(inspect(Source("it", config), InspectionRequest()).placement.analog) == 18 and len(looked) == 4


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    config = described(tmp_path / "model", "BertConfig", num_hidden_layers=1)
    assert len(inspect(Source("it", config), InspectionRequest()).placement.analog) == 6


def test_a_checkpoint_shows_what_its_training_did(trained: Path) -> None:
    checkpoint = read_checkpoint(trained)
    found = inspect(Source("it", checkpoint.config, checkpoint), InspectionRequest())
    manifest = checkpoint.manifest["placement"]
    assert [{**row, "clipped": 0, "clip_change": 0.0} for row in manifest] == found.placement.as_json()
    with_weights = inspect(Source("it", checkpoint.config, checkpoint), InspectionRequest(statistics=True))
    assert with_weights.placement.as_json() == manifest
    assert with_weights.weights.keys() == found.blocks.keys() and not with_weights.errors


@pytest.mark.parametrize("variant", ["adalora", "vera", "dora"])
def test_stored_adapters_of_other_variants(variant: str, make_config: MakeConfig, tmp_path: Path) -> None:
    adapter = {"variant": variant, "rank": 4, "dropout": 0.0, "targets": ["query", "value"]}
    run_training(make_config(adapter=adapter), tmp_path / "run", ConsoleObserver(), drift=False)
    checkpoint = read_checkpoint(tmp_path / "run")
    source = Source("it", checkpoint.config, checkpoint)
    shapes, weights = inspect(source, InspectionRequest()), inspect(source, InspectionRequest(statistics=True))
    assert shapes.ranks == weights.ranks and len(shapes.ranks) == 4
    assert [layer.adapter_parameters for layer in shapes.placement.layers] == [
        layer.adapter_parameters for layer in weights.placement.layers
    ]
    if variant != "adalora":  # Its training prunes ranks, and so ends with fewer parameters than it began with.
        total = sum(layer.adapter_parameters for layer in shapes.placement.layers)
        assert total == checkpoint.manifest["parameters"]["adapters"]


def test_a_damaged_adapter_is_noticed(trained: Path, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "damaged"
    shutil.copytree(trained, folder)
    file = folder / "adapters" / "default" / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    checkpoint = read_checkpoint(folder)
    with pytest.raises(CheckpointError, match="sha256 differs"):
        inspect(Source("it", checkpoint.config, checkpoint), InspectionRequest())


def errors_of(found: Inspection) -> dict[str, float]:
    return {name: errors.worst for name, errors in found.errors.items()}


def test_errors_on_what_the_layers_really_see(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = read_checkpoint(trained)
    source = Source("it", checkpoint.config, checkpoint)
    seen: dict[str, torch.Tensor] = {}
    real = inspected_model.build_from
    built = []
    monkeypatch.setattr(inspected_model, "build_from", lambda *given: built.append(real(*given)) or built[-1])
    from analog_lora_cli.inspection import inspect as inspection

    record = inspection.recorded_inputs
    monkeypatch.setattr(inspection, "recorded_inputs", lambda *given: seen.update(record(*given)) or seen)
    found = inspect(source, InspectionRequest(errors=True, real_inputs=True, tokens=10_000))
    assert found.errors.keys() == found.blocks.keys()
    assert all(0 < error < 1 for error in errors_of(found).values())
    assert "sst2's validation data" in found.inputs
    # The first layer sees the embeddings of all tokens that are no padding.
    model = built[0].plain
    sets = built[0].task.eval_sets(built[0].processor)[0].features
    tokens = sum(sets[row]["length"] for row in range(8))
    query = seen["bert.encoder.layer.0.attention.self.query"]
    assert query.shape == (tokens, 32)
    longest = max((sets[row] for row in range(8)), key=lambda row: row["length"])
    with torch.no_grad():
        embedded = model.bert.embeddings(torch.tensor([longest["input_ids"]]))[0]
    torch.testing.assert_close(query[: len(embedded)], embedded)
    assert errors_of(inspect(source, InspectionRequest(errors=True))) != errors_of(found)


def test_errors_of_a_decoder_on_its_own_text(make_config: MakeConfig) -> None:
    """Tokens of the validation data, question and answer; outputs of a decoder's blocks are no inputs of its head."""
    config = make_config("instruction", drift={"times": ["0s", "1y"], "chips": 1})
    found = inspect(Source("it", config), InspectionRequest(errors=True, real_inputs=True, tokens=64))
    assert found.errors.keys() == found.blocks.keys() and len(found.blocks) == 2 * 7
    assert "instruction's validation data" in found.inputs
    assert all(0 < error < 1 for error in errors_of(found).values())
    other = inspect(Source("it", config), InspectionRequest(errors=True, real_inputs=False, tokens=64))
    assert errors_of(other) != errors_of(found) and "random" in other.inputs


def test_errors_do_not_depend_on_what_was_done_before(make_config: MakeConfig) -> None:
    config = make_config(drift={"times": ["1d"], "chips": 1})
    first = inspect(Source("it", config), InspectionRequest(errors=True))
    torch.rand(7)
    again = inspect(Source("it", config), InspectionRequest(errors=True))
    assert first.errors == again.errors and "random" in first.inputs
    other = config.model_copy(update={"drift": config.drift.model_copy(update={"seed": 1})})
    assert errors_of(inspect(Source("it", other), InspectionRequest(errors=True))) != errors_of(first)


def test_weights_and_clipping_are_told_of_the_pretrained_weights(make_config: MakeConfig, tiny_model: Path) -> None:
    """The tiles clip the loaded weights in place."""
    from safetensors.torch import load_file

    config = make_config(hardware={"clip_sigma": 1.0}, drift={"times": ["1d"], "chips": 1})
    found = inspect(Source("it", config), InspectionRequest(errors=True))
    stored = load_file(str(tiny_model / "model.safetensors"))
    for name, one in found.weights.items():
        assert one.weights.largest == float(stored[f"{name.removeprefix('bert.')}.weight"].abs().max())
        assert found.errors[name].clipping > 0.1


def test_weights_without_a_tokenizer(make_config: MakeConfig, tiny_model: Path, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "bare"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(tiny_model / name, folder / name)
    config = make_config(model={"name": str(folder)})
    assert inspect(Source("it", config), InspectionRequest(errors=True)).errors
    with pytest.raises(UsageError, match="vocabulary|tokenizer"):
        inspect(Source("it", config), InspectionRequest(errors=True, real_inputs=True))


def test_full_training_has_no_adapters_and_is_not_clipped_again(make_config: MakeConfig, tmp_path: Path) -> None:
    folder = tmp_path / "full"
    run_training(make_config(method="full"), folder, ConsoleObserver(), drift=False)
    checkpoint = read_checkpoint(folder)
    source = Source("it", checkpoint.config, checkpoint)
    assert inspect(source, InspectionRequest()).ranks == {}
    found = inspect(source, InspectionRequest(errors=True, real_inputs=True))
    assert all(errors.clipping == 0.0 for errors in found.errors.values())
    assert json.loads((folder / "manifest.json").read_text())["method"] == "full"
