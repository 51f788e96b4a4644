"""Any encoder with any preset: training, one chip, and a further adapter need no key but the model's name."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analog_lora_cli import cli

SIZES: dict[str, dict[str, Any]] = {
    "bert": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
    "roberta": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64},
    "deberta-v2": {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
        "relative_attention": True, "pos_att_type": ["p2c", "c2p"],
    },
}  # fmt: skip
SHORT = ["train.max_steps=2", "train.save_steps=2", "train.per_device_train_batch_size=4", "task.max_length=16"]


@pytest.fixture(scope="module")
def make_encoder(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Callable[[str], Path]:
    """Builds an encoder of 2 layers with random weights and the tokenizer of the tiny BERT."""

    def build(kind: str) -> Path:
        import torch
        from transformers import AutoConfig, AutoModel, AutoTokenizer

        folder = tmp_path_factory.mktemp(kind)
        tokenizer = AutoTokenizer.from_pretrained(tiny_model)
        tokenizer.save_pretrained(folder)
        torch.manual_seed(0)
        config = AutoConfig.for_model(
            kind,
            vocab_size=len(tokenizer),
            pad_token_id=0,
            type_vocab_size=2,
            max_position_embeddings=64,
            **SIZES[kind],
        )
        AutoModel.from_config(config).save_pretrained(folder)
        return folder

    return build


@pytest.fixture(scope="module")
def cola(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("cola") / "cola.csv"
    with file.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["sentence", "label"])
        writer.writerows([f"the tile {'reads' if row % 2 else 'a'}", row % 2] for row in range(12))
    return file


def settings(*pairs: str) -> list[str]:
    return [part for pair in pairs for part in ("--set", pair)]


@pytest.mark.parametrize("kind", SIZES)
def test_an_encoder_trains_and_adapts_without_further_keys(
    kind: str, make_encoder: Callable[[str], Path], sst2_files: tuple[Path, Path], cola: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    data = [f"task.train_file={sst2_files[0]}", f"task.validation_file={sst2_files[1]}"]
    given = [f"model.name={make_encoder(kind)}", *SHORT, *data, "drift.times=[1y]", "drift.chips=1"]
    assert cli.main(["train", "--preset", "glue-sst2-lora", "--output", str(run), "--quiet", *settings(*given)]) == 0
    first = json.loads((run / "drift" / "default" / "drift.json").read_text())
    assert first["metric"] == "accuracy" and len(first["chips"]) == 1
    if kind == "deberta-v2":  # Its layers see positions too, which have no padding.
        errors = ["--errors", "--tokens", "4", "--chips", "1", "--json", str(tmp_path / "tiles.json"), "--quiet"]
        assert cli.main(["inspect-tiles", str(run), *errors]) == 0
        assert all(
            layer["errors"] for layer in json.loads((tmp_path / "tiles.json").read_text())["layers"] if layer["tiles"]
        )

    files = [f"task.train_file={cola}", f"task.validation_file={cola}"]
    further = ["adapt", str(run), "--preset", "glue-cola-lora", "--adapter", "cola", "--quiet", "--no-drift"]
    assert cli.main([*further, *settings(*SHORT, *files)]) == 0
    assert (run / "adapters" / "cola" / "adapter_model.safetensors").is_file()
