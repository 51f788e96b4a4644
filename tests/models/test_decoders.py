"""Decoders of each kind: placement, generation with a cache, batches with left padding, on tiles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from analog_lora_cli.config.schema import Config
from analog_lora_cli.models.build import load_base
from analog_lora_cli.models.tiling import AnalogModel, put_on_tiles
from tests.models.decoders import LAYERS, MATRICES, SIZES, make_decoder

NEW = 6
"""Tokens to generate."""
NOISELESS = {"clip_sigma": 0.0, "output_noise": 0.0, "tile_rows": 16, "tile_columns": 16}


@pytest.fixture(scope="module", params=SIZES)
def analog(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AnalogModel:
    """A decoder on small tiles, without noise so that it computes the same each time."""
    folder = make_decoder(request.param, tmp_path_factory.mktemp("decoders") / request.param)
    return on_tiles(folder, hardware=NOISELESS)


def on_tiles(folder: Path, **sections: Any) -> AnalogModel:
    model = {"name": str(folder), **sections.pop("model", {})}
    loaded = load_base(Config.model_validate({"model": model, "task": {"name": "text", "max_length": 16}, **sections}))
    loaded.module.eval()
    loaded.plain.generation_config.eos_token_id = None  # So that all rows go on.
    return put_on_tiles(loaded, loaded.config.hardware)


def prompts(analog: AnalogModel) -> dict[str, Tensor]:
    tokenizer = analog.loaded.processor
    assert tokenizer is not None
    texts = ["the tile reads", "noise", "a good chip holds weight"]
    return dict(tokenizer(texts, return_tensors="pt", padding=True).data)


def generate(analog: AnalogModel, inputs: dict[str, Tensor], **options: Any) -> Any:
    with torch.no_grad():
        return analog.loaded.plain.generate(  # type: ignore[operator]
            **{name: inputs[name] for name in ("input_ids", "attention_mask")},
            do_sample=False,
            max_new_tokens=NEW,
            return_dict_in_generate=True,
            output_logits=True,
            **options,
        )


def test_all_layers_but_the_head_lie_on_tiles(analog: AnalogModel) -> None:
    kind = analog.loaded.plain.config.model_type
    assert len(analog.layers) == LAYERS * MATRICES[kind]
    head = analog.placement.layers[-1]
    tied = analog.loaded.plain.config.tie_word_embeddings
    assert head.reason == f"language model head, pretrained{', tied' if tied else ''}"
    embedding = analog.loaded.plain.get_input_embeddings().weight
    assert (analog.loaded.plain.get_output_embeddings().weight is embedding) == tied


def test_generation_with_a_cache_is_the_full_forward_pass(analog: AnalogModel) -> None:
    inputs = prompts(analog)
    result = generate(analog, inputs)
    sequences = result.sequences
    mask = torch.cat([inputs["attention_mask"], torch.ones(len(sequences), NEW, dtype=torch.long)], dim=1)
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    extra = {} if analog.loaded.plain.config.model_type == "opt" else {"position_ids": positions}
    with torch.no_grad():
        full = analog.loaded.plain(input_ids=sequences, attention_mask=mask, **extra).logits[:, -NEW - 1 : -1]
    cached = torch.stack(result.logits, dim=1)
    assert torch.allclose(cached, full, atol=1e-4)
    assert torch.equal(sequences[:, -NEW:], full.argmax(dim=-1))
    with analog.digital(), torch.no_grad():
        digital = analog.loaded.plain(input_ids=sequences, attention_mask=mask, **extra).logits[:, -NEW - 1 : -1]
    assert (digital - full).abs().max() > 1e-2, "the converters must be at work"


def test_greedy_tokens_do_not_depend_on_the_batch(analog: AnalogModel) -> None:
    inputs = prompts(analog)
    assert inputs["attention_mask"][:, 0].min() == 0, "padded on the left"
    together = generate(analog, inputs)
    for row, mask in enumerate(inputs["attention_mask"].bool()):
        alone = {name: tensor[row : row + 1, mask] for name, tensor in inputs.items()}
        assert torch.equal(generate(analog, alone).sequences[0, -NEW:], together.sequences[row, -NEW:])


def test_gpt2s_layers_are_turned_around_for_the_tiles(tmp_path: Path) -> None:
    from transformers import GPT2LMHeadModel

    folder = make_decoder("gpt2", tmp_path / "gpt2")
    original = GPT2LMHeadModel.from_pretrained(folder)
    analog = on_tiles(folder, hardware={"clip_sigma": 0.0})
    layer = analog.layers["transformer.h.1.mlp.c_fc"]
    stored = original.transformer.h[1].mlp.c_fc.weight
    assert stored.shape == (32, 128) and torch.equal(layer.weight, stored.t()) and layer.weight.is_contiguous()
    inputs = prompts(analog)
    with analog.digital(), torch.no_grad():
        assert torch.allclose(analog.loaded.plain(**inputs).logits, original(**inputs).logits, atol=1e-5)
    state = analog.loaded.original_state()
    assert state.keys() == original.state_dict().keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in original.state_dict().items())


def test_an_untied_head_stays_in_its_type_frozen_and_alone(tmp_path: Path) -> None:
    from analog_lora_cli.models.build import build

    folder = make_decoder("llama", tmp_path / "llama")
    config = {"model": {"name": str(folder), "dtype": "bfloat16"}, "task": {"name": "text", "max_length": 16}}
    training = build(load_base(Config.model_validate(config)))
    module = training.loaded.module
    weights = {name: tensor for name, tensor in module.named_parameters() if "lm_head" in name}
    assert list(weights) == ["base_model.model.lm_head.weight"]
    (head,) = weights.values()
    assert head.dtype == torch.bfloat16 and not head.requires_grad
    assert {name.rpartition(".")[2] for name in module.peft_config["default"].target_modules} == {
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"
    }  # fmt: skip
    assert {p.dtype for p in module.parameters() if p.requires_grad} == {torch.float32}
    assert training.analog is not None
    inputs = prompts(training.analog)
    assert module(**inputs).logits.dtype == torch.bfloat16
