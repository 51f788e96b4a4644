"""`inspect-tiles --model` without a task: a language model is shown with its own head."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from analog_lora_cli import inspect_tiles
from analog_lora_cli.errors import ConfigError


def heads(folder: Path, *overrides: str) -> dict[str, str]:
    inspection = inspect_tiles(model=str(folder), overrides=overrides)
    return {layer.name: layer.reason for layer in inspection.placement.layers if "head" in layer.reason}


@pytest.mark.parametrize("named", [True, False], ids=["named", "unnamed"])
def test_a_language_model_keeps_its_head(
    named: bool, tiny_decoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the architecture's name in config.json; where there is none, by its type."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    content = json.loads((tiny_decoder / "config.json").read_text())
    assert content["architectures"] == ["LlamaForCausalLM"]
    if not named:
        del content["architectures"]
    (tmp_path / "config.json").write_text(json.dumps(content))
    assert list(heads(tmp_path)) == ["lm_head"]
    assert heads(tmp_path, "task.name=sst2") == {"score": "task head, trained"}


def test_a_key_that_does_not_fit_a_language_model(
    tiny_model: Path, tiny_decoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert heads(tiny_model, "adapter.train_head=false") == {}
    with pytest.raises(ConfigError, match="adapter.train_head: the head of a language model"):
        heads(tiny_decoder, "adapter.train_head=false")


def test_an_encoder_keeps_the_default_task(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert heads(tiny_model) == {"qa_outputs": "task head, trained"}
