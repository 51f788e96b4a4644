"""Model inputs of single texts and of pairs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

from analog_lora_cli.errors import UsageError
from analog_lora_cli.tasks.data.features import model_input_names

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHUNK_SAMPLES = 1000


def encoded_texts(
    samples: Iterable[tuple[str, ...]], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> Iterator[dict[str, list[int]]]:
    """The model's inputs for each text or pair of texts, unpadded, cut to `max_length` tokens."""
    names = model_input_names(tokenizer)
    iterator = iter(samples)
    while chunk := list(islice(iterator, CHUNK_SAMPLES)):
        texts = [list(column) for column in zip(*chunk, strict=True)]
        encoded = tokenizer(*texts, truncation=True, max_length=max_length, padding=False, return_attention_mask=True)
        for index in range(len(chunk)):
            yield {name: encoded[name][index] for name in names}


def require_offsets(tokenizer: PreTrainedTokenizerBase, task: str) -> None:
    """Check that a tokenizer knows each token's place in the text.

    Args:
        tokenizer: the model's tokenizer.
        task: name of the task that needs it.

    Raises:
        UsageError: it is a slow one.
    """
    if not tokenizer.is_fast:
        raise UsageError(
            f"task {task} needs a fast tokenizer, which knows each token's place in the text; "
            f"{type(tokenizer).__name__} of this model is a slow one: choose a model with a tokenizer.json"
        )
