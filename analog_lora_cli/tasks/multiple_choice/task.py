"""Questions with several choices, one of which is right."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from analog_lora_cli.config.sections.multiple_choice import AnswerForm, MultipleChoiceSection
from analog_lora_cli.config.sections.task import TaskSection
from analog_lora_cli.errors import DataError
from analog_lora_cli.tasks.base import EvalSet, Example, FloatArray, Task
from analog_lora_cli.tasks.chosen_metrics import ChosenMetrics
from analog_lora_cli.tasks.classification.labelled import Rows, at_rows
from analog_lora_cli.tasks.data.features import mapped_features
from analog_lora_cli.tasks.data.source import DataSource
from analog_lora_cli.tasks.data.texts import encoded_texts
from analog_lora_cli.tasks.multiple_choice.answers import FORMS, Answers, first_difference, read_answers
from analog_lora_cli.tasks.multiple_choice.features import ChoiceCollator, absent_choices, joined
from analog_lora_cli.tasks.multiple_choice.questions import Question, read_question
from analog_lora_cli.tasks.sample_statistics import LABEL
from analog_lora_cli.tasks.scores import PREDICTION, Column, Scores

if TYPE_CHECKING:
    import datasets
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase
    from transformers.utils import ModelOutput


@dataclass(frozen=True)
class ChoiceExample(Example):
    """A question with choices."""

    def inputs(self) -> str:
        """Python lines that make `inputs`, (1, choices, tokens), with `tokenizer`."""
        question, *choices = self.texts
        return f"""\
choices = {choices!r}
pairs = tokenizer([{question!r}] * len(choices), choices, padding=True, return_tensors="pt")
inputs = {{name: tensor[None] for name, tensor in pairs.items()}}"""


class MultipleChoice(Task):
    """Questions with several choices: the model gives each choice a number, and the largest is its answer.

    Questions may have different numbers of choices. In evaluation each choice is a row of its own.
    """

    section = MultipleChoiceSection
    config: MultipleChoiceSection
    auto_class_name = "AutoModelForMultipleChoice"
    pipeline_tag = "multiple-choice"
    chosen = ChosenMetrics(["accuracy"], "classes", 0)
    metrics = chosen.metrics

    def __init__(self, config: MultipleChoiceSection, seed: int) -> None:
        super().__init__(config, seed)
        self.source = DataSource(config)
        self._answers: dict[str, Answers] = {}

    @property
    def example(self) -> Example:
        texts = ("Where do the weights lie?", "On the tiles.", "In a file.")
        return ChoiceExample(texts, "choices[outputs.logits.argmax()]")

    @cached_property
    def form(self) -> AnswerForm:
        """The form in which the data name the right choice.

        Raises:
            DataError, HubError, UsageError: the training data, which are asked where `task.label_form` is `auto`,
                cannot be read, or suit several forms with different answers.
        """
        if self.config.label_form != "auto":
            return self.config.label_form
        answers = self._read_answers("train", FORMS)
        difference = first_difference(answers)
        if difference is not None:
            one, other, row = difference
            where, question = next(islice(self._questions("train"), row, None))
            raise DataError(
                f"{where}: the label {question.answer!r} may be meant as {one} (choice "
                f"{question.choices[answers.forms[one][row]]!r}) or as {other} (choice "
                f"{question.choices[answers.forms[other][row]]!r}), like all labels of this file: set task.label_form "
                f"to {one} or {other}"
            )
        self._answers["train"] = answers
        return next(iter(answers.forms))

    def settled(self) -> TaskSection:
        return self.config.model_copy(update={"label_form": self.form})

    def model_options(self) -> dict[str, object]:
        """Nothing: the head always has one output for each choice."""
        return {}

    def train_features(self, tokenizer: PreTrainedTokenizerBase) -> datasets.Dataset:
        indices, gold = self._indices("train"), self._gold("train")
        chosen = np.array(self.training_subset(len(indices)), dtype=np.int32)
        rows, gold = indices[chosen], gold[chosen]
        inputs = joined(self._encoded("train", rows, tokenizer), self._answers_of("train").counts[rows].tolist())
        return mapped_features({**one, "labels": label.item()} for one, label in zip(inputs, gold, strict=True))

    def eval_sets(self, tokenizer: PreTrainedTokenizerBase) -> list[EvalSet]:
        gold = self._validation_gold
        rows = self._indices("validation")[: len(gold)]
        counts = self._answers_of("validation").counts[rows]
        features = mapped_features(joined(self._encoded("validation", rows, tokenizer), [1] * int(counts.sum())))

        def scorer(outputs: Sequence[FloatArray]) -> Scores:
            values = np.stack(outputs)
            if values.shape[1:] != (1,):
                raise ValueError(f"outputs of shape {values.shape[1:]}, expected (1,)")
            questions = np.split(values[:, 0], counts.cumsum()[:-1])
            predicted = np.array([choices.argmax() for choices in questions])
            return Scores(self.chosen.values(predicted, gold), {PREDICTION: predicted})

        return [EvalSet("validation", features, scorer, {LABEL: gold})]

    def outputs(self, result: ModelOutput, lengths: Sequence[int]) -> list[FloatArray]:
        """The number of each choice, (choices,)."""
        return list(result.logits.float().cpu().numpy())

    def choices(self, result: ModelOutput, inputs: Mapping[str, Tensor]) -> list[Tensor]:
        """Logits, (questions, choices); the smallest number where a question has fewer choices."""
        import torch

        logits = result["logits"].float()
        return [logits.masked_fill(absent_choices(inputs["attention_mask"]), torch.finfo(logits.dtype).min)]

    def batch_loss(self, result: ModelOutput, inputs: Mapping[str, Tensor]) -> Tensor | None:
        """Cross entropy over the choices that each question has."""
        from torch.nn import functional

        (logits,) = self.choices(result, inputs)
        return functional.cross_entropy(logits, inputs["labels"])

    def baseline_score(self) -> dict[str, float]:
        """Accuracy of always the same position."""
        gold = self._validation_gold
        return self.chosen.values(np.full(len(gold), np.bincount(gold).argmax()), gold)

    def data_files(self) -> dict[str, Path]:
        return self.source.files()

    def collator(self, tokenizer: PreTrainedTokenizerBase) -> ChoiceCollator:
        return ChoiceCollator(tokenizer)

    @cached_property
    def _validation_gold(self) -> Column:
        return self._gold("validation")[: self.config.max_eval_samples]

    def _gold(self, role: str) -> npt.NDArray[np.int32]:
        """(samples,) positions of the right choices of the samples of a role."""
        return self._answers_of(role).forms[self.form][self._indices(role)]

    def _indices(self, role: str) -> Rows:
        """Rows of the file of a role that belong to it."""
        return self.source.share_of(role, len(self._answers_of(role).counts))

    def _answers_of(self, role: str) -> Answers:
        role = self.source.file_role(role)
        form = self.form
        if role not in self._answers:
            self._answers[role] = self._read_answers(role, [form])
        return self._answers[role]

    def _read_answers(self, role: str, forms: Sequence[AnswerForm]) -> Answers:
        return read_answers(self._questions(role), forms)

    def _questions(self, role: str) -> Iterator[tuple[str, Question]]:
        """Position of the label, and question, of each row of the file of a role."""
        name, column = self.source.name(role), self.config.label_column
        for row in self.source.rows(role, self.config.columns):
            yield f"{name}, {row.where}, column {column!r}", read_question(row, self.config, name)

    def _encoded(self, role: str, rows: Rows, tokenizer: PreTrainedTokenizerBase) -> Iterator[dict[str, list[int]]]:
        """The model's inputs for each choice of the questions in some rows, in their order."""
        chosen = at_rows((question for _, question in self._questions(role)), rows)
        pairs = (question.texts(choice) for question in chosen for choice in question.choices)
        return encoded_texts(pairs, tokenizer, self.config.max_length)
