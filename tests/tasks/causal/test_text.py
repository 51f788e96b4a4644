"""Running text: sequences of equal length, every token but the first of each foretold once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from analog_lora_cli.config.sections.causal import TextSection
from analog_lora_cli.errors import DataError
from analog_lora_cli.tasks.causal.text import NextToken
from analog_lora_cli.tasks.data.collator import IGNORED

WORDS = "the tile reads drifts fast slow chip noise holds weight " * 3


@pytest.fixture
def tokenizer(tiny_decoder: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(tiny_decoder)


def task(file: Path, **options: Any) -> NextToken:
    files = {"train_file": str(file), "validation_file": str(file)}
    return NextToken(TextSection.model_validate({"max_length": 8, **files, **options}), 0)


def test_text_is_cut_into_sequences(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text(WORDS)
    features = task(file).train_features(tokenizer)
    assert features["length"] == [8, 8, 8, 7]
    joined = [token for row in features for token in row["input_ids"]]
    assert tokenizer.decode(joined) == f"{WORDS.strip()} </s>"
    assert all(row["labels"] == [IGNORED, *row["input_ids"][1:]] for row in features)


def test_texts_of_a_table_are_joined(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    file = tmp_path / "text.jsonl"
    file.write_text("\n".join(json.dumps({"content": text}) for text in ("the tile", "reads", "drifts fast")))
    (row,) = task(file, text_column="content").train_features(tokenizer)
    assert tokenizer.decode(row["input_ids"]) == "the tile </s> reads </s> drifts fast </s>"
    with pytest.raises(DataError, match=r"text\.jsonl, line 1: the column 'text' is missing; present: 'content'"):
        task(file).train_features(tokenizer)


def test_too_little_text_is_refused(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    file = tmp_path / "text.jsonl"
    file.write_text(json.dumps({"text": ""}))
    with pytest.raises(DataError, match=r"text\.jsonl: holds no text of two tokens or more"):
        task(file).train_features(tokenizer)
