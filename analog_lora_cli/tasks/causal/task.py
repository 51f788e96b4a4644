"""Base of the tasks of causal language models: token sequences with labels, loss and perplexity."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from analog_lora_cli.config.sections.causal import CausalSection
from analog_lora_cli.tasks.base import EvalSet, Example, FloatArray, Task
from analog_lora_cli.tasks.causal.benchmarks.benchmarks import Benchmarks
from analog_lora_cli.tasks.causal.example import Continuation
from analog_lora_cli.tasks.causal.likelihood import label_log_likelihoods, most_tokens
from analog_lora_cli.tasks.causal.metrics import LOSS, PERPLEXITY, TOKENS, likelihood_scorer
from analog_lora_cli.tasks.causal.tokens import Sequences
from analog_lora_cli.tasks.data.collator import IGNORED
from analog_lora_cli.tasks.data.features import mapped_features
from analog_lora_cli.tasks.data.source import DataSource

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
        self.source = DataSource(config)
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
