"""Architectures: which family they are of, and what is said where one does not fit."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analog_lora_cli.config.registry import ADAPTERS
from analog_lora_cli.config.schema import Config
from analog_lora_cli.errors import UsageError
from analog_lora_cli.models.adapter_variants import VARIANTS
from analog_lora_cli.models.families import is_decoder
from analog_lora_cli.models.placement import plan
from analog_lora_cli.workflows.train import prepare

MakeConfig = Callable[..., Config]
SIZES: dict[str, dict[str, Any]] = {
    "GPT2": {"n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": 64, "pad_token_id": 0},
    "Llama": {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "max_position_embeddings": 64,
        "pad_token_id": 0,
    },
}


def tiny(kind: str, head: str, tiny_model: Path, folder: Path) -> dict[str, str]:
    """A tiny decoder with the tokenizer of the tiny encoder, as the `model` section of a configuration."""
    import transformers

    shutil.copytree(tiny_model, folder, ignore=shutil.ignore_patterns("config.json", "*.safetensors"))
    config = getattr(transformers, f"{kind}Config")(vocab_size=100, **SIZES[kind])
    getattr(transformers, f"{kind}{head}")(config).save_pretrained(folder)
    return {"name": str(folder)}


@pytest.mark.parametrize(
    ("config_class", "expected"),
    [("BertConfig", False), ("MobileBertConfig", False), ("DebertaV2Config", False), ("GPT2Config", True),
     ("LlamaConfig", True), ("Qwen2Config", True)],
)  # fmt: skip
def test_decoders_write_and_fill_in_nothing(config_class: str, expected: bool) -> None:
    import transformers

    assert is_decoder(getattr(transformers, config_class)()) == expected


def test_a_decoder_is_said_to_be_one(make_config: MakeConfig, tiny_model: Path, tmp_path: Path) -> None:
    config = make_config("squad", model=tiny("Llama", "ForCausalLM", tiny_model, tmp_path / "llama"))
    with pytest.raises(UsageError, match="llama is a decoder, .* task squad needs an encoder"):
        prepare(config)


def test_a_decoder_whose_weights_fit_is_trained_as_before(
    make_config: MakeConfig, tiny_model: Path, tmp_path: Path
) -> None:
    config = make_config("sst2", model=tiny("Llama", "ForCausalLM", tiny_model, tmp_path / "llama"))
    model = prepare(config).model
    assert model.analog is not None and model.loaded.digital_heads.keys() == {"score"}
    assert {layer.name.rpartition(".")[2] for layer in model.analog.placement.analog} >= {"q_proj", "down_proj"}


def test_every_variant_of_the_configuration_has_an_entry() -> None:
    assert set(ADAPTERS.names()) == set(VARIANTS)


def test_a_model_without_weights_is_refused() -> None:
    with pytest.raises(UsageError, match="it has no weights"):
        plan([], {}, Config().hardware)
