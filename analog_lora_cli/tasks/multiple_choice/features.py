"""Features of questions with choices: one sequence of tokens for each choice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, cast

from analog_lora_cli.tasks.data.collator import PaddingCollator
from analog_lora_cli.tasks.data.features import FeatureValue

if TYPE_CHECKING:
    import torch
    from torch import Tensor

CHOICE_LENGTHS = "choice_lengths"
"""Feature with the number of tokens of each choice; the other sequences hold one choice after another."""


def joined(sequences: Iterable[Mapping[str, list[int]]], counts: Iterable[int]) -> Iterator[dict[str, FeatureValue]]:
    """Features of questions, from the model's inputs of all their choices.

    Args:
        sequences: inputs of each choice, unpadded.
        counts: number of choices of each question.
    """
    iterator = iter(sequences)
    for count in counts:
        choices = list(islice(iterator, count))
        features: dict[str, FeatureValue] = {
            name: [token for choice in choices for token in choice[name]] for name in choices[0]
        }
        yield {**features, CHOICE_LENGTHS: [len(choice["input_ids"]) for choice in choices]}


class ChoiceCollator(PaddingCollator):
    """Turns features of questions into one batch.

    Questions with fewer choices than others are filled up with sequences of a single token, which no choice is: each
    has a token at its beginning and one at its end. See `absent_choices`.
    """

    def __call__(self, features: Sequence[Mapping[str, FeatureValue]]) -> dict[str, torch.Tensor]:
        """A batch of (features, choices, longest) integer sequences; numbers of features, (features,)."""
        numbers = [{name: one for name, one in row.items() if not isinstance(one, list)} for row in features]
        questions = [list(_separate(row)) for row in features]
        most = max(map(len, questions))
        filled = [[*choices, *[_first_token(choices[0])] * (most - len(choices))] for choices in questions]
        choices = super().__call__([choice for question in filled for choice in question])
        shaped = {name: tensor.unflatten(0, (len(features), -1)) for name, tensor in choices.items()}
        return {**super().__call__(numbers), **shaped}


def absent_choices(attention_mask: Tensor) -> Tensor:
    """(features, choices): whether a sequence of a batch only fills up a question with fewer choices.

    Args:
        attention_mask: (features, choices, tokens).
    """
    return attention_mask.sum(dim=-1) < 2


def _first_token(choice: Mapping[str, list[int]]) -> dict[str, list[int]]:
    return {name: tokens[:1] for name, tokens in choice.items()}


def _separate(row: Mapping[str, FeatureValue]) -> Iterator[dict[str, list[int]]]:
    """The sequences of each choice of a question."""
    sequences = {name: cast(list[int], one) for name, one in row.items() if isinstance(one, list)}
    start = 0
    for length in sequences.pop(CHOICE_LENGTHS):
        yield {name: tokens[start : start + length] for name, tokens in sequences.items()}
        start += length
