"""Answers that a model writes: greedy, with a cache of keys and values, several at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from analog_lora_cli.errors import UsageError
from analog_lora_cli.tasks.base import EvalSet, FloatArray
from analog_lora_cli.tasks.causal.benchmarks.documents import Documents
from analog_lora_cli.tasks.causal.benchmarks.scoring import scores
from analog_lora_cli.tasks.causal.benchmarks.tokens import RequestTokenizer
from analog_lora_cli.tasks.causal.likelihood import longest_input
from analog_lora_cli.tasks.data.features import mapped_features
from analog_lora_cli.tasks.scores import Scores

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

LONGEST_ANSWER = 256
"""Tokens of an answer where its definition says nothing: lm-eval's number."""


@dataclass(frozen=True)
class GreedyAnswers:
    """Function from a batch of prompts to the tokens of their answers, one array a row."""

    tokenizer: PreTrainedTokenizerBase
    stops: Sequence[str]
    """Texts at which an answer ends."""
    longest: int
    """Tokens of an answer at most."""

    def __call__(self, model: nn.Module, inputs: dict[str, Tensor], lengths: Sequence[int]) -> list[FloatArray]:
        """Write the answers of a batch; see `BatchOutputs`."""
        prompts, room = inputs["input_ids"], longest_input(model, self.tokenizer) - self.longest
        if room < 1:
            raise UsageError(f"task.benchmarks: answers of {self.longest} tokens leave no room for a question")
        rows = [row[:length][-room:] for row, length in zip(prompts, lengths, strict=True)]
        return [np.array(answer, dtype=np.float64) for answer in self.answers(model, rows)]

    def answers(self, model: Any, prompts: Sequence[Tensor]) -> list[list[int]]:
        """The tokens of the answers to some prompts, without what comes after their end.

        Args:
            model: a causal language model.
            prompts: the tokens of each prompt, of different lengths.
        """
        from torch.nn.utils.rnn import pad_sequence
        from transformers import StoppingCriteriaList

        padding = self.tokenizer.pad_token_id
        tokens = pad_sequence(list(prompts), True, padding, "left")
        mask = pad_sequence([row.new_ones(len(row)) for row in prompts], True, 0, "left")
        start = tokens.shape[1]
        ends = _stop_texts(self.tokenizer, self.stops, start)
        whole = model.generate(
            input_ids=tokens,
            attention_mask=mask,
            max_new_tokens=self.longest,
            do_sample=False,
            num_beams=1,
            temperature=None,
            top_p=None,
            top_k=None,
            use_cache=True,
            pad_token_id=padding,
            stopping_criteria=StoppingCriteriaList([ends]),
        )
        return [_without_padding(row, padding) for row in whole[:, start:].tolist()]


def _without_padding(answer: list[int], padding: int) -> list[int]:
    size = len(answer)
    while size and answer[size - 1] == padding:
        size -= 1
    return answer[:size]


def _stop_texts(tokenizer: PreTrainedTokenizerBase, stops: Sequence[str], start: int) -> Any:
    """A criterion that ends each row of its own at any of some texts.

    Args:
        tokenizer: tokenizer of the model.
        stops: the texts.
        start: tokens of the prompts.
    """
    import torch
    from transformers import StoppingCriteria

    # Two more than a text has, because it may be written in other tokens.
    sizes = {stop: len(tokenizer.encode(stop, add_special_tokens=False)) + 2 for stop in stops}

    class _StopTexts(StoppingCriteria):
        def __call__(self, input_ids: Tensor, scores: Tensor, **_: Any) -> Any:
            rows = input_ids[:, start:].tolist()
            ended = [any(stop in tokenizer.decode(row[-size:]) for stop, size in sizes.items()) for row in rows]
            return torch.tensor(ended, device=input_ids.device)

    return _StopTexts()


def generation_set(documents: Documents, tokenizer: PreTrainedTokenizerBase) -> EvalSet:
    """The requests of a benchmark whose answers are texts, as an evaluation set.

    Raises:
        UsageError: the definition asks for what is not known here.
    """
    instances = documents.instances
    options: Mapping[str, Any] = instances[0].args[1]
    stops, longest = _options(documents.definition.name, options)
    if isinstance(tokenizer.eos_token, str):
        stops = list(dict.fromkeys([*stops, tokenizer.eos_token]))
    tokens = RequestTokenizer(tokenizer)
    rows = [tokens.prompt(instance.args[0]) for instance in instances]

    def scorer(outputs: Sequence[FloatArray]) -> Scores:
        texts = [tokenizer.decode(output.astype(int).tolist(), skip_special_tokens=True) for output in outputs]
        return scores(documents, [_until(text, stops) for text in texts])

    return EvalSet(
        documents.definition.label,
        mapped_features({"input_ids": row, "attention_mask": [1] * len(row)} for row in rows),
        scorer,
        outputs=GreedyAnswers(tokenizer, stops, longest),
    )


def _options(name: str, options: Mapping[str, Any]) -> tuple[list[str], int]:
    """The texts that end an answer, and its tokens at most, of lm-eval's `generation_kwargs`."""
    known = dict(options)
    until = known.pop("until", None) or []
    lengths = [known.pop(key, None) for key in ("max_gen_toks", "max_new_tokens", "max_tokens")]
    for greedy in ("do_sample", "temperature", "top_p", "top_k"):
        known.pop(greedy, None)
    if known:
        raise UsageError(
            f"task.benchmarks: {name} cannot be measured: it sets {', '.join(known)} for the writing of answers"
        )
    stops = [until] if isinstance(until, str) else list(until)
    return [stop for stop in stops if stop], next((int(one) for one in lengths if one), LONGEST_ANSWER)


def _until(text: str, stops: Sequence[str]) -> str:
    for stop in stops:
        text = text.split(stop)[0]
    return text
