"""Size of a model's attention, which has no weights of its own and so is no module with facts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class AttentionShape:
    """Products of queries, keys and values in all blocks of a model."""

    blocks: int
    query_width: int
    """Numbers in the queries of a token, all heads together."""
    key_width: int
    """Numbers in the keys of a token, all heads together; the values have as many."""


def attention_shape(config: Any) -> AttentionShape | None:
    """The attention that a transformers configuration describes; None for a model without attention heads."""
    heads, blocks = getattr(config, "num_attention_heads", None), getattr(config, "num_hidden_layers", None)
    if not isinstance(heads, int) or not isinstance(blocks, int):
        return None
    # MobileBERT attends inside a bottleneck.
    width = getattr(config, "true_hidden_size", None) or config.hidden_size
    head = getattr(config, "head_dim", None) or width // heads
    return AttentionShape(blocks, heads * head, (getattr(config, "num_key_value_heads", None) or heads) * head)
