"""GLUE: one label for a text or a pair of texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import compress, tee
from typing import TYPE_CHECKING

import numpy as np

from analog_lora_cli.config.sections.task import GlueSection
from analog_lora_cli.tasks.base import EvalSet, Example, FloatArray, Scorer, Task
from analog_lora_cli.tasks.chosen_metrics import ChosenMetrics
from analog_lora_cli.tasks.data.features import mapped_features
from analog_lora_cli.tasks.data.files import locate
from analog_lora_cli.tasks.data.hub import load_hub_split
from analog_lora_cli.tasks.data.texts import encoded_texts
from analog_lora_cli.tasks.glue.data import GLUE, LABEL, LabelledTexts, glue_from_hub, read_glue
from analog_lora_cli.tasks.scores import PREDICTION, Column, Scores

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedTokenizerBase
    from transformers.utils import ModelOutput

HUB_DATASET = "nyu-mll/glue"


class Classification(Task):
    """A GLUE task. STS-B is a regression with one output; the others choose among classes.

    MNLI has two validation sets: `matched` (metric `accuracy`) and `mismatched` (`accuracy_mismatched`). A local
    `validation_file` counts as matched, and then there is no second one.
    """

    section = GlueSection
    config: GlueSection
    auto_class_name = "AutoModelForSequenceClassification"
    peft_task_type = "SEQ_CLS"
    pipeline_tag = "text-classification"

    def __init__(self, config: GlueSection, seed: int) -> None:
        super().__init__(config, seed)
        self.spec = GLUE[config.name]
        first, *others = self._splits
        self.chosen = ChosenMetrics(self.spec.metrics, len(self.spec.labels))
        self.metrics = tuple(replace(metric, sample_set=first) for metric in self.chosen.metrics)
        for name in others:
            self.metrics += tuple(
                replace(metric, name=f"{metric.name}_{name}", sample_set=name) for metric in self.chosen.metrics
            )

    @property
    def example(self) -> Example:
        pair = ("The weights lie on tiles.", "The tiles hold the weights.")
        return Example(pair if len(self.spec.columns) == 2 else ("The chip holds the weights.",), "outputs.logits")

    def model_options(self) -> dict[str, object]:
        """`num_labels` and `problem_type`; for classes also `id2label` and `label2id`."""
        if self.spec.regression:
            return {"num_labels": 1, "problem_type": "regression"}
        return {
            "num_labels": len(self.spec.labels),
            "problem_type": "single_label_classification",
            "id2label": dict(enumerate(self.spec.labels)),
            "label2id": {name: index for index, name in enumerate(self.spec.labels)},
        }

    def train_features(self, tokenizer: PreTrainedTokenizerBase) -> datasets.Dataset:
        encoded = self._encoded(self._training_samples(), tokenizer)
        return mapped_features({**inputs, "labels": sample.label} for inputs, sample in encoded)

    def eval_sets(self, tokenizer: PreTrainedTokenizerBase) -> list[EvalSet]:
        sets = []
        for name, samples in self._validation.items():
            features = mapped_features(inputs for inputs, _ in self._encoded(samples, tokenizer))
            gold = np.array([sample.label for sample in samples])
            sets.append(EvalSet(name, features, self._scorer(name, gold), {LABEL: gold}))
        return sets

    def outputs(self, result: ModelOutput, lengths: Sequence[int]) -> list[FloatArray]:
        """Logits, (labels,)."""
        return list(result.logits.float().cpu().numpy())

    def baseline_score(self) -> dict[str, float]:
        """Metrics of the validation set's most frequent class as the only answer; for STS-B of a constant, so 0."""
        scores: dict[str, float] = {}
        for name, samples in self._validation.items():
            gold = np.array([sample.label for sample in samples])
            constant = float(gold.mean()) if self.spec.regression else int(np.bincount(gold).argmax())
            scores |= self._scores(name, np.full(len(gold), constant), gold)
        return scores

    def _scorer(self, name: str, gold: Column) -> Scorer:
        width = len(self.spec.labels) or 1

        def scorer(outputs: Sequence[FloatArray]) -> Scores:
            values = np.stack(outputs)
            if values.shape[1:] != (width,):
                raise ValueError(f"outputs of shape {values.shape[1:]}, expected ({width},)")
            predicted = values[:, 0] if self.spec.regression else values.argmax(axis=1)
            return Scores(self._scores(name, predicted, gold), {PREDICTION: predicted})

        return scorer

    def _scores(self, name: str, predicted: Column, gold: Column) -> dict[str, float]:
        suffix = "_mismatched" if name == "mismatched" else ""
        return {metric + suffix: value for metric, value in self.chosen.values(predicted, gold).items()}

    @property
    def _splits(self) -> dict[str, str]:
        """The hub's split of each validation set."""
        if self.config.name != "mnli":
            return {"validation": "validation"}
        names = ("matched", "mismatched") if self.config.validation_file is None else ("matched",)
        return {name: f"validation_{name}" for name in names}

    @cached_property
    def _validation(self) -> dict[str, list[LabelledTexts]]:
        """The first `max_eval_samples` samples of each validation set, by the set's name."""
        file = self.config.validation_file
        # All are read, so that a mistake in the last line is known.
        samples_of = {name: list(self._samples(split, file)) for name, split in self._splits.items()}
        return {name: samples[: self.config.max_eval_samples] for name, samples in samples_of.items()}

    def _training_samples(self) -> Iterator[LabelledTexts]:
        def samples() -> Iterator[LabelledTexts]:
            return self._samples("train", self.config.train_file)

        if self.config.max_train_samples is None:
            return samples()
        # Read twice rather than kept in memory.
        mask = np.zeros(sum(1 for _ in samples()), dtype=bool)
        mask[self.training_subset(len(mask))] = True
        return compress(samples(), mask)

    def _samples(self, split: str, file: str | None) -> Iterator[LabelledTexts]:
        if file is None:
            return glue_from_hub(load_hub_split(HUB_DATASET, self.config.name, split), self.spec)
        role = split.partition("_")[0]
        return read_glue(locate(file, f"task.{role}_file"), self.spec)

    def _encoded(
        self, samples: Iterable[LabelledTexts], tokenizer: PreTrainedTokenizerBase
    ) -> Iterator[tuple[dict[str, list[int]], LabelledTexts]]:
        """The model's inputs for each sample, and the sample."""
        first, second = tee(samples)
        return zip(encoded_texts((one.texts for one in first), tokenizer, self.config.max_length), second, strict=True)
