"""Tokenized samples as a data set that need not fit into memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedTokenizerBase

MODEL_INPUTS = ("input_ids", "token_type_ids", "attention_mask")
CHUNK_ROWS = 2000


def model_input_names(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Which of a tokenizer's outputs go into the model: `input_ids`, `attention_mask` and perhaps `token_type_ids`."""
    return [name for name in MODEL_INPUTS if name in (*tokenizer.model_input_names, "attention_mask")]


def mapped_features(rows: Iterable[Mapping[str, Any]]) -> datasets.Dataset:
    """A data set of `rows`, with the column `length` added: the number of tokens in `input_ids`.

    The rows are written to a temporary file as they come, and read from there through a memory map: a training set
    may be larger than the memory. The file has no name any more when this returns, so that nothing is left behind
    however the process ends.
    """
    import datasets
    from datasets.arrow_writer import ArrowWriter

    iterator = iter(rows)
    with tempfile.NamedTemporaryFile(prefix="analora-", suffix=".arrow") as file:
        writer = None
        while chunk := list(islice(iterator, CHUNK_ROWS)):
            columns = {name: [row[name] for row in chunk] for name in chunk[0]}
            columns["length"] = [len(row["input_ids"]) for row in chunk]
            if writer is None:
                types = datasets.Features({name: _column_type(values) for name, values in columns.items()})
                writer = ArrowWriter(path=file.name, features=types)
            writer.write_batch(columns)
        assert writer is not None, "the readers refuse data without rows"
        writer.finalize()
        return datasets.Dataset.from_file(file.name)


def _column_type(values: list[Any]) -> Any:
    from datasets import List, Value

    if isinstance(values[0], list):
        return List(Value("int32"))
    return Value("float32" if isinstance(values[0], float) else "int64")
