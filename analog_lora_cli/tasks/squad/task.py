"""SQuAD v1.1 and v2: long contexts as overlapping windows, answers as spans of tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from analog_lora_cli.config.sections.task import Squad2Section, SquadSection, TaskSection
from analog_lora_cli.errors import UsageError
from analog_lora_cli.tasks.base import EvalSet, Example, FloatArray, Task
from analog_lora_cli.tasks.data.features import FeatureValue, mapped_features, model_input_names
from analog_lora_cli.tasks.data.files import locate
from analog_lora_cli.tasks.data.hub import load_hub_split
from analog_lora_cli.tasks.data.texts import require_offsets
from analog_lora_cli.tasks.metric import Metric
from analog_lora_cli.tasks.scores import CLUSTER, Column, Scores
from analog_lora_cli.tasks.squad.answer_spans import SpanDecoder, SpanRules, WindowMap
from analog_lora_cli.tasks.squad.data import Question, questions_from_hub, read_squad
from analog_lora_cli.tasks.squad.metrics import EXACT_MATCH, F1, HAS_ANSWER_F1, NO_ANSWER_F1, SquadMetrics

if TYPE_CHECKING:
    import datasets
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase
    from transformers.utils import ModelOutput

CHUNK_QUESTIONS = 500
SMALLEST_ADVANCE = 16
PADDING_LOGIT = -1e4
"""Logit of a token that cannot be chosen: its probability is 0, without an infinity."""
BASELINE_WORDS = (3, 10, 25)
METRICS: tuple[Metric, ...] = (F1, EXACT_MATCH)


@dataclass(frozen=True)
class Window:
    """One question with a part of its context, as the model sees it."""

    inputs: dict[str, list[int]]
    """Model inputs, unpadded, by name."""
    map: WindowMap


class QuestionAnswering(Task):
    """SQuAD v1.1: the answer to a question is a span of its context."""

    section: ClassVar[type[TaskSection]] = SquadSection
    config: SquadSection
    metrics: tuple[Metric, ...] = METRICS
    version_2 = False
    auto_class_name = "AutoModelForQuestionAnswering"
    # PEFT's class for question answering takes token_type_ids and does not pass them on to the model (0.21), the plain
    # one passes everything on.
    peft_task_type = None
    label_names = ("start_positions", "end_positions")
    pipeline_tag = "question-answering"

    @property
    def example(self) -> Example:
        texts = ("Where do the weights lie?", "The weights lie on the tiles of the chip.")
        return Example(texts, "outputs.start_logits, outputs.end_logits")

    def model_options(self) -> dict[str, object]:
        """None: the head always has two outputs, start and end."""
        return {}

    def train_features(self, tokenizer: PreTrainedTokenizerBase) -> datasets.Dataset:
        """One row a window. Where the window does not hold the whole first answer, both positions are the null token.

        Raises:
            DataError, HubError, UsageError: as `Task.train_features`.
        """
        require_offsets(tokenizer, self.config.name)
        questions = self._questions("train", self.config.train_file)
        subset = [questions[index] for index in self.training_subset(len(questions))]

        def rows() -> Iterator[Mapping[str, FeatureValue]]:
            for window in make_windows(tokenizer, subset, self.config.max_length, self.config.doc_stride):
                start, end = answer_tokens(subset[window.map.question], window.map)
                yield {**window.inputs, "start_positions": start, "end_positions": end}

        return mapped_features(rows())

    def eval_sets(self, tokenizer: PreTrainedTokenizerBase) -> list[EvalSet]:
        require_offsets(tokenizer, self.config.name)
        questions = self._validation
        maps: list[WindowMap] = []

        def rows() -> Iterator[Mapping[str, FeatureValue]]:
            for window in make_windows(tokenizer, questions, self.config.max_length, self.config.doc_stride):
                maps.append(window.map)
                yield window.inputs

        features = mapped_features(rows())
        rules = SpanRules(self.config.n_best, self.config.max_answer_length, self._null_threshold)
        decoder = SpanDecoder([question.context for question in questions], maps, rules)
        metrics = self._metrics()

        def scorer(outputs: Sequence[FloatArray]) -> Scores:
            return metrics.score(decoder.answers(outputs))

        return [EvalSet("validation", features, scorer, {**metrics.truth, CLUSTER: _passages(questions)})]

    def outputs(self, result: ModelOutput, lengths: Sequence[int]) -> list[FloatArray]:
        """(2, length): start logits and end logits, without padding."""
        import torch

        both = torch.stack([result.start_logits, result.end_logits], dim=1).float().cpu().numpy()
        return [both[row, :, :length] for row, length in enumerate(lengths)]

    def choices(self, result: ModelOutput, inputs: Mapping[str, Tensor]) -> list[Tensor]:
        """Beginnings and ends of answers, each a choice among the tokens that are no padding."""
        padding_RT = inputs["attention_mask"] == 0
        return [result[name].masked_fill(padding_RT, PADDING_LOGIT) for name in ("start_logits", "end_logits")]

    def baseline_score(self) -> dict[str, float]:
        """Metrics of the first 3, 10 or 25 words of the context as the answer, or in v2 of none: the best by F1.

        F1 rewards length: on SQuAD, spans drawn at random beat the first three words, but not the first 25.
        """
        metrics = self._metrics()
        words = [question.context.split() for question in self._validation]
        lengths = (*BASELINE_WORDS, 0) if self.version_2 else BASELINE_WORDS
        baselines = [metrics.score([" ".join(text[:length]) for text in words]).metrics for length in lengths]
        return max(baselines, key=lambda scores: scores[self.headline.name])

    @property
    def _null_threshold(self) -> float | None:
        """Least difference of the empty answer's score to the best one's; None: there is always an answer."""
        return None

    def _metrics(self) -> SquadMetrics:
        return SquadMetrics([question.answers for question in self._validation], self.version_2)

    @cached_property
    def _validation(self) -> list[Question]:
        return self._questions("validation", self.config.validation_file)[: self.config.max_eval_samples]

    def _questions(self, split: str, file: str | None) -> list[Question]:
        if file is not None:
            return read_squad(locate(file, f"task.{split}_file"), unanswerable=self.version_2)
        return questions_from_hub(load_hub_split(f"rajpurkar/{self.config.name}", None, split))


class QuestionAnsweringV2(QuestionAnswering):
    """SQuAD v2: as v1.1, but the context need not hold an answer."""

    section = Squad2Section
    config: Squad2Section
    metrics = (*METRICS, HAS_ANSWER_F1, NO_ANSWER_F1)
    version_2 = True

    @property
    def _null_threshold(self) -> float:
        return self.config.null_threshold


def _passages(questions: Sequence[Question]) -> Column:
    """Number of each question's passage, (questions,): questions about one passage are not independent."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(question.context, len(numbers)) for question in questions])


def make_windows(
    tokenizer: PreTrainedTokenizerBase, questions: Sequence[Question], max_length: int, doc_stride: int
) -> Iterator[Window]:
    """The windows of all questions, in order.

    A question, stripped of leading white space, stands in front of as much of its context as fits into `max_length`
    tokens; neighbouring windows share `doc_stride` tokens of context. A question that would leave less room than
    that is cut at its end, so that each window holds at least 16 tokens that the one before it does not (fewer if
    `max_length` is very small).

    Args:
        tokenizer: a fast tokenizer.
        questions: questions to tokenize.
        max_length: longest window, in tokens.
        doc_stride: overlap of two windows, in tokens.

    Raises:
        UsageError: `doc_stride` leaves no room for the question.
    """
    room = _question_room(tokenizer, max_length, doc_stride)
    for begin in range(0, len(questions), CHUNK_QUESTIONS):
        chunk = questions[begin : begin + CHUNK_QUESTIONS]
        encoded = tokenizer(
            _cut_to_fit([question.question.lstrip() for question in chunk], tokenizer, room),
            [question.context for question in chunk],
            truncation="only_second",
            max_length=max_length,
            stride=doc_stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            return_attention_mask=True,
            padding=False,
        )
        names = model_input_names(tokenizer)
        for index, sample in enumerate(encoded["overflow_to_sample_mapping"]):
            inputs = {name: encoded[name][index] for name in names}
            offsets = np.array(encoded["offset_mapping"][index], dtype=np.int32)
            in_context = np.array([part == 1 for part in encoded.sequence_ids(index)])
            null_token = _null_token(inputs["input_ids"], tokenizer)
            positions = WindowMap(begin + sample, offsets[:, 0], offsets[:, 1], in_context, null_token)
            yield Window(inputs, positions)


def answer_tokens(question: Question, window: WindowMap) -> tuple[int, int]:
    """First and last token of the question's first answer; twice the null token if the window does not hold it all.

    White space around the answer does not count.
    """
    null = (window.null_token, window.null_token)
    tokens = np.flatnonzero(window.in_context)
    if not question.answers or not len(tokens):
        return null
    text = question.answers[0]
    begin = question.starts[0] + len(text) - len(text.lstrip())
    end = question.starts[0] + len(text.rstrip())
    starts, ends = window.char_starts[tokens], window.char_ends[tokens]
    if begin < starts[0] or end > ends[-1]:
        return null
    # The first token that ends after the answer's beginning, the last that begins before its end.
    first = int(np.searchsorted(ends, begin, side="right"))
    last = int(np.searchsorted(starts, end, side="left")) - 1
    return (int(tokens[first]), int(tokens[last])) if first <= last else null


def _question_room(tokenizer: PreTrainedTokenizerBase, max_length: int, doc_stride: int) -> int:
    """Most tokens of a question."""
    free: int = max_length - tokenizer.num_special_tokens_to_add(pair=True) - doc_stride
    room = free - min(SMALLEST_ADVANCE, max(1, free // 2))
    if room < 1:
        raise UsageError(
            f"task.doc_stride ({doc_stride}) must leave room for the question and new context within task.max_length "
            f"({max_length}); lower the one or raise the other"
        )
    return room


def _cut_to_fit(texts: list[str], tokenizer: PreTrainedTokenizerBase, room: int) -> list[str]:
    """The texts, those of more than `room` tokens cut at their end."""
    results = list(texts)
    limit = room
    long = list(range(len(texts)))
    while long:
        encoded = tokenizer(
            [results[index] for index in long], add_special_tokens=False, truncation=False, return_offsets_mapping=True
        )
        over = [
            (index, offsets)
            for index, offsets in zip(long, encoded["offset_mapping"], strict=True)
            if len(offsets) > room
        ]
        for index, offsets in over:
            results[index] = results[index][: offsets[limit - 1][1]] if limit else ""
        long = [index for index, _ in over]
        # A cut text may have more tokens than were left of it, so cut again, shorter.
        limit = max(0, limit - 1)
    return results


def _null_token(input_ids: list[int], tokenizer: PreTrainedTokenizerBase) -> int:
    specials = {tokenizer.cls_token_id, tokenizer.bos_token_id}
    return next((position for position, token in enumerate(input_ids) if token in specials), 0)
