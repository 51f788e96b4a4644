"""Log-likelihoods of continuations: requests that share all input tokens are one row, computed once.

R rows of a batch, C positions of which some row needs logits, V words of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analog_lora_cli.errors import UsageError
from analog_lora_cli.tasks.base import EvalSet, FloatArray
from analog_lora_cli.tasks.causal.benchmarks.documents import Documents
from analog_lora_cli.tasks.causal.benchmarks.scoring import scores
from analog_lora_cli.tasks.causal.benchmarks.tokens import RequestTokenizer
from analog_lora_cli.tasks.causal.likelihood import logits_at, longest_input, most_tokens, shortened
from analog_lora_cli.tasks.data.features import mapped_features
from analog_lora_cli.tasks.scores import Scores

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

Tokens = tuple[int, ...]
ROW = "row"
"""Column with the number of a row."""


@dataclass(frozen=True)
class ContinuationLikelihoods:
    """Function from a batch to `(log-likelihood, whether greedy)` of each continuation of its rows, one after the
    other in one array a row; no logits are kept."""

    continuations: Sequence[Sequence[Tokens]]
    """The continuations of each row: their last token follows the row, the others are its last tokens."""
    tokenizer: PreTrainedTokenizerBase

    def __call__(self, model: nn.Module, inputs: dict[str, Tensor], lengths: Sequence[int]) -> list[FloatArray]:
        """Compute a batch; see `BatchOutputs`."""
        import torch

        rows = [self.continuations[row] for row in inputs[ROW].tolist()]
        tokens, lengths = shortened(inputs, lengths, longest_input(model, self.tokenizer))
        first = min(length - max(map(len, row)) for row, length in zip(rows, lengths, strict=True))
        if first < 0:
            raise UsageError("task.benchmarks: a continuation is longer than the model's input may be")
        positions_C = torch.arange(first, max(lengths), device=inputs["input_ids"].device)
        logits_RCV = logits_at(model, tokens, positions_C)
        outputs = []
        for row, length, logits_CV in zip(rows, lengths, logits_RCV, strict=True):
            pairs = [_likelihood(logits_CV[length - len(one) - first : length - first], one) for one in row]
            outputs.append(np.array(pairs).ravel())
        return outputs


def _likelihood(logits_CV: Tensor, continuation: Tokens) -> tuple[float, float]:
    import torch

    next_C = torch.tensor(continuation, device=logits_CV.device)
    likelihood = -torch.nn.functional.cross_entropy(logits_CV.float(), next_C, reduction="none").sum()
    return float(likelihood), float((logits_CV.argmax(dim=-1) == next_C).all())


def likelihood_set(documents: Documents, tokenizer: PreTrainedTokenizerBase) -> EvalSet:
    """The requests of a benchmark whose answers are log-likelihoods, as an evaluation set.

    Raises:
        UsageError: the tokenizer makes no token of a choice.
    """
    tokens = RequestTokenizer(tokenizer)
    numbers: dict[Tokens, int] = {}
    continuations: list[list[Tokens]] = []
    places = []
    for instance in documents.instances:
        known, counted = tokens.pair(*instance.args)
        row = numbers.setdefault(tuple([*known, *counted][:-1]), len(numbers))
        if row == len(continuations):
            continuations.append([])
        places.append((row, len(continuations[row])))
        continuations[row].append(tuple(counted))

    def scorer(outputs: Sequence[FloatArray]) -> Scores:
        pairs = [outputs[row][2 * index : 2 * index + 2] for row, index in places]
        return scores(documents, [(float(likelihood), bool(greedy)) for likelihood, greedy in pairs])

    return EvalSet(
        documents.definition.label,
        mapped_features(
            {"input_ids": list(row), "attention_mask": [1] * len(row), ROW: number} for row, number in numbers.items()
        ),
        scorer,
        outputs=ContinuationLikelihoods(continuations, tokenizer),
        most_tokens=most_tokens(len(tokenizer)),
    )
