"""Base of the tasks of causal language models: token sequences with labels, loss and perplexity."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from analog_lora_cli.config.sections.causal import CausalSection
from analog_lora_cli.errors import DataError, UsageError
from analog_lora_cli.tasks.base import EvalSet, Example, FloatArray, Task
from analog_lora_cli.tasks.causal.benchmarks.benchmarks import Benchmarks
from analog_lora_cli.tasks.causal.example import Continuation
from analog_lora_cli.tasks.causal.likelihood import label_log_likelihoods, most_tokens
from analog_lora_cli.tasks.causal.metrics import LOSS, PERPLEXITY, TOKENS, likelihood_scorer
from analog_lora_cli.tasks.causal.tokens import Sequences
from analog_lora_cli.tasks.data.collator import IGNORED
from analog_lora_cli.tasks.data.features import mapped_features
from analog_lora_cli.tasks.data.files import Row, locate, read_table
from analog_lora_cli.tasks.data.hub import load_hub_split

if TYPE_CHECKING:
    import datasets
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase
    from transformers.utils import ModelOutput


class CausalTask(Task):
    """A task of a causal language model."""

    config: CausalSection
    auto_class_name = "AutoModelForCausalLM"
    peft_task_type = "CAUSAL_LM"
    pipeline_tag = "text-generation"
    normalizes_by_tokens = True

    def __init__(self, config: CausalSection, seed: int) -> None:
        super().__init__(config, seed)
        self.benchmarks = Benchmarks(config.benchmarks, config.benchmark_folder, config.max_eval_samples)
        self.metrics = (PERPLEXITY, LOSS, *self.benchmarks.metrics)

    @property
    def example(self) -> Example:
        return Continuation(("The weights lie on tiles, and",))

    def model_options(self) -> dict[str, object]:
        """Nothing: the head is that of the pretrained model."""
        return {}

    @abstractmethod
    def sequences(self, role: str, tokenizer: PreTrainedTokenizerBase) -> Sequences:
        """The token sequences of `train` or `validation`, before any limit on their number.

        Raises:
            DataError, HubError, UsageError: as `train_features`.
        """

    def train_features(self, tokenizer: PreTrainedTokenizerBase) -> datasets.Dataset:
        """`input_ids`, `attention_mask` and `labels`, unpadded."""
        sequences = self.sequences("train", tokenizer)
        chosen = [sequences[index] for index in self.training_subset(len(sequences))]
        return mapped_features(sequence.features() for sequence in chosen)

    def eval_sets(self, tokenizer: PreTrainedTokenizerBase) -> list[EvalSet]:
        sequences = self.sequences("validation", tokenizer)[: self.config.max_eval_samples]
        return [self._validation(sequences, tokenizer), *self.benchmarks.eval_sets(tokenizer)]

    def _validation(self, sequences: Sequences, tokenizer: PreTrainedTokenizerBase) -> EvalSet:
        tokens = np.array([sequence.counted for sequence in sequences])
        return EvalSet(
            "validation",
            mapped_features(sequence.features() for sequence in sequences),
            likelihood_scorer(tokens),
            {TOKENS: tokens},
            outputs=label_log_likelihoods,
            most_tokens=most_tokens(len(tokenizer)),
        )

    def outputs(self, result: ModelOutput, lengths: Sequence[int]) -> list[FloatArray]:
        raise NotImplementedError("each evaluation set computes its own outputs")

    def choices(self, result: ModelOutput, inputs: Mapping[str, Tensor]) -> list[Tensor]:
        """The next token, wherever its label counts."""
        return [result["logits"][:, :-1][inputs["labels"][:, 1:] != IGNORED]]

    def baseline_score(self) -> dict[str, float]:
        """Nothing: text without a model has no likelihood."""
        return {}

    def data_files(self) -> dict[str, Path]:
        """As `Task.data_files`; the training file is that of the validation too, if it is split."""
        files = super().data_files()
        if self.config.validation_file is None and "train" in files:
            files["validation"] = files["train"]
        return files | self.benchmarks.files()

    def rows(self, role: str, columns: Sequence[str]) -> tuple[str, Iterator[Row]]:
        """The rows of `train` or `validation`, and the name of their file or data set.

        Where no validation data are given, both are all of the training data, to be divided by `share_of`.

        Raises:
            DataError, HubError, UsageError: as `train_features`.
        """
        config = self.config
        file = config.train_file if self.splits_training_data or role == "train" else config.validation_file
        if file is not None:
            path = locate(file, f"task.{role}_file")
            return str(path), read_table(path, columns)
        split = config.train_split if self.splits_training_data or role == "train" else config.validation_split
        if config.dataset is None or split is None:
            missing = "task.train_file" if role == "train" or self.splits_training_data else "task.validation_file"
            raise UsageError(
                f"{missing}: task {config.name} has no data set of its own: name a file, or a data set of the hub with "
                "task.dataset"
            )
        name = f"{config.dataset} ({split})"
        entries = load_hub_split(config.dataset, config.dataset_config, split)
        return name, _hub_rows(name, entries, columns)

    @property
    def splits_training_data(self) -> bool:
        """Whether a share of the training data is the validation data."""
        return self.config.validation_file is None and self.config.validation_split is None

    def share_of(self, role: str, count: int, source: str) -> list[int]:
        """Indices of those of `count` training samples that belong to `train` or `validation`, ascending.

        Raises:
            DataError: too few for both.
        """
        if not self.splits_training_data:
            return list(range(count))
        kept = max(round(count * self.config.validation_share), 1)
        if kept >= count:
            raise DataError(
                f"{source}: {count} samples are too few to keep {kept} apart for validation: give "
                "task.validation_file, or another task.validation_share"
            )
        # The same samples whatever `train.seed` is, so that trainings can be compared.
        order = np.random.PCG64(0).random_raw(count).argsort(kind="stable")
        return sorted(int(index) for index in (order[:kept] if role == "validation" else order[kept:]))


def _hub_rows(name: str, entries: datasets.Dataset, columns: Sequence[str]) -> Iterator[Row]:
    missing = [column for column in columns if column not in entries.column_names]
    if missing:
        raise DataError(f"{name}: the column {missing[0]!r} is missing; present: {', '.join(entries.column_names)}")
    return (Row(f"row {number}", dict(entry)) for number, entry in enumerate(entries, start=1))
