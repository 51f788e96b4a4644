"""Placement of real language models, told by their config.json alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from analog_lora_cli import cli

_ROTARY = {"model_type": "llama", "rms_norm_eps": 1e-5, "tie_word_embeddings": False}
CONFIGS: dict[str, dict[str, Any]] = {
    "Llama-3.1-8B": {
        **_ROTARY, "architectures": ["LlamaForCausalLM"], "vocab_size": 128256, "hidden_size": 4096,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336,
        "max_position_embeddings": 131072,
    },
    "Qwen3-8B": {
        **_ROTARY, "model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "vocab_size": 151936,
        "hidden_size": 4096, "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8,
        "head_dim": 128, "intermediate_size": 12288, "max_position_embeddings": 40960,
    },
    "gpt2": {
        "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": 50257, "n_embd": 768, "n_layer": 12,
        "n_head": 12, "n_positions": 1024,
    },
    "Mixtral-8x7B": {
        **_ROTARY, "model_type": "mixtral", "architectures": ["MixtralForCausalLM"], "vocab_size": 32000,
        "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
        "intermediate_size": 14336, "num_local_experts": 8, "num_experts_per_tok": 2, "max_position_embeddings": 32768,
    },
}  # fmt: skip
"""As published with the weights, as far as shapes depend on it."""
TOTAL = {
    "Llama-3.1-8B": 8_030_261_248, "Qwen3-8B": 8_190_735_360, "gpt2": 124_439_808, "Mixtral-8x7B": 46_702_792_704,
}  # fmt: skip
"""Parameters as published."""
ON_TILES = {
    "Llama-3.1-8B": 32 * (4096 * 4096 * 2 + 4096 * 1024 * 2 + 3 * 4096 * 14336),
    "Qwen3-8B": 36 * (4096 * 4096 * 2 + 4096 * 1024 * 2 + 3 * 4096 * 12288),
    "gpt2": 12 * (768 * 2304 + 768 * 768 + 2 * 768 * 3072),
    "Mixtral-8x7B": 32 * (4096 * 4096 * 2 + 4096 * 1024 * 2),
}
"""Weights of the linear layers in the blocks."""


def inspected(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, Any], str]:
    """What `inspect-tiles` says of a config.json: its JSON, and its tables."""
    model = folder / name
    model.mkdir()
    (model / "config.json").write_text(json.dumps(CONFIGS[name]))
    arguments = ["inspect-tiles", "--model", str(model), "--json", str(folder / "tiles.json")]
    assert cli.main(arguments) == 0
    return json.loads((folder / "tiles.json").read_text()), capsys.readouterr().out


@pytest.mark.parametrize("name", CONFIGS)
def test_real_configurations(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    content, tables = inspected(name, tmp_path, capsys)
    assert content["totals"]["parameters"] == TOTAL[name]
    assert content["totals"]["parameters_on_tiles"] == ON_TILES[name]
    reasons = {layer["name"]: layer["reason"] for layer in content["digital"]}
    tied = ", tied" if name == "gpt2" else ""
    assert reasons["lm_head"] == f"language model head, pretrained{tied}"
    share = content["totals"]["unsupported_share"]
    assert (share > 0.9) == (name == "Mixtral-8x7B") and (share == 0) == (name != "Mixtral-8x7B")
    assert ("no tile can hold them" in " ".join(tables.split())) == (share > 0)
