"""What every task offers: features to train on, features to evaluate on, and the score of a model's outputs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from analog_lora_cli.config.sections.task import TaskSection
from analog_lora_cli.errors import AnaloraError
from analog_lora_cli.tasks.data.collator import PaddingCollator
from analog_lora_cli.tasks.data.files import locate

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedTokenizerBase

FloatArray = npt.NDArray[np.floating[Any]]
Scorer = Callable[[Sequence[FloatArray]], dict[str, float]]


@dataclass(frozen=True)
class EvalSet:
    """Features to run a model on, and what its outputs are worth."""

    name: str
    """`validation`; for MNLI `matched` and, from the hub, `mismatched`."""

    features: datasets.Dataset
    """Model inputs (`input_ids`, `attention_mask`, `token_type_ids` if the tokenizer makes them), unpadded, and
    `length`, their number of tokens. Question answering: one row a window, so more rows than questions."""

    scorer: Scorer
    """What `score` calls once the outputs are known to be complete and finite."""

    def score(self, outputs: Sequence[FloatArray]) -> dict[str, float]:
        """The metrics, in percent (0..100; correlations times 100, so -100..100).

        Args:
            outputs: one array for each row of `features`, in their order. Classification: logits, (labels,).
                Question answering: (2, length), start logits and end logits, without padding.

        Raises:
            ValueError: a wrong number or shape of outputs.
            AnaloraError: outputs that are not finite.
        """
        if len(outputs) != len(self.features):
            raise ValueError(f"{len(outputs)} outputs for the {len(self.features)} features of {self.name}")
        flat = np.concatenate([np.ravel(output) for output in outputs])
        if not np.isfinite(flat).all():
            broken = sum(not np.isfinite(output).all() for output in outputs)
            raise AnaloraError(
                f"{broken} of {len(outputs)} outputs of the model are not finite numbers: the training diverged, or "
                "the precision is too low; a smaller train.learning_rate or another precision may help"
            )
        return self.scorer(outputs)


class Task(ABC):
    """A task with its data. Nothing is read before it is asked for.

    Args:
        config: the `task` section.
        seed: draws the training subset, if `config.max_train_samples` asks for one.
    """

    metric: str
    """The headline metric, one of `metric_names`."""

    metric_names: tuple[str, ...]
    """All metrics that the evaluation sets together may report (SQuAD v2 leaves out what has no questions)."""

    higher_is_better: bool = True

    def __init__(self, config: TaskSection, seed: int) -> None:
        self.config = config
        self.seed = seed

    @abstractmethod
    def auto_class(self) -> type:
        """The class of transformers whose `from_pretrained` makes a model with this task's head."""

    @abstractmethod
    def model_options(self) -> dict[str, Any]:
        """What the model's configuration must say: number and names of the labels, kind of problem."""

    @abstractmethod
    def train_features(self, tokenizer: PreTrainedTokenizerBase) -> datasets.Dataset:
        """Model inputs, unpadded, with `labels`, or `start_positions` and `end_positions`, and `length`.

        Raises:
            DataError: the training file is missing, malformed or of another form.
            HubError: the data set cannot be fetched.
            UsageError: the tokenizer or `max_length` does not suit the task.
        """

    @abstractmethod
    def eval_sets(self, tokenizer: PreTrainedTokenizerBase) -> list[EvalSet]:
        """The validation data; together the sets report all metrics, each under its own name.

        Raises:
            DataError, HubError, UsageError: as `train_features`.
        """

    @abstractmethod
    def guess_score(self) -> dict[str, float]:
        """The metrics, in percent, of answers that ignore the input: what a model must beat.

        Raises:
            DataError, HubError: as `train_features`.
        """

    def data_files(self) -> dict[str, Path]:
        """The local files behind the data, by role (`train`, `validation`); none for data from the hub.

        Raises:
            DataError: a configured file does not exist.
            UsageError: a configured package is not installed.
        """
        roles = {"train": self.config.train_file, "validation": self.config.validation_file}
        return {role: locate(name, f"task.{role}_file") for role, name in roles.items() if name is not None}

    def collator(self, tokenizer: PreTrainedTokenizerBase) -> PaddingCollator:
        """Makes batches of features, padded to the longest in the batch.

        Raises:
            UsageError: the tokenizer has no padding token.
        """
        return PaddingCollator(tokenizer)

    def training_subset(self, count: int) -> list[int]:
        """Which of `count` samples to train on: ascending; `max_train_samples` of them at random, or all."""
        wanted = self.config.max_train_samples
        if wanted is None or wanted >= count:
            return list(range(count))
        # A bit generator's raw numbers are the same in every release of numpy, those of Generator.choice need not be.
        order = np.random.PCG64(self.seed).random_raw(count).argsort(kind="stable")
        return sorted(int(index) for index in order[:wanted])
