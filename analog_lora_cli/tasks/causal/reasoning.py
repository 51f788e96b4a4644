"""Questions with a final answer that the model writes between tags; measured by letting it answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from analog_lora_cli.config.sections.reasoning import REASONING_TAGS, SOLUTION_TAGS, ReasoningSection
from analog_lora_cli.errors import DataError
from analog_lora_cli.tasks.base import EvalSet, FloatArray, Scorer
from analog_lora_cli.tasks.causal.generation import generated_tokens
from analog_lora_cli.tasks.causal.instruction import Instructions, encode_prompt
from analog_lora_cli.tasks.causal.samples import ANSWERS, Form, Sample
from analog_lora_cli.tasks.causal.solutions import Completion, same
from analog_lora_cli.tasks.data.features import mapped_features
from analog_lora_cli.tasks.data.files import Row, text_value
from analog_lora_cli.tasks.metric import Metric
from analog_lora_cli.tasks.sample_statistics import Mean
from analog_lora_cli.tasks.scores import Columns, Scores

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

GENERATED = "generated"
EXACT_MATCH = Metric("exact_match", statistic=Mean("right"), sample_set=GENERATED)
WELL_FORMED = Metric("well_formed", statistic=Mean("formed"), sample_set=GENERATED)


@dataclass(frozen=True)
class Question(Sample):
    """A question with its final answer."""

    final: str = ""
    """The final answer alone."""

    @property
    def expected(self) -> str:
        """See `Sample`."""
        return self.final


class QuestionForm(Form):
    """The base of forms of questions.

    Args:
        instruction: what the model is told after each question.
    """

    def __init__(self, instruction: str) -> None:
        self.instruction = instruction

    def question(self, text: str, reasoning: str, final: str, where: str) -> Question:
        """The sample of a question.

        Raises:
            DataError: the final answer is empty.
        """
        if not final:
            raise DataError(f"{where}: the answer is empty, so there is nothing to compare with; leave the sample out")
        prompt = "\n\n".join(part for part in (text, self.instruction) if part)
        thought = f"{REASONING_TAGS[0]}{reasoning}{REASONING_TAGS[1]}" if reasoning else ""
        answer = f"{thought}{SOLUTION_TAGS[0]}{final}{SOLUTION_TAGS[1]}"
        messages = [{"role": "user", "content": prompt}, {"role": ANSWERS, "content": answer}]
        return Question(where, messages, f"{prompt}\n\n", final)


class WorkedAnswer(QuestionForm):
    """`question` and `answer`, as in GSM8K: reasoning, and after `####` the final answer; without it that alone."""

    columns = ("question", "answer")

    def sample(self, row: Row, where: str) -> Question:
        question, answer = (text_value(row.values[column], f"{where}: {column}") for column in self.columns)
        reasoning, _, final = answer.rpartition("####")
        # GSM8K's calculator annotations: <<48/2=24>>.
        reasoning = re.sub(r"<<[^<>]*>>", "", reasoning)
        return self.question(question, reasoning.strip(), final.strip(), where)


class Choices(QuestionForm):
    """`question`, `choices` (an object with lists `text` and `label`), `answerKey`: the right choice is the answer."""

    columns = ("question", "choices", "answerKey")

    def sample(self, row: Row, where: str) -> Question:
        question, choices, key = (cast(Any, row.values[column]) for column in self.columns)
        try:
            final = dict(zip(choices["label"], choices["text"], strict=True))[key]
        except (KeyError, TypeError, ValueError):
            raise DataError(
                f"{where}: 'choices' must be an object with lists 'text' and 'label' of equal length, and 'answerKey' "
                "one of the labels"
            ) from None
        text, answer = text_value(question, f"{where}: question"), text_value(final, f"{where}: choices")
        return self.question(text, "", answer.strip(), where)


class PromptAnswer(QuestionForm):
    """`prompt` and `completion`, which is the final answer."""

    columns = ("prompt", "completion")

    def sample(self, row: Row, where: str) -> Question:
        prompt, completion = (text_value(row.values[column], f"{where}: {column}") for column in self.columns)
        return self.question(prompt, "", completion.strip(), where)


class Reasoning(Instructions):
    """Questions with a final answer. The share of right ones among those that the model gives is the headline."""

    section = ReasoningSection
    config: ReasoningSection

    def __init__(self, config: ReasoningSection, seed: int) -> None:
        super().__init__(config, seed)
        self.metrics = (EXACT_MATCH, WELL_FORMED, *self.metrics)

    @property
    def forms(self) -> Sequence[Form]:
        """See `Instructions`."""
        return [form(self.config.instruction) for form in (Choices, WorkedAnswer, PromptAnswer)]

    def eval_sets(self, tokenizer: PreTrainedTokenizerBase) -> list[EvalSet]:
        """What the model answers, and how likely the given answers are."""
        return [self._generated(tokenizer), *super().eval_sets(tokenizer)]

    def _generated(self, tokenizer: PreTrainedTokenizerBase) -> EvalSet:
        samples = self.samples("validation")[: self.config.max_eval_samples]
        encoded = [(one.expected, encode_prompt(one, tokenizer, self.config)[1]) for one in samples]
        room = self.config.max_new_tokens
        kept = [pair for one, pair in zip(samples, encoded, strict=True) if self.has_room(one, pair[1], room)]
        if not kept:
            raise DataError(f"task.max_length: no question leaves room for {room} new tokens; raise task.max_length")
        features = ({"input_ids": tokens, "attention_mask": [1] * len(tokens)} for _, tokens in kept)
        write = partial(generated_tokens, tokenizer=tokenizer, most=room)
        scorer = answer_scorer([expected for expected, _ in kept], tokenizer)
        return EvalSet(GENERATED, mapped_features(features), scorer, outputs=write)


def answer_scorer(expected: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> Scorer:
    """A scorer of generated tokens.

    Args:
        expected: final answers.
        tokenizer: turns tokens into text.
    """

    def scorer(outputs: Sequence[FloatArray]) -> Scores:
        texts = [tokenizer.decode(tokens.astype(int).tolist(), skip_special_tokens=True) for tokens in outputs]
        completions = [Completion(text) for text in texts]
        right = [
            one.solution is not None and same(one.solution, final)
            for one, final in zip(completions, expected, strict=True)
        ]
        columns: Columns = {
            "right": np.array(right, dtype=np.float64),
            "formed": np.array([one.well_formed for one in completions], dtype=np.float64),
        }
        metrics = {
            EXACT_MATCH.name: 100 * float(columns["right"].mean()),
            WELL_FORMED.name: 100 * float(columns["formed"].mean()),
        }
        return Scores(metrics, columns)

    return scorer
