"""Text that a causal language model writes itself.

R rows of a batch, T tokens of the longest prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

    from analog_lora_cli.tasks.base import FloatArray


def generated_tokens(
    model: nn.Module,
    inputs: dict[str, Tensor],
    lengths: Sequence[int],
    tokenizer: PreTrainedTokenizerBase,
    most: int,
) -> list[FloatArray]:
    """The tokens that a model writes after each prompt, each the most probable one, up to an end token.

    Args:
        model: a causal language model, or PEFT's wrapper around one.
        inputs: `input_ids` and `attention_mask` of the prompts, (R, T), padded on the right.
        lengths: (R,) tokens of each prompt.
        tokenizer: tokenizer of the model.
        most: tokens that are written at most.
    """
    from transformers import GenerationConfig

    # On the left: what is written follows the last token.
    padded = {name: _moved_right(tensor, lengths) for name, tensor in inputs.items()}
    ends = _end_tokens(model, tokenizer)
    settings = GenerationConfig(
        max_new_tokens=most, do_sample=False, eos_token_id=ends, pad_token_id=tokenizer.pad_token_id
    )
    written = model.generate(**padded, generation_config=settings)  # type: ignore[operator]
    rows = written[:, padded["input_ids"].shape[1] :].tolist()
    return [np.array(_up_to_end(row, ends), dtype=np.float64) for row in rows]


def _moved_right(tensor: Tensor, lengths: Sequence[int]) -> Tensor:
    import torch

    width = tensor.shape[1]
    return torch.stack([row.roll(width - length) for row, length in zip(tensor, lengths, strict=True)])


def _end_tokens(model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """All tokens that end an answer: those of the model and that of the tokenizer."""
    own = model.generation_config.eos_token_id  # type: ignore[union-attr]
    ends = {tokenizer.eos_token_id, *(own if isinstance(own, list) else [own])}
    return sorted(token for token in ends if token is not None)


def _up_to_end(tokens: list[int], ends: list[int]) -> list[int]:
    count = next((index + 1 for index, token in enumerate(tokens) if token in ends), len(tokens))
    return tokens[:count]
