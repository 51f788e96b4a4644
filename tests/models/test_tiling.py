"""A model on tiles: what a block changes is as before after it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from analog_lora_cli.config.schema import Config
from analog_lora_cli.models.build import build, load_base, with_adapter
from analog_lora_cli.models.tiling import AnalogModel, put_on_tiles

INPUTS = {"input_ids": torch.tensor([[2, 7, 3, 8, 9, 3]]), "attention_mask": torch.ones(1, 6, dtype=torch.long)}


@pytest.fixture
def model(make_config: Callable[..., Config]) -> AnalogModel:
    config = make_config(hardware={"output_noise": 0.0, "adc_bits": 6})
    loaded = with_adapter(load_base(config))
    model = put_on_tiles(loaded, config.hardware)
    loaded.module.eval()
    return model


def outputs(model: AnalogModel) -> torch.Tensor:
    with torch.no_grad():
        result: torch.Tensor = model.loaded.module(**INPUTS).logits
    return result


def test_blocks_restore_what_they_change(model: AnalogModel) -> None:
    exact, chip = outputs(model), model.program(3)
    with model.digital():
        digital = outputs(model)
    with model.on_chip(chip, 31536000.0):
        aged = outputs(model)
        with model.digital(), model.on_chip(chip, 0.0):
            assert torch.equal(outputs(model), digital)
        assert torch.equal(outputs(model), aged), "a block inside another gives back what that had set"
    assert not torch.equal(exact, digital) and not torch.equal(exact, aged)
    assert torch.equal(outputs(model), exact)


def test_blocks_restore_after_an_error_too(model: AnalogModel) -> None:
    for block in (model.digital(), model.on_chip(model.program(0), 60.0)):
        with pytest.raises(KeyError), block:
            raise KeyError
        assert all(layer.analog and layer.state is None for layer in model.layers.values())


def test_exact_weights_are_those_that_were_mapped(model: AnalogModel) -> None:
    chip = model.program(0)
    chip.age(3600.0)
    changed = outputs(model)
    chip.release()
    assert not torch.equal(outputs(model), changed)
    assert model.analog_sha256() == model.mapped
    assert model.mapped.keys() == model.layers.keys() == {layer.name for layer in model.placement.analog}


def test_dora_begins_as_its_clipped_base(make_config: Callable[..., Config]) -> None:
    adapter = {"variant": "dora", "dropout": 0.0, "targets": ["query", "dense"]}
    model = build(load_base(make_config(hardware={"clip_sigma": 1.0}, adapter=adapter))).analog
    assert model is not None
    model.loaded.module.eval()
    with model.digital():
        adapted = outputs(model)
        with model.loaded.module.disable_adapter():
            torch.testing.assert_close(adapted, outputs(model))
