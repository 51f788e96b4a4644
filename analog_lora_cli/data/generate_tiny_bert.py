"""Write the tiny random BERT and the tiny classification data that the smoke presets run on.

Run as `python -m analog_lora_cli.data.generate_tiny_bert [FOLDER]`. The model has learned nothing: it shows that
everything runs, not that anything works.
"""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from safetensors.numpy import save

from analog_lora_cli.data import generate_quickstart

FOLDER = Path(__file__).resolve().parent
SEED = 17
TRAIN_SENTENCES = 80
VALIDATION_SENTENCES = 40
WEIGHT_STD = 0.1

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789"

HIDDEN, LAYERS, HEADS, INTERMEDIATE, POSITIONS = 64, 2, 2, 128, 128

PARTS = ("tile", "converter", "driver", "array", "crossbar", "amplifier", "controller", "prototype")
GOOD = ("quiet", "accurate", "stable", "fast", "reliable", "excellent")
BAD = ("noisy", "wrong", "unstable", "slow", "broken", "terrible")
REMARKS = (
    "the {part} is {judgement}",
    "after a year the {part} was still {judgement}",
    "everyone in the lab found this {part} {judgement}",
    "one more {judgement} {part} , tested twice",
    "we measured a {part} that is {judgement}",
)
"""Sentences in SST-2's manner: lower case, label 1 for praise and 0 for complaint."""


def sentences() -> list[tuple[str, int]]:
    """All remarks in a fixed random order, each with its label."""
    remarks = [
        (remark.format(part=part, judgement=judgement), label)
        for remark in REMARKS
        for part in PARTS
        for label, judgements in ((1, GOOD), (0, BAD))
        for judgement in judgements
    ]
    Random(SEED).shuffle(remarks)
    return remarks


def classification_files() -> dict[str, str]:
    """Training and validation data in CSV, by file name."""
    remarks = sentences()
    splits = {
        "sst2-train.csv": remarks[:TRAIN_SENTENCES],
        "sst2-validation.csv": remarks[TRAIN_SENTENCES : TRAIN_SENTENCES + VALIDATION_SENTENCES],
    }
    return {name: _csv(rows) for name, rows in splits.items()}


def _csv(rows: list[tuple[str, int]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(("sentence", "label"))
    writer.writerows(rows)
    return buffer.getvalue()


def vocabulary() -> list[str]:
    """Special tokens, all characters (so that any English word can be spelled), and the words of both data sets."""
    texts = [sentence for sentence, _ in sentences()]
    for content in generate_quickstart.generate().values():
        for paragraph in json.loads(content)["data"][0]["paragraphs"]:
            texts += [paragraph["context"], *(question["question"] for question in paragraph["qas"])]
    words = set(re.findall(r"[a-z]+|[0-9]+", " ".join(texts).lower())) - set(CHARACTERS)
    return [
        *SPECIAL_TOKENS,
        *".,?!:;'\"()-%/",
        *CHARACTERS,
        *(f"##{character}" for character in CHARACTERS),
        *sorted(words),
    ]


def model_config(vocabulary_size: int) -> dict[str, Any]:
    """The content of config.json."""
    return {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "vocab_size": vocabulary_size,
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": INTERMEDIATE,
        "max_position_embeddings": POSITIONS,
        "type_vocab_size": 2,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "initializer_range": 0.02,
        "layer_norm_eps": 1e-12,
        "pad_token_id": 0,
        "dtype": "float32",
    }


def weights(vocabulary_size: int) -> dict[str, np.ndarray[Any, Any]]:
    """Random weights under the names of transformers' BertModel, from numpy's frozen legacy generator."""
    shapes: dict[str, tuple[int, int]] = {
        "embeddings.word_embeddings": (vocabulary_size, HIDDEN),
        "embeddings.position_embeddings": (POSITIONS, HIDDEN),
        "embeddings.token_type_embeddings": (2, HIDDEN),
        "pooler.dense": (HIDDEN, HIDDEN),
    }
    norms = ["embeddings.LayerNorm"]
    for layer in range(LAYERS):
        prefix = f"encoder.layer.{layer}"
        for name in ("self.query", "self.key", "self.value", "output.dense"):
            shapes[f"{prefix}.attention.{name}"] = (HIDDEN, HIDDEN)
        shapes[f"{prefix}.intermediate.dense"] = (INTERMEDIATE, HIDDEN)
        shapes[f"{prefix}.output.dense"] = (HIDDEN, INTERMEDIATE)
        norms += [f"{prefix}.attention.output.LayerNorm", f"{prefix}.output.LayerNorm"]

    random = np.random.RandomState(SEED)
    tensors: dict[str, np.ndarray[Any, Any]] = {}
    for name, shape in shapes.items():
        tensors[f"{name}.weight"] = (WEIGHT_STD * random.standard_normal(shape)).astype(np.float32)
        if not name.startswith("embeddings"):
            tensors[f"{name}.bias"] = np.zeros(shape[0], np.float32)
    for name in norms:
        tensors[f"{name}.weight"] = np.ones(HIDDEN, np.float32)
        tensors[f"{name}.bias"] = np.zeros(HIDDEN, np.float32)
    return tensors


def tokenizer_files(words: list[str]) -> dict[str, str]:
    """The files of a fast BertTokenizer, by file name."""
    numbers = {word: number for number, word in enumerate(words)}
    special = [
        {
            "id": numbers[token],
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for token in SPECIAL_TOKENS
    ]

    def piece(kind: str, name: str, type_id: int) -> dict[str, Any]:
        return {kind: {"id": name, "type_id": type_id}}

    start, end = piece("SpecialToken", "[CLS]", 0), piece("SpecialToken", "[SEP]", 0)
    single = [start, piece("Sequence", "A", 0), end]
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": True,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": single,
            "pair": [*single, piece("Sequence", "B", 1), piece("SpecialToken", "[SEP]", 1)],
            "special_tokens": {
                token: {"id": token, "ids": [numbers[token]], "tokens": [token]} for token in ("[CLS]", "[SEP]")
            },
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": numbers,
        },
    }
    settings = {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": True,
        "model_max_length": POSITIONS,
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    return {
        "tokenizer.json": json.dumps(tokenizer, indent=1) + "\n",
        "tokenizer_config.json": json.dumps(settings, indent=2) + "\n",
        "vocab.txt": "\n".join(words) + "\n",
    }


def generate() -> dict[str, bytes]:
    """The content of all files, by path below the data folder."""
    words = vocabulary()
    texts = {f"tiny-bert/{name}": text for name, text in tokenizer_files(words).items()}
    texts["tiny-bert/config.json"] = json.dumps(model_config(len(words)), indent=2) + "\n"
    texts.update({f"smoke/{name}": text for name, text in classification_files().items()})
    files = {name: text.encode() for name, text in texts.items()}
    files["tiny-bert/model.safetensors"] = save(weights(len(words)), metadata={"format": "pt"})
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
