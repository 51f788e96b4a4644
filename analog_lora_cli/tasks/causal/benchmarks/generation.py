"""Answers that a model writes: greedy, with a cache of keys and values, several at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from analog_lora_cli.errors import UsageError
from analog_lora_cli.tasks.base import EvalSet, FloatArray
from analog_lora_cli.tasks.causal.benchmarks.documents import Documents
from analog_lora_cli.tasks.causal.benchmarks.scoring import scores
from analog_lora_cli.tasks.causal.benchmarks.tokens import RequestTokenizer
from analog_lora_cli.tasks.causal.generation import generated_tokens
from analog_lora_cli.tasks.causal.likelihood import longest_input, shortened
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
        tokens, lengths = shortened(inputs, lengths, longest_input(model, self.tokenizer) - self.longest)
        return generated_tokens(model, tokens, lengths, self.tokenizer, self.longest, self.stops)

    def check(self, name: str, model: nn.Module) -> None:
        """See `EvalSet.check`.

        Args:
            name: lm-eval's name of the benchmark.
            model: as for a batch.
        """
        limit = longest_input(model, self.tokenizer)
        if self.longest >= limit:
            raise UsageError(
                f"task.benchmarks: {name}, question 1: an answer may have {self.longest} tokens, and the model takes "
                f"{limit} together with the question: leave {name} out, or name a model that takes longer inputs"
            )


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
    outputs = GreedyAnswers(tokenizer, stops, longest)

    def scorer(outputs: Sequence[FloatArray]) -> Scores:
        texts = [tokenizer.decode(output.astype(int).tolist(), skip_special_tokens=True) for output in outputs]
        return scores(documents, [_until(text, stops) for text in texts])

    return EvalSet(
        documents.definition.label,
        mapped_features({"input_ids": row, "attention_mask": [1] * len(row)} for row in rows),
        scorer,
        outputs=outputs,
        check=partial(outputs.check, documents.definition.name),
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
