"""The layers whose analog error matters most: how they are found, and where they then stay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from analog_lora_cli.config.schema import Config
from analog_lora_cli.errors import UsageError
from analog_lora_cli.models.build import load_base
from analog_lora_cli.models.fragile_layers import fragile_layers
from analog_lora_cli.models.loaded import LoadedModel
from analog_lora_cli.models.tiling import put_on_tiles

MakeConfig = Callable[..., Config]
LAYERS = {"sst2": 12, "instruction": 14}
"""Layers of the tiny models that can lie on tiles."""


def with_outliers(loaded: LoadedModel, name: str) -> LoadedModel:
    """One weight of each column of a layer is so large that its tiles' noise drowns all others."""
    with torch.no_grad():
        loaded.plain.get_submodule(name).weight[:, 3] = 6.0
    return loaded


@pytest.mark.parametrize(
    ("task", "name"),
    [("sst2", "bert.encoder.layer.1.output.dense"), ("instruction", "model.layers.0.mlp.down_proj")],
)
def test_the_layer_with_the_largest_error_comes_first(task: str, name: str, make_config: MakeConfig) -> None:
    config = make_config(task, hardware={"layers": "auto:2", "clip_sigma": 0.0})
    first = fragile_layers(with_outliers(load_base(config), name), 2)
    assert next(iter(first)) == name and len(first) == 2
    assert first[name] > 0.4 and 0 < sum(first.values()) <= 1
    assert fragile_layers(with_outliers(load_base(config), name), 2) == first


def test_layers_measured_apart_have_the_same_scores(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    config = make_config(hardware={"layers": "auto:3", "output_noise": 0.0})
    together = fragile_layers(load_base(config), 3)
    monkeypatch.setattr("analog_lora_cli.models.workspace.WORKSPACE", 1)
    assert fragile_layers(load_base(config), 3) == pytest.approx(together)


def test_shares_do_not_depend_on_the_batches(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """9 sequences: 8 and a last one, or each alone."""
    config = make_config(task={"max_train_samples": 9}, hardware={"layers": "auto:11", "output_noise": 0.0})
    shares = []
    for size in (8, 1):
        monkeypatch.setattr("analog_lora_cli.models.training_inputs._BATCH", size)
        shares.append(fragile_layers(load_base(config), 11))
    assert shares[0] == pytest.approx(shares[1], rel=1e-3)


def test_the_loss_is_the_one_that_is_trained(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load_base(make_config(hardware={"layers": "auto:2"}))
    monkeypatch.setattr(type(loaded.task), "batch_loss", lambda task, result, inputs: 0 * result["loss"])
    assert set(fragile_layers(loaded, 2).values()) == {0.0}


@pytest.mark.parametrize("task", sorted(LAYERS))
def test_they_stay_digital(task: str, make_config: MakeConfig) -> None:
    config = make_config(task, hardware={"layers": "auto:3"})
    names = list(fragile_layers(load_base(config), 3))
    hardware = config.hardware.model_copy(update={"digital_layers": names})
    loaded = load_base(config)
    model = put_on_tiles(replace(loaded, config=config), hardware)
    assert not model.layers.keys() & set(names)
    placed = {layer.name: layer for layer in model.placement.layers}
    assert all(placed[name].reason == "most fragile, auto:3" for name in names)
    everything = sum(layer.macs for layer in model.placement.layers)
    head = sum(layer.macs for name, layer in placed.items() if "head" in name or "classifier" in name)
    left = sum(placed[name].shape[0] * placed[name].shape[1] for name in names)
    assert model.placement.digital_macs == pytest.approx((left + head) / everything)
    assert 0 < left < everything


def test_digital_layers_can_be_named(make_config: MakeConfig) -> None:
    config = make_config(hardware={"layers": ["dense"], "digital_layers": ["output.dense"]})
    model = put_on_tiles(load_base(config), config.hardware)
    assert {name.rpartition(".")[0].rpartition(".")[2] for name in model.layers} == {"intermediate", "pooler"}
    assert {layer.reason for layer in model.placement.layers if layer.name.endswith("output.dense")} == {
        "in hardware.digital_layers"
    }


@pytest.mark.parametrize(
    ("hardware", "message"),
    [
        ({"layers": "auto"}, "hardware.layers.*expected a list of names, or auto:N"),
        ({"layers": "auto:-1"}, "hardware.layers.*expected a list of names, or auto:N"),
        ({"layers": "auto:2", "digital_layers": ["query"]}, "digital_layers names 1 layers.*auto:2"),
    ],
)
def test_what_cannot_be_meant_is_refused(hardware: dict[str, Any], message: str, make_config: MakeConfig) -> None:
    with pytest.raises(ValidationError, match=f"(?s){message}"):
        make_config(hardware=hardware)


def test_what_no_model_can_do_is_refused(make_config: MakeConfig) -> None:
    with pytest.raises(UsageError, match=r"hardware\.layers: auto:99 leaves nothing for tiles"):
        fragile_layers(load_base(make_config(hardware={"layers": "auto:99"})), 99)
    unmeasured = make_config(hardware={"layers": "auto:2"})
    with pytest.raises(UsageError, match=r"measured when a training begins.*hardware\.digital_layers"):
        put_on_tiles(load_base(unmeasured), unmeasured.hardware)
    nowhere = make_config(hardware={"digital_layers": ["quary"]})
    with pytest.raises(UsageError, match=r"hardware\.digital_layers: 'quary' matches no linear layer"):
        put_on_tiles(load_base(nowhere), nowhere.hardware)
