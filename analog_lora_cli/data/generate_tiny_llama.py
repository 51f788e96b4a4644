"""Write the tiny random Llama that the smoke presets of language models run on.

Run as `python -m analog_lora_cli.data.generate_tiny_llama [FOLDER]`. The model has learned nothing: it shows that
everything runs, not that anything works.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

FOLDER = Path(__file__).resolve().parent
SEED = 18
WEIGHT_STD = 0.1

END, START = "<|im_end|>", "<|im_start|>"
TAGS = ("<start_working_out>", "<end_working_out>", "<SOLUTION>", "</SOLUTION>")
"""Tags of task `reasoning`, a token each, so that chance writes some of them."""
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

HIDDEN, LAYERS, HEADS, KEY_VALUE_HEADS, INTERMEDIATE, POSITIONS = 64, 2, 4, 2, 128, 512


def vocabulary() -> list[str]:
    """End token, special token, tags, and the characters that stand for the 256 bytes in byte-level tokenizers."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    characters = {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}
    return [END, START, *TAGS, *(characters[byte] for byte in range(256))]


def model_config(vocabulary_size: int) -> dict[str, Any]:
    """The content of config.json."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": vocabulary_size,
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KEY_VALUE_HEADS,
        "intermediate_size": INTERMEDIATE,
        "max_position_embeddings": POSITIONS,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "initializer_range": 0.02,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": 0,
        "pad_token_id": 0,
        "dtype": "float32",
    }


def weights(vocabulary_size: int) -> dict[str, np.ndarray[Any, Any]]:
    """Random weights under the names of transformers' LlamaForCausalLM, from numpy's frozen legacy generator."""
    key_value = HIDDEN // HEADS * KEY_VALUE_HEADS
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens": (vocabulary_size, HIDDEN), "model.norm": (HIDDEN,)}
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}"
        shapes |= {f"{prefix}.self_attn.{name}_proj": (HIDDEN, HIDDEN) for name in "qo"}
        shapes |= {f"{prefix}.self_attn.{name}_proj": (key_value, HIDDEN) for name in "kv"}
        shapes |= {f"{prefix}.mlp.{name}_proj": (INTERMEDIATE, HIDDEN) for name in ("gate", "up")}
        shapes[f"{prefix}.mlp.down_proj"] = (HIDDEN, INTERMEDIATE)
        shapes |= {f"{prefix}.{name}_layernorm": (HIDDEN,) for name in ("input", "post_attention")}
    random = np.random.RandomState(SEED)
    return {
        f"{name}.weight": (
            np.ones(shape, np.float32)
            if len(shape) == 1
            else (WEIGHT_STD * random.standard_normal(shape)).astype(np.float32)
        )
        for name, shape in shapes.items()
    }


def tokenizer_files(words: list[str]) -> dict[str, str]:
    """The files of a fast byte-level tokenizer, by file name."""
    numbers = {word: number for number, word in enumerate(words)}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = [
        {"id": numbers[token], "content": token, **flags, "special": token not in TAGS} for token in (END, START, *TAGS)
    ]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    tokenizer: dict[str, object] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": numbers,
            "merges": [],
        },
    }
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": POSITIONS,
        "eos_token": END,
        "pad_token": END,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    return {
        "tokenizer.json": json.dumps(tokenizer, indent=1) + "\n",
        "tokenizer_config.json": json.dumps(settings, indent=2) + "\n",
    }


def generate() -> dict[str, bytes]:
    """The content of all files, by path below the data folder."""
    words = vocabulary()
    texts = {f"tiny-llama/{name}": text for name, text in tokenizer_files(words).items()}
    texts["tiny-llama/config.json"] = json.dumps(model_config(len(words)), indent=2) + "\n"
    files = {name: text.encode() for name, text in texts.items()}
    files["tiny-llama/model.safetensors"] = save(weights(len(words)), metadata={"format": "pt"})
    return files


def main() -> None:
    """Write the files into the folder given as the only argument, or into the package."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    for name, content in generate().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


if __name__ == "__main__":
    main()
