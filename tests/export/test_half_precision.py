"""A base in bfloat16 from the training to all exports."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification

from analog_lora_cli.config.schema import Config
from analog_lora_cli.errors import ConfigError
from analog_lora_cli.export.aihwkit_loader import load_model as load_aihwkit
from analog_lora_cli.export.conductances import load_model as load_conductances
from analog_lora_cli.export.export import export
from analog_lora_cli.export.request import ExportRequest
from analog_lora_cli.export.source import Source
from analog_lora_cli.hardware.physics.chip import Chip
from analog_lora_cli.models.tiling import AnalogModel, put_on_tiles
from analog_lora_cli.workflows.observer import SilentObserver
from analog_lora_cli.workflows.train import train

MakeConfig = Callable[..., Config]
INPUTS = {"input_ids": torch.tensor([[2, 7, 3, 8, 9, 3]]), "attention_mask": torch.ones(1, 6, dtype=torch.long)}


@pytest.fixture(scope="module")
def checkpoint(make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("half") / "run"
    config = make_config(model={"dtype": "bfloat16"}, hardware={"clip_sigma": 1.5}, train={"learning_rate": 1e-2})
    train(config, folder, SilentObserver(), drift=False)
    return folder


def on_tiles(checkpoint: Path) -> AnalogModel:
    loaded = Source.open(checkpoint, "default").build()
    return put_on_tiles(loaded, loaded.config.hardware.model_copy(update={"output_noise": 0.0}))


@torch.no_grad()
def logits(model: nn.Module) -> Tensor:
    found: Tensor = model(**INPUTS).logits
    return found.float()


def exported(checkpoint: Path, kind: str, folder: Path) -> Path:
    request = ExportRequest(checkpoint=checkpoint, format=kind, output=folder / kind)
    export(request, lambda text: None)
    return folder / kind


def test_what_is_in_half_precision_and_what_is_not(checkpoint: Path) -> None:
    model = on_tiles(checkpoint)
    types = {name: parameter.dtype for name, parameter in model.loaded.module.named_parameters()}
    base = [dtype for name, dtype in types.items() if "lora_" not in name and "classifier" not in name]
    trained = [dtype for name, dtype in types.items() if "lora_" in name or "classifier" in name]
    assert base and set(base) == {torch.bfloat16} and trained and set(trained) == {torch.float32}
    stored = load_file(str(checkpoint / "adapters/default/adapter_model.safetensors"))
    assert {tensor.dtype for tensor in stored.values()} == {torch.float32}


def test_a_chip(checkpoint: Path) -> None:
    model = on_tiles(checkpoint)
    exact = logits(model.loaded.module)
    chip = Chip(3, model.layers, model.loaded.config.hardware)
    with model.on_chip(chip, 31536000.0):
        aged = logits(model.loaded.module)
    assert torch.isfinite(aged).all() and not torch.equal(aged, exact)


def test_merged(checkpoint: Path, tmp_path: Path) -> None:
    """The adapter is not rounded away: the weights are the base's and the adapter's sum in float32."""
    model = on_tiles(checkpoint)
    with model.digital():
        expected = logits(model.loaded.module)
    merged = AutoModelForSequenceClassification.from_pretrained(str(exported(checkpoint, "merged", tmp_path))).eval()
    assert {parameter.dtype for parameter in merged.parameters()} == {torch.float32}
    assert torch.allclose(logits(merged), expected, atol=0.02)


def test_conductances_and_aihwkit(checkpoint: Path, tmp_path: Path) -> None:
    expected = logits(on_tiles(checkpoint).loaded.module)
    for kind, load in (("conductances", load_conductances), ("aihwkit", load_aihwkit)):
        model = load(exported(checkpoint, kind, tmp_path), output_noise=0.0).eval()
        assert torch.allclose(logits(model), expected, atol=0.05), kind


@pytest.mark.parametrize("other", [{"method": "full"}, {"hardware": {"simulator": "aihwkit"}}])
def test_refused_together(other: dict[str, object], make_config: MakeConfig) -> None:
    with pytest.raises((ValueError, ConfigError), match=r"model\.dtype: bfloat16 with .* use model\.dtype=float32"):
        make_config(model={"dtype": "bfloat16"}, **other)
