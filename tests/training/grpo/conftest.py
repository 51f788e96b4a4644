"""A Llama that can write digits and tags, and sums for it: a rollout takes a tenth of a second."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analog_lora_cli.config.schema import Config

pytest.importorskip("trl")

TAGS = ["<start_working_out>", "<end_working_out>", "<SOLUTION>", "</SOLUTION>"]
PROMPTS = 16


@pytest.fixture(scope="session")
def tiny_reasoner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of 2 layers and hidden size 32 with random weights and a word for each digit and tag."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny-reasoner")
    words = ["<unk>", "</s>", *TAGS, *map(str, range(12)), "+", "="]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>").save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        initializer_range=0.1,
        bos_token_id=None,
        eos_token_id=1,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def sums(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Questions such as `3 + 2 =` in JSONL."""
    file = tmp_path_factory.mktemp("sums") / "sums.jsonl"
    rows = [{"question": f"{a} + {b} =", "answer": str(a + b)} for a in range(4) for b in range(4)]
    file.write_text("\n".join(map(json.dumps, rows)))
    return file


@pytest.fixture
def grpo_config(tiny_reasoner: Path, sums: Path) -> Callable[..., Config]:
    """Builds a configuration of the tiny model on the sums; sections are merged key by key."""

    def build(**sections: Any) -> Config:
        content: dict[str, Any] = {
            "model": {"name": str(tiny_reasoner)},
            "task": {
                "name": "reasoning",
                "instruction": "",
                "train_file": str(sums),
                "validation_file": str(sums),
                "max_length": 32,
                "max_new_tokens": 6,
                "max_eval_samples": 6,
            },
            "adapter": {"rank": 4, "alpha": 8.0, "dropout": 0.0},
            "objective": {
                "kind": "grpo",
                "rewards": ["format_soft"],
                "num_generations": 4,
                "max_completion_length": 6,
            },
            "hardware": {"clip_sigma": 0.0, "weight_noise": 0.1},
            "train": {
                "max_steps": 3,
                "per_device_train_batch_size": 4,
                "gradient_accumulation_steps": 2,
                "train_sampling_strategy": "random",
                "learning_rate": 1e-2,
                "save_steps": 1,
                "save_total_limit": 5,
                "logging_steps": 1,
            },
            "drift": {"times": ["0s"], "chips": 1, "draws": 1},
        }
        for section, values in sections.items():
            content[section] = {**content[section], **values} if isinstance(content.get(section), dict) else values
        return Config.model_validate(content)

    return build
