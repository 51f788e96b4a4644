"""Tokenized samples as a data set in memory."""

from __future__ import annotations

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


def features_in_memory(rows: Iterable[Mapping[str, Any]]) -> datasets.Dataset:
    """A data set of `rows`, with the column `length` added: the number of tokens in `input_ids`.

    Nothing is written to disk. Rows are converted piece by piece: as Python lists all of them together would take
    ten times the memory.
    """
    import datasets

    iterator = iter(rows)
    parts = []
    while chunk := list(islice(iterator, CHUNK_ROWS)):
        columns = {name: [row[name] for row in chunk] for name in chunk[0]}
        columns["length"] = [len(row["input_ids"]) for row in chunk]
        types = datasets.Features({name: _column_type(values) for name, values in columns.items()})
        parts.append(datasets.Dataset.from_dict(columns, features=types))
    return datasets.concatenate_datasets(parts) if len(parts) > 1 else parts[0]


def _column_type(values: list[Any]) -> Any:
    from datasets import List, Value

    if isinstance(values[0], list):
        return List(Value("int32"))
    return Value("float32" if isinstance(values[0], float) else "int64")
