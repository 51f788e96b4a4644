"""Batches: features of different lengths, padded to the longest of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from analog_lora_cli.errors import UsageError
from analog_lora_cli.tasks.data.features import FeatureValue

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase


IGNORED = -100
"""Label of a token that does not count: the value that torch's losses leave out."""


class PaddingCollator:
    """Turns features into one batch of tensors: each sequence padded on the right, `length` left out.

    Padding stands on the right whatever the tokenizer prefers, so that the first `length` outputs of a row are
    those of its tokens.

    Args:
        tokenizer: tokenizer of the model, which has the padding values.

    Raises:
        UsageError: the tokenizer has no padding token.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        if tokenizer.pad_token_id is None:
            raise UsageError("the model's tokenizer has no padding token, so inputs of different lengths make no batch")
        self._padding = {
            "input_ids": tokenizer.pad_token_id,
            "attention_mask": 0,
            "token_type_ids": tokenizer.pad_token_type_id,
            "labels": IGNORED,
        }

    def __call__(self, features: Sequence[Mapping[str, FeatureValue]]) -> dict[str, torch.Tensor]:
        """A batch of (features, longest) sequences; numbers of features, such as their classes, (features,)."""
        import torch

        batch: dict[str, torch.Tensor] = {}
        for name in features[0]:
            values = [feature[name] for feature in features]
            if isinstance(values[0], list):
                batch[name] = self._pad(cast(list[list[float]], values), self._padding.get(name, 0))
            elif name != "length":
                batch[name] = torch.tensor(values)
        return batch

    @staticmethod
    def _pad(rows: Sequence[Sequence[float]], value: int) -> torch.Tensor:
        import torch

        longest = max(len(row) for row in rows)
        return torch.tensor([list(row) + [value] * (longest - len(row)) for row in rows])
