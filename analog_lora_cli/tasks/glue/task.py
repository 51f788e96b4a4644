"""GLUE: one label for a text or a pair of texts, in GLUE's columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from analog_lora_cli.config.sections.task import GlueSection
from analog_lora_cli.tasks.chosen_metrics import ChosenMetrics
from analog_lora_cli.tasks.classification.answers import Answers, Number, OneClass
from analog_lora_cli.tasks.classification.labelled import Rows, at_rows
from analog_lora_cli.tasks.classification.labelled_texts import LabelledTexts
from analog_lora_cli.tasks.data.files import locate
from analog_lora_cli.tasks.data.hub import load_hub_split
from analog_lora_cli.tasks.glue.data import GLUE, GlueSample, glue_from_hub, read_glue
from analog_lora_cli.tasks.scores import Column

if TYPE_CHECKING:
    import datasets

HUB_DATASET = "nyu-mll/glue"


class Classification(LabelledTexts):
    """A GLUE task. STS-B is a regression with one output; the others choose among classes.

    MNLI has two validation sets: `matched` (metric `accuracy`) and `mismatched` (`accuracy_mismatched`). A local
    `validation_file` counts as matched, and then there is no second one.
    """

    section = GlueSection
    config: GlueSection

    def __init__(self, config: GlueSection, seed: int) -> None:
        super().__init__(config, seed)
        self.spec = GLUE[config.name]
        self._from_hub: dict[str, datasets.Dataset] = {}

    @property
    def sets(self) -> tuple[str, ...]:
        if self.config.name != "mnli":
            return super().sets
        return ("matched", "mismatched") if self.config.validation_file is None else ("matched",)

    @cached_property
    def answers(self) -> Answers:
        return Number() if self.spec.regression else OneClass(self.spec.labels)

    @cached_property
    def chosen(self) -> ChosenMetrics:
        return ChosenMetrics(self.spec.metrics, self.answers.compared, self.answers.width)

    @property
    def text_columns(self) -> Sequence[str]:
        return self.spec.columns

    def labels(self, split: str) -> Column:
        labels = (sample.label for sample in self._samples(split))
        return np.fromiter(labels, np.float64) if self.spec.regression else np.fromiter(labels, np.int32)

    def texts(self, split: str, rows: Rows) -> Iterator[tuple[str, ...]]:
        return at_rows((sample.texts for sample in self._samples(split)), rows)

    def _samples(self, split: str) -> Iterator[GlueSample]:
        own = self.config.train_file if split == "train" else self.config.validation_file
        if own is not None:
            role = "train" if split == "train" else "validation"
            return read_glue(locate(own, f"task.{role}_file"), self.spec)
        if split not in self._from_hub:
            hub_split = split if split in ("train", "validation") else f"validation_{split}"
            self._from_hub[split] = load_hub_split(HUB_DATASET, self.config.name, hub_split)
        return glue_from_hub(self._from_hub[split], self.spec)
