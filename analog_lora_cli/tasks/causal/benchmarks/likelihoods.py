"""Log-likelihoods of continuations: what the requests of a question begin with is computed once.

The tokens of a question make a tree, see `TokenTree`. It is one row of a batch, with a mask that says which tokens each
token sees, where the model takes one; else each request is a row.

R rows of a batch, T tokens of the longest, C positions of which some row needs logits, V words of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from analog_lora_cli.errors import UsageError
from analog_lora_cli.tasks.base import EvalSet, FloatArray
from analog_lora_cli.tasks.causal.benchmarks.documents import Documents
from analog_lora_cli.tasks.causal.benchmarks.scoring import scores
from analog_lora_cli.tasks.causal.benchmarks.tokens import RequestTokenizer
from analog_lora_cli.tasks.causal.benchmarks.trees import TokenTree
from analog_lora_cli.tasks.causal.likelihood import logits_at, longest_input, most_tokens, takes_any_mask
from analog_lora_cli.tasks.data.features import mapped_features
from analog_lora_cli.tasks.scores import Scores

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

Likelihood = tuple[float, float]
"""Log-likelihood of a continuation, and whether it is greedy: 1 if each of its tokens is the most probable, else 0."""
ROW = "row"
"""Column with the number of a row."""


@dataclass(frozen=True)
class ContinuationLikelihoods:
    """Function from a batch to the `Likelihood` of each continuation of its questions, one after the other in one array
    a question; no logits are kept."""

    trees: Sequence[TokenTree]
    """The requests of each question."""
    tokenizer: PreTrainedTokenizerBase

    def __call__(self, model: nn.Module, inputs: dict[str, Tensor], lengths: Sequence[int]) -> list[FloatArray]:
        """Compute a batch; see `BatchOutputs`."""
        trees = [self.trees[row] for row in inputs[ROW].tolist()]
        limit, device = longest_input(model, self.tokenizer), inputs["input_ids"].device
        depth = max(tree.depth for tree in trees)
        if any(tree.branches for tree in trees) and depth <= limit and takes_any_mask(model, depth):
            found = _of_trees(model, trees, device)
        else:
            found = _of_sequences(model, trees, limit, device)
        return [np.array(likelihoods).ravel() for likelihoods in found]

    def check(self, name: str, model: nn.Module) -> None:
        """See `EvalSet.check`.

        Args:
            name: lm-eval's name of the benchmark.
            model: as for a batch.
        """
        limit = longest_input(model, self.tokenizer)
        for number, tree in enumerate(self.trees, start=1):
            longest = max(len(path.counted) for path in tree.paths)
            if longest > limit:
                raise UsageError(
                    f"task.benchmarks: {name}, question {number}: an answer has {longest} tokens, and the model takes "
                    f"{limit}: leave {name} out, or name a model that takes longer inputs"
                )


def _of_trees(model: nn.Module, trees: Sequence[TokenTree], device: torch.device) -> list[list[Likelihood]]:
    """The likelihoods of each question, with a row for it.

    The order of a row's tokens is free, because the mask and the positions say what follows what: those whose logits
    are needed stand in front.
    """
    import torch

    width = max(len(tree.tokens) for tree in trees)
    tokens_RT = np.zeros((len(trees), width), dtype=np.int64)
    positions_RT = np.zeros_like(tokens_RT)
    sees_RTT = np.tile(np.eye(width, dtype=bool), (len(trees), 1, 1))  # Padding sees itself.
    for row, tree in enumerate(trees):
        count = len(tree.order)
        tokens_RT[row, :count] = np.array(tree.tokens)[tree.order]
        positions_RT[row, :count] = np.array(tree.positions)[tree.order]
        sees_RTT[row, :count, :count] = tree.sees()[np.ix_(tree.order, tree.order)]
    dtype: torch.dtype = model.dtype  # type: ignore[assignment]
    mask_R1TT = torch.zeros(len(trees), 1, width, width, dtype=dtype, device=device)
    mask_R1TT.masked_fill_(torch.from_numpy(~sees_RTT).to(device)[:, None], torch.finfo(dtype).min)
    inputs = {
        "input_ids": torch.from_numpy(tokens_RT).to(device),
        "position_ids": torch.from_numpy(positions_RT).to(device),
        "attention_mask": mask_R1TT,
    }
    logits_RCV = logits_at(model, inputs, torch.arange(max(tree.scored for tree in trees), device=device))
    found = []
    for tree, logits_CV in zip(trees, logits_RCV, strict=True):
        places = {node: place for place, node in enumerate(tree.order)}
        found.append(
            [_likelihood(logits_CV[[places[node] for node in path.scored]], path.counted) for path in tree.paths]
        )
    return found


def _of_sequences(
    model: nn.Module, trees: Sequence[TokenTree], limit: int, device: torch.device
) -> list[list[Likelihood]]:
    """The likelihoods of each question, with a row for each of its requests: once for those with the same input.

    Args:
        model: as for `logits_at`.
        trees: the requests of each question.
        limit: tokens of an input at most; longer ones are cut from the left.
        device: device of the model.
    """
    import torch

    wanted: dict[tuple[int, ...], list[tuple[int, int]]] = {}
    for number, tree in enumerate(trees):
        for index, path in enumerate(tree.paths):
            tokens = tuple(tree.tokens[node] for node in path.nodes[-limit:])
            wanted.setdefault(tokens, []).append((number, index))
    found: list[list[Likelihood]] = [[(0.0, 0.0)] * len(tree.paths) for tree in trees]
    rows = sorted(wanted, key=len, reverse=True)
    for start in range(0, len(rows), len(trees)):
        batch = rows[start : start + len(trees)]
        padded = [torch.tensor(row, device=device) for row in batch]
        inputs = {
            "input_ids": torch.nn.utils.rnn.pad_sequence(padded, batch_first=True),
            "attention_mask": torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in padded], True),
        }
        counted = [[trees[number].paths[index].counted for number, index in wanted[row]] for row in batch]
        first = min(len(row) - max(map(len, own)) for row, own in zip(batch, counted, strict=True))
        logits_RCV = logits_at(model, inputs, torch.arange(first, len(batch[0]), device=device))
        for row, own, logits_CV in zip(batch, counted, logits_RCV, strict=True):
            for (number, index), one in zip(wanted[row], own, strict=True):
                found[number][index] = _likelihood(logits_CV[len(row) - len(one) - first : len(row) - first], one)
    return found


def _likelihood(logits_CV: Tensor, continuation: Sequence[int]) -> Likelihood:
    import torch

    next_C = torch.tensor(continuation, device=logits_CV.device)
    likelihood = -torch.nn.functional.cross_entropy(logits_CV.float(), next_C, reduction="none").sum()
    return float(likelihood), float((logits_CV.argmax(dim=-1) == next_C).all())


def likelihood_set(documents: Documents, tokenizer: PreTrainedTokenizerBase) -> EvalSet:
    """The requests of a benchmark whose answers are log-likelihoods, as an evaluation set with a row for each question.

    Raises:
        UsageError: the tokenizer makes no token of a choice.
    """
    tokens = RequestTokenizer(tokenizer)
    trees = [TokenTree.of(tokens.pair(*one.args) for one in entry.instances) for entry in documents.entries]

    def scorer(outputs: Sequence[FloatArray]) -> Scores:
        pairs = np.concatenate(outputs).reshape(-1, 2)
        return scores(documents, [(float(likelihood), bool(greedy)) for likelihood, greedy in pairs])

    outputs = ContinuationLikelihoods(trees, tokenizer)
    return EvalSet(
        documents.definition.label,
        mapped_features(
            {"input_ids": tree.tokens, "attention_mask": [1] * len(tree.tokens), ROW: row}
            for row, tree in enumerate(trees)
        ),
        scorer,
        outputs=outputs,
        check=partial(outputs.check, documents.definition.name),
        most_tokens=most_tokens(len(tokenizer)),
    )
