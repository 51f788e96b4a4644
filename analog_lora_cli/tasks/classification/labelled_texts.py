"""Base of the tasks with one label for a text or a pair of texts: GLUE's, and those on a user's own columns."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence

from analog_lora_cli.config.sections.task import TokenSection
from analog_lora_cli.tasks.base import Example, Processor
from analog_lora_cli.tasks.classification.labelled import Labelled, Rows
from analog_lora_cli.tasks.data.features import FeatureValue
from analog_lora_cli.tasks.data.texts import encoded_texts


class LabelledTexts(Labelled):
    """One label for a text or a pair of texts. Texts are read when they are tokenized, and never all in memory."""

    config: TokenSection
    auto_class_name = "AutoModelForSequenceClassification"
    peft_task_type = "SEQ_CLS"
    pipeline_tag = "text-classification"

    @property
    @abstractmethod
    def text_columns(self) -> Sequence[str]:
        """The columns of the text, or of the pair."""

    @abstractmethod
    def texts(self, split: str, rows: Rows) -> Iterator[tuple[str, ...]]:
        """Texts of some samples of a split, in their order."""

    @property
    def example(self) -> Example:
        pair = ("The weights lie on tiles.", "The tiles hold the weights.")
        return Example(pair[: len(self.text_columns)], self.answers.expression)

    def inputs(self, split: str, rows: Rows, processor: Processor) -> Iterator[Mapping[str, FeatureValue]]:
        return encoded_texts(self.texts(split, rows), processor, self.config.max_length)
