"""Token classification: a tag for each word, in columns of any name or CoNLL text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from analog_lora_cli.config.metrics import ModuleMetric
from analog_lora_cli.config.sections.task import TaskSection
from analog_lora_cli.config.sections.token_classification import TokenClassificationSection
from analog_lora_cli.errors import DataError, UsageError
from analog_lora_cli.tasks.base import EvalSet, Example, FloatArray, Task
from analog_lora_cli.tasks.chosen_metrics import ChosenMetrics
from analog_lora_cli.tasks.classification.labels import MOST_CLASSES, in_order, unknown_class
from analog_lora_cli.tasks.data.collator import IGNORED
from analog_lora_cli.tasks.data.features import FeatureValue, mapped_features
from analog_lora_cli.tasks.data.files import shorten
from analog_lora_cli.tasks.data.texts import require_offsets
from analog_lora_cli.tasks.metric import Metric
from analog_lora_cli.tasks.scores import Scores
from analog_lora_cli.tasks.tag_statistics import TAG_STATISTICS
from analog_lora_cli.tasks.token_classification.data import Numbers, TaggedSentences
from analog_lora_cli.tasks.token_classification.entities import Codes, TagSet
from analog_lora_cli.tasks.token_classification.metrics import TagScorer, check_tags
from analog_lora_cli.tasks.token_classification.windows import SentenceWindows, Window

if TYPE_CHECKING:
    import datasets
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase
    from transformers.utils import ModelOutput


class TokenClassification(Task):
    """A tag for each word, found in the training data or given in `task.labels`. A word's first token carries it."""

    section: ClassVar[type[TaskSection]] = TokenClassificationSection
    config: TokenClassificationSection
    auto_class_name = "AutoModelForTokenClassification"
    peft_task_type = "TOKEN_CLS"
    pipeline_tag = "token-classification"

    def __init__(self, config: TokenClassificationSection, seed: int) -> None:
        super().__init__(config, seed)
        self.data = TaggedSentences(config)

    @cached_property
    def tags(self) -> TagSet:
        """The tags, in the order of the model's outputs.

        Raises:
            DataError, HubError, UsageError: the training data, which are asked where `task.labels` is null, cannot be
                read, or have no tags.
        """
        if self.config.labels is not None:
            return TagSet(self.config.labels)
        column = self.data.tags("train")
        occurring = np.unique(column.of(self.data.numbers("train")))
        names = in_order(column.names[code] for code in occurring)
        place = f"{self.data.source.name('train')}: column {self.config.tags_column!r}"
        if len(names) < 2:
            raise DataError(f"{place} holds only one tag, {names[0]!r}; a choice needs two")
        if len(names) > MOST_CLASSES:
            raise DataError(
                f"{place} holds {len(names)} different values, such as {shorten(names[0])!r}: these are no tags; name "
                "another task.tags_column"
            )
        return TagSet(names)

    @cached_property
    def chosen(self) -> ChosenMetrics:
        """The metrics that are measured.

        Raises:
            UsageError: metrics of entities are asked for, and the tags mark none.
        """
        choices: Sequence[str | ModuleMetric] | None = self.config.metrics
        if choices is None:
            of_words = [name for name, one in TAG_STATISTICS.items() if not one.of_entities]
            choices = list(TAG_STATISTICS) if self.tags.marks_entities else of_words
        try:
            for name in choices:
                if isinstance(name, str):
                    check_tags(self.tags, name)
        except ValueError as error:
            raise UsageError(f"task.metrics: {error}") from error
        return ChosenMetrics(choices, self.config.compares, len(self.tags.names))

    @property
    def metrics(self) -> tuple[Metric, ...]:  # type: ignore[override]
        """The metrics, the headline first."""
        return self.chosen.metrics

    @property
    def example(self) -> Example:
        return Example(
            ("The weights lie on tiles in Zurich.",),
            "[model.config.id2label[tag] for tag in outputs.logits[0].argmax(dim=-1).tolist()]",
        )

    def settled(self) -> TaskSection:
        return self.config.model_copy(update={"labels": list(self.tags.names)})

    def model_options(self) -> dict[str, object]:
        """`num_labels`, `id2label` and `label2id`."""
        names = self.tags.names
        return {
            "num_labels": len(names),
            "id2label": dict(enumerate(names)),
            "label2id": {name: index for index, name in enumerate(names)},
        }

    def train_features(self, tokenizer: PreTrainedTokenizerBase) -> datasets.Dataset:
        """One row a window; `labels` is -100 for all tokens but the first of each word that counts there."""
        self.chosen.load()
        sentences = self.data.numbers("train")
        chosen = sentences[np.array(self.training_subset(len(sentences)), dtype=np.intp)]
        codes = self._codes("train", chosen)

        def rows() -> Iterator[Mapping[str, FeatureValue]]:
            first = 0
            for length, windows in self._windows("train", chosen, tokenizer):
                for window in windows:
                    yield {**window.inputs, "labels": _labels(window, codes[first : first + length])}
                first += length

        return mapped_features(rows())

    def eval_sets(self, tokenizer: PreTrainedTokenizerBase) -> list[EvalSet]:
        sentences = self._measured
        scorer = self._scorer
        words: list[npt.NDArray[np.intp]] = []
        tokens: list[npt.NDArray[np.int32]] = []

        def rows() -> Iterator[Mapping[str, FeatureValue]]:
            first = 0
            for length, windows in self._windows("validation", sentences, tokenizer):
                for window in windows:
                    words.append(first + window.words.astype(np.intp))
                    tokens.append(window.tokens)
                    yield window.inputs
                first += length

        features = mapped_features(rows())

        def score(outputs: Sequence[FloatArray]) -> Scores:
            predicted = np.empty(sum(map(len, words)), dtype=np.int32)
            for output, own, positions in zip(outputs, words, tokens, strict=True):
                predicted[own] = output[positions].argmax(axis=-1)
            return scorer.score(predicted)

        return [EvalSet("validation", features, score, scorer.truth)]

    def outputs(self, result: ModelOutput, lengths: Sequence[int]) -> list[FloatArray]:
        """(length, tags): logits without padding."""
        logits = result.logits.float().cpu().numpy()
        return [logits[row, :length] for row, length in enumerate(lengths)]

    def choices(self, result: ModelOutput, inputs: Mapping[str, Tensor]) -> list[Tensor]:
        """The tag of each word."""
        return [result["logits"][inputs["labels"] != IGNORED]]

    def baseline_score(self) -> dict[str, float]:
        """Metrics of the most frequent tag for every word."""
        gold = self._codes("validation", self._measured)
        return self._scorer.score(np.full_like(gold, np.bincount(gold).argmax())).metrics

    def data_files(self) -> dict[str, Path]:
        return self.data.source.files()

    @cached_property
    def _scorer(self) -> TagScorer:
        lengths = self.data.tags("validation").lengths[self._measured]
        return TagScorer(self.tags, self._codes("validation", self._measured), lengths, self.chosen)

    @property
    def _measured(self) -> Numbers:
        """Numbers of the sentences that are measured."""
        return self.data.numbers("validation")[: self.config.max_eval_samples]

    def _codes(self, role: str, sentences: Numbers) -> Codes:
        """Numbers of the tags of some sentences, (words,).

        Raises:
            DataError: a tag that is none of the task's.
        """
        column = self.data.tags(role)
        known = {name: index for index, name in enumerate(self.tags.names)}
        codes = column.of(sentences)
        for code in np.unique(codes):
            name = column.names[code]
            if name not in known:
                given = self.config.labels is not None
                raise unknown_class(name, column.places[code], self.tags.names, role, given)
        numbers: Codes = np.array([known.get(name, -1) for name in column.names], dtype=np.int32)[codes]
        return numbers

    def _windows(
        self, role: str, numbers: Numbers, tokenizer: PreTrainedTokenizerBase
    ) -> Iterator[tuple[int, list[Window]]]:
        """Number of words, and windows, of each of some sentences, given by ascending numbers."""
        require_offsets(tokenizer, self.config.name)
        maker = SentenceWindows(tokenizer, self.config.max_length, self.config.overlap)
        lengths = self.data.tags(role).lengths[numbers].tolist()
        yield from zip(lengths, maker.of(self.data.sentences(role, numbers)), strict=True)


def _labels(window: Window, codes: Codes) -> list[int]:
    """(tokens,) the label of each token of a window.

    Args:
        window: the window.
        codes: tags of the words of its sentence.
    """
    labels = np.full(len(window.inputs["input_ids"]), IGNORED)
    labels[window.tokens] = codes[window.words]
    return [int(label) for label in labels]
