"""Text that a causal language model writes itself.

R rows of a batch, T tokens of the longest prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase, StoppingCriteria

    from analog_lora_cli.tasks.base import FloatArray


def generated_tokens(
    model: nn.Module,
    inputs: dict[str, Tensor],
    lengths: Sequence[int],
    tokenizer: PreTrainedTokenizerBase,
    most: int,
    stops: Sequence[str] = (),
) -> list[FloatArray]:
    """The tokens that a model writes after each prompt, each the most probable one, up to an end token.

    The text of a row does not depend on the others.

    Args:
        model: a causal language model, or PEFT's wrapper around one.
        inputs: `input_ids` and `attention_mask` of the prompts, (R, T), padded on the right.
        lengths: (R,) tokens of each prompt.
        tokenizer: tokenizer of the model.
        most: tokens that are written at most.
        stops: texts that end a row too; its tokens end with one of them, or shortly after.
    """
    from transformers import GenerationConfig

    # On the left: what is written follows the last token.
    padded = {name: _moved_right(tensor, lengths) for name, tensor in inputs.items()}
    ends = _end_tokens(model, tokenizer)
    settings = GenerationConfig(
        max_new_tokens=most, do_sample=False, eos_token_id=ends, pad_token_id=tokenizer.pad_token_id
    )
    start = padded["input_ids"].shape[1]
    criteria = [_stop_texts(tokenizer, stops, start)] if stops else []
    written = model.generate(**padded, generation_config=settings, stopping_criteria=criteria)  # type: ignore[operator]
    # A row that a stop text ended is padded, perhaps with an end token, until the others have ended.
    limits = [*ends, tokenizer.pad_token_id] if stops else ends
    return [np.array(_up_to_end(row, limits), dtype=np.float64) for row in written[:, start:].tolist()]


def _moved_right(tensor: Tensor, lengths: Sequence[int]) -> Tensor:
    import torch

    width = tensor.shape[1]
    return torch.stack([row.roll(width - length) for row, length in zip(tensor, lengths, strict=True)])


def _stop_texts(tokenizer: PreTrainedTokenizerBase, stops: Sequence[str], start: int) -> StoppingCriteria:
    """A criterion that ends each row by itself once it holds one of some texts.

    Args:
        tokenizer: tokenizer of the model.
        stops: the texts.
        start: tokens of the prompts, with padding.
    """
    import torch
    from transformers import StoppingCriteria

    # Two more than a text has, because it may be written in other tokens.
    sizes = {stop: len(tokenizer.encode(stop, add_special_tokens=False)) + 2 for stop in stops}

    class StopTexts(StoppingCriteria):
        def __call__(self, input_ids: Tensor, scores: Tensor, **_: Any) -> Any:
            rows = input_ids[:, start:].tolist()
            ended = [any(stop in str(tokenizer.decode(row[-size:])) for stop, size in sizes.items()) for row in rows]
            return torch.tensor(ended, device=input_ids.device)

    return StopTexts()


def _end_tokens(model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """All tokens that end an answer: those of the model and that of the tokenizer."""
    own = model.generation_config.eos_token_id  # type: ignore[union-attr]
    ends = {tokenizer.eos_token_id, *(own if isinstance(own, list) else [own])}
    return sorted(token for token in ends if token is not None)


def _up_to_end(tokens: list[int], ends: list[int]) -> list[int]:
    count = next((index + 1 for index, token in enumerate(tokens) if token in ends), len(tokens))
    return tokens[:count]
