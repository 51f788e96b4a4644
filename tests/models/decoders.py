"""Tiny decoders of each kind with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.conftest import WORDS

LAYERS = 2
_LLAMA: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
}
_PLAIN = {"hidden_size": 32, "num_hidden_layers": LAYERS, "num_attention_heads": 4, "intermediate_size": 48}
SIZES: dict[str, dict[str, Any]] = {
    "llama": {**_LLAMA, "tie_word_embeddings": False},
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": {**_LLAMA, "head_dim": 8},
    "gemma": {**_LLAMA, "head_dim": 8},
    "phi": _PLAIN,
    "phi3": {**_LLAMA, "pad_token_id": None},
    "gpt_neox": _PLAIN,
    "opt": {"hidden_size": 32, "num_hidden_layers": LAYERS, "num_attention_heads": 4, "ffn_dim": 48,
            "word_embed_proj_dim": 32},
    "gpt2": {"n_embd": 32, "n_layer": LAYERS, "n_head": 4, "attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0},
}  # fmt: skip
"""What makes each kind small."""
MATRICES = {
    **dict.fromkeys(["llama", "mistral", "qwen2", "qwen3", "gemma"], 7),
    "phi": 6,
    "phi3": 4,
    "gpt_neox": 4,
    "opt": 6,
    "gpt2": 4,
}
"""Linear layers of one block."""


def save_tokenizer(folder: Path) -> int:
    """Save a tokenizer of bytes and a few words, of which some families insist; returns the number of its tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet)
    tokenizer.train_from_iterator([" ".join(WORDS)] * 4, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>")
    fast.save_pretrained(folder)
    return len(fast)


def make_decoder(kind: str, folder: Path, size: dict[str, Any] | None = None) -> Path:
    """Save a decoder with random weights.

    Args:
        kind: `model_type` of transformers.
        folder: where to.
        size: what makes it small; None: as in SIZES.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {"vocab_size": save_tokenizer(folder), "eos_token_id": 0, "bos_token_id": None, "initializer_range": 0.3}
    sizes = {**sizes, "max_position_embeddings": 64, **(size or SIZES[kind])}
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **sizes)).save_pretrained(folder)
    return folder
