"""Tiny tokenizers and SQuAD files, made on the spot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


def _fast_tokenizer(model: Any, **options: Any) -> Any:
    from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(model)
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    options["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special, **options)


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """One token for each word or punctuation mark, all of them [UNK] but `yes` and `no`."""
    from tokenizers.models import WordLevel

    vocabulary = {word: index for index, word in enumerate(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "yes", "no"))}
    return _fast_tokenizer(WordLevel(vocabulary, unk_token="[UNK]"), pad_token="[PAD]")


@pytest.fixture(scope="session")
def letter_tokenizer() -> Any:
    """One token for each lower-case letter."""
    from tokenizers.models import WordPiece

    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{letter}" for letter in letters))
    return _fast_tokenizer(WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"), pad_token="[PAD]")


@pytest.fixture(scope="session")
def tokenizer_without_padding() -> Any:
    from tokenizers.models import WordLevel

    vocabulary = {word: index for index, word in enumerate(("[PAD]", "[UNK]", "[CLS]", "[SEP]"))}
    return _fast_tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))


@pytest.fixture
def squad_file(tmp_path: Path) -> Any:
    """Writes a SQuAD file of (context, [(id, question, [answer texts])]); each answer where its text first occurs."""

    def write(paragraphs: list[tuple[str, list[tuple[str, str, list[str]]]]], name: str = "squad.json") -> str:
        content = {
            "data": [
                {
                    "title": "Test",
                    "paragraphs": [
                        {
                            "context": context,
                            "qas": [
                                {
                                    "id": identifier,
                                    "question": question,
                                    "answers": [{"text": text, "answer_start": context.index(text)} for text in texts],
                                }
                                for identifier, question, texts in entries
                            ],
                        }
                        for context, entries in paragraphs
                    ],
                }
            ]
        }
        path = tmp_path / name
        path.write_text(json.dumps(content), encoding="utf-8")
        return str(path)

    return write
