"""Tokenized samples as a data set that need not fit into memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import TYPE_CHECKING, TypeAlias

from analog_lora_cli.errors import AnaloraError

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedTokenizerBase

FeatureValue: TypeAlias = list[int] | list[float] | int | float | str
"""Token ids, masks or positions of a sequence; a label, of sets of classes 0 or 1 for each class; an image's path."""

TOKEN_INPUTS = ("input_ids", "token_type_ids", "attention_mask")
MODEL_INPUTS = (*TOKEN_INPUTS, "pixel_values")
CHUNK_ROWS = 2000


def model_input_names(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Names of a tokenizer's outputs that are model inputs: `input_ids`, `attention_mask`, perhaps `token_type_ids`."""
    return [name for name in TOKEN_INPUTS if name in (*tokenizer.model_input_names, "attention_mask")]


def mapped_features(rows: Iterable[Mapping[str, FeatureValue]]) -> datasets.Dataset:
    """A data set of `rows`, with the column `length` added where it is missing: the number of tokens in `input_ids`.

    More rows than `CHUNK_ROWS` are written to a temporary file as they come, and read from there through a memory map:
    a training set may be larger than the memory. The file has no name any more when this returns, so that nothing is
    left behind however the process ends. `Dataset.from_generator` would not do: it hashes what the generator closes
    over, which an iterator does not allow, hides a bad row's message in an error of its own, and takes four times as
    long.

    Raises:
        AnaloraError: the folder for temporary files has no room.
    """
    import datasets

    chunks = _chunks(rows)
    first = next(chunks)
    second = next(chunks, None)
    types = datasets.Features({name: _column_type(values) for name, values in first.items()})
    if second is None:
        return datasets.Dataset.from_dict(first, features=types)
    try:
        with tempfile.NamedTemporaryFile(prefix="analora-", suffix=".arrow") as file:
            return _write(chain([first, second], chunks), types, file.name)
    except OSError as error:
        raise AnaloraError(
            f"{tempfile.gettempdir()}: the tokenized data find no room: {error.strerror or error}; make room, or "
            "name another folder with TMPDIR"
        ) from error


def _chunks(rows: Iterable[Mapping[str, FeatureValue]]) -> Iterator[dict[str, list[FeatureValue]]]:
    """Columns of `CHUNK_ROWS` rows at a time."""
    iterator = iter(rows)
    while chunk := list(islice(iterator, CHUNK_ROWS)):
        columns: dict[str, list[FeatureValue]] = {name: [row[name] for row in chunk] for name in chunk[0]}
        if "length" not in columns:
            columns["length"] = [len(tokens) for tokens in columns["input_ids"] if isinstance(tokens, list)]
        yield columns


def _write(chunks: Iterable[dict[str, list[FeatureValue]]], types: datasets.Features, path: str) -> datasets.Dataset:
    import datasets
    from datasets.arrow_writer import ArrowWriter

    writer = ArrowWriter(path=path, features=types)
    for columns in chunks:
        writer.write_batch(columns)
    writer.finalize()
    return datasets.Dataset.from_file(path)


def _column_type(values: list[FeatureValue]) -> datasets.List | datasets.Value:
    from datasets import List, Value

    first = values[0]
    if isinstance(first, str):
        return Value("string")
    if isinstance(first, list):
        return List(Value("float32" if isinstance(first[0], float) else "int32"))
    return Value("float32" if isinstance(first, float) else "int64")
