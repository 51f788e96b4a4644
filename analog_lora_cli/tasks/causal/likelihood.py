"""Log-likelihoods of given tokens under a causal language model.

R rows of a batch, T tokens of the longest, C of them whose next token counts, V words of the vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from analog_lora_cli.tasks.data.collator import IGNORED

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

    from analog_lora_cli.tasks.base import FloatArray

LOGITS_OF_A_BATCH = 1 << 27
"""Logits that a batch may have at most: 512 MiB of them in float32."""


def most_tokens(vocabulary: int) -> int:
    """Tokens of a batch whose logits fit into LOGITS_OF_A_BATCH."""
    return max(LOGITS_OF_A_BATCH // vocabulary, 1)


def label_log_likelihoods(model: nn.Module, inputs: dict[str, Tensor], lengths: Sequence[int]) -> list[FloatArray]:
    """The log-likelihood of each row's labels, summed: one number, in nats, for each row.

    Args:
        model: a causal language model, or PEFT's wrapper around one.
        inputs: model inputs, (R, T), padded on the right; and `labels`, (R, T), IGNORED where a token does not count.
        lengths: not used.
    """
    return [np.array([row.sum().item()]) for row in token_log_likelihoods(model, inputs)]


def token_log_likelihoods(model: nn.Module, inputs: dict[str, Tensor]) -> list[Tensor]:
    """The log-likelihoods of each row's labels, in float32, one for each label that counts.

    Only the logits that a label needs are computed where the model can leave out others. Arguments as for
    `label_log_likelihoods`.
    """
    from torch.nn.functional import cross_entropy

    inputs = dict(inputs)
    next_RT = inputs.pop("labels")[:, 1:]
    needed_C = (next_RT != IGNORED).any(dim=0).nonzero()[:, 0]
    logits_RCV = logits_at(model, inputs, needed_C)
    rows = []
    # Row by row, because each one's probabilities are as large as its logits.
    for logits_CV, next_C in zip(logits_RCV, next_RT[:, needed_C], strict=True):
        counts = next_C != IGNORED
        rows.append(-cross_entropy(logits_CV[counts].float(), next_C[counts], reduction="none"))
    return rows


def logits_at(model: nn.Module, inputs: dict[str, Tensor], positions_C: Tensor) -> Tensor:
    """The logits of a batch at some positions, (R, C, V); others are not computed where the model can leave them out.

    Args:
        model: a causal language model, or PEFT's wrapper around one.
        inputs: model inputs, (R, T).
        positions_C: (C,) positions.
    """
    accepted = inspect.signature(_plain(model).forward).parameters
    # A cache of keys and values is of use in generation only.
    options = {"use_cache": False} if "use_cache" in accepted else {}
    if "logits_to_keep" in accepted:
        logits: Tensor = model(**inputs, **options, logits_to_keep=positions_C).logits
        return logits
    return model(**inputs, **options).logits[:, positions_C]  # type: ignore[no-any-return]


def takes_any_mask(model: nn.Module, length: int) -> bool:
    """Whether a model's attention follows a mask (R, 1, T, T) and positions, whatever the order of the tokens.

    Not so where states run through the tokens in their order, where a kernel or layer has a mask of its own, or where
    positions are counted from the mask.

    Args:
        model: as for `logits_at`.
        length: largest number of tokens that one of them sees, itself included.
    """
    plain = _plain(model)
    config = plain.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ())
    window = getattr(config, "sliding_window", None)
    return (
        "position_ids" in inspect.signature(plain.forward).parameters
        and getattr(plain, "_supports_attention_backend", False)
        and not getattr(plain, "_is_stateful", False)
        and config._attn_implementation in ("eager", "sdpa")
        and kinds <= {"full_attention", "sliding_attention"}
        and (not window or length <= window)
    )


def longest_input(model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> int:
    """The tokens that a model's input may have at most, by lm-eval's rule; needs lm-eval.

    Args:
        model: as for `logits_at`.
        tokenizer: its tokenizer, which knows where the model's configuration does not say.
    """
    from lm_eval.models.utils import resolve_max_length

    return int(resolve_max_length(_plain(model).config, tokenizer))


def shortened(inputs: dict[str, Tensor], lengths: Sequence[int], limit: int) -> tuple[dict[str, Tensor], Sequence[int]]:
    """The model inputs of a batch with at most `limit` tokens of each row, the last ones, and their numbers.

    Args:
        inputs: `input_ids` and `attention_mask`, (R, T), padded on the right; others are left out.
        lengths: (R,) tokens of each row.
        limit: tokens of a row at most.
    """
    import torch

    tokens = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    if max(lengths) <= limit:
        return tokens, lengths
    starts = [max(length - limit, 0) for length in lengths]
    cut = {
        name: torch.nn.utils.rnn.pad_sequence(
            [row[start:length] for row, start, length in zip(tensor, starts, lengths, strict=True)], batch_first=True
        )
        for name, tensor in tokens.items()
    }
    return cut, [length - start for length, start in zip(lengths, starts, strict=True)]


def _plain(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model
