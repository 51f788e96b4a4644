"""Interface of a task: features to train and evaluate on, and metrics of a model's outputs."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from analog_lora_cli.config.sections.task import TaskSection
from analog_lora_cli.errors import AnaloraError
from analog_lora_cli.storage.files import file_sha256
from analog_lora_cli.tasks.data.collator import PaddingCollator
from analog_lora_cli.tasks.data.features import FeatureValue
from analog_lora_cli.tasks.data.files import locate
from analog_lora_cli.tasks.metric import Metric
from analog_lora_cli.tasks.scores import Columns, Scores

if TYPE_CHECKING:
    import datasets
    from torch import Tensor, nn
    from transformers import BaseImageProcessor, PreTrainedTokenizerBase
    from transformers.models.auto.auto_factory import _BaseAutoModelClass
    from transformers.utils import ModelOutput

FloatArray = npt.NDArray[np.floating]
Scorer = Callable[[Sequence[FloatArray]], Scores]
Processor: TypeAlias = "PreTrainedTokenizerBase | BaseImageProcessor"
"""What turns samples into inputs: the tokenizer of texts, the image processor of images."""
Collator: TypeAlias = "Callable[[Sequence[Mapping[str, FeatureValue]]], dict[str, Tensor]]"
"""Function from features to a batch."""
BatchOutputs: TypeAlias = "Callable[[nn.Module, dict[str, Tensor], Sequence[int]], list[FloatArray]]"
"""Function from a model, a batch of R rows on its device, and their (R,) numbers of tokens without padding, to one
array for each row."""


@dataclass(frozen=True)
class EvalSet:
    """Features to run a model on, and the metrics of its outputs."""

    name: str
    """`validation`; for MNLI `matched` and, from the hub, `mismatched`."""

    features: datasets.Dataset
    """Model inputs (`input_ids`, `attention_mask`, `token_type_ids` if the tokenizer makes them), unpadded, and
    `length`, their number of tokens. Question answering: one row a window, so more rows than questions."""

    scorer: Scorer
    """Function from complete and finite outputs to metrics and scores of samples; callers use `score`."""

    truth: Columns = field(default_factory=dict)
    """Columns that all evaluations share, one number for each sample: the labels, and `cluster` where samples belong
    together."""

    outputs: BatchOutputs | None = None
    """How a batch becomes outputs; None: `Task.outputs` of one forward pass."""

    most_tokens: int | None = None
    """Tokens of a batch at most, padding included, where outputs are large; None: no limit of its own."""

    check: Callable[[nn.Module], None] | None = None
    """Function that raises a UsageError if a model cannot take these inputs; None: every model of the task can."""

    def score(self, outputs: Sequence[FloatArray]) -> Scores:
        """The metrics by name, each in its unit (percentages 0..100; correlations times 100, so -100..100).

        Args:
            outputs: one array for each row of `features`, in their order, as `Task.outputs` gives them.

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


@dataclass(frozen=True)
class Example:
    """An example input of a model, for the code in a README."""

    processor_class: ClassVar[str] = "AutoTokenizer"
    """Class of transformers that loads what makes the inputs."""

    texts: tuple[str, ...]
    """Positional arguments of the tokenizer."""
    outputs: str
    """Python expression for the model's outputs, with `outputs` for its result."""
    call: str = "model(**inputs)"
    """Python expression for that result."""

    def loading(self) -> str:
        """Python line that makes `tokenizer`, from a folder `folder`."""
        return f"tokenizer = {self.processor_class}.from_pretrained(folder)"

    def inputs(self) -> str:
        """Python lines that make `inputs` with `tokenizer`."""
        return f'inputs = tokenizer({", ".join(map(json.dumps, self.texts))}, return_tensors="pt")'

    def code(self, before: str = "") -> str:
        """Python lines that run `model` on the example with `tokenizer`.

        Args:
            before: lines to go before the model runs.
        """
        return f"""\
{self.inputs()}
{before}with torch.no_grad():
    outputs = {self.call}
print({self.outputs})"""


class Task(ABC):
    """A task with its data. Nothing is read before it is asked for.

    Args:
        config: the `task` section.
        seed: draws the training subset, if `config.max_train_samples` asks for one.
    """

    section: ClassVar[type[TaskSection]]
    """The kind of the `task` section; its `name` says which values of `task.name` mean this kind of task."""

    auto_class_name: ClassVar[str]
    """Name of the class of transformers whose `from_pretrained` makes a model with this task's head."""

    peft_task_type: ClassVar[str | None] = None
    """PEFT's `task_type` of an adapter with a trained head; None: PEFT's plain wrapper."""

    label_names: ClassVar[tuple[str, ...]] = ("labels",)
    """Training features that are targets and no inputs, for TrainingArguments."""

    pipeline_tag: ClassVar[str]
    """The hub's name for what a model of this task does."""

    normalizes_by_tokens: ClassVar[bool] = False
    """Whether the model's loss is a sum over the labels of a whole optimizer step divided by their number, as language
    models take it; else the mean over a batch."""

    metrics: tuple[Metric, ...]
    """All metrics that the evaluation sets together may report, the headline first (SQuAD v2 leaves out those without
    questions)."""

    def __init__(self, config: TaskSection, seed: int) -> None:
        self.config = config
        self.seed = seed

    @property
    def headline(self) -> Metric:
        """The metric that tables and plots show first."""
        return self.metrics[0]

    def settled(self) -> TaskSection:
        """The section with all that is found in the training data filled in, as a checkpoint keeps it.

        Raises:
            DataError, HubError, UsageError: as `train_features`.
        """
        return self.config

    @property
    @abstractmethod
    def example(self) -> Example:
        """An input for the code in an exported README."""

    def auto_class(self) -> type[_BaseAutoModelClass]:
        """The class of transformers whose `from_pretrained` makes a model with this task's head."""
        import transformers

        auto_class: type[_BaseAutoModelClass] = getattr(transformers, self.auto_class_name)
        return auto_class

    @abstractmethod
    def model_options(self) -> dict[str, object]:
        """Entries for the model's configuration: number and names of the labels, kind of problem."""

    @abstractmethod
    def train_features(self, processor: Processor) -> datasets.Dataset:
        """Model inputs, unpadded, with `labels`, or `start_positions` and `end_positions`, and `length`.

        Raises:
            DataError: the training file is missing, malformed or of another form.
            HubError: the data set cannot be fetched.
            UsageError: the processor or `max_length` does not suit the task.
        """

    def prompts(self, tokenizer: PreTrainedTokenizerBase, room: int) -> datasets.Dataset:
        """What the model is to answer in its own words: `prompt`, `prompt_ids` (its tokens) and `answer`.

        Args:
            tokenizer: tokenizer of the model.
            room: tokens of `max_length` that the model's own words may take.

        Raises:
            DataError, HubError, UsageError: as `train_features`.
        """
        raise NotImplementedError(f"task {self.config.name} has no prompts")

    @abstractmethod
    def eval_sets(self, processor: Processor) -> list[EvalSet]:
        """The validation data; together the sets report all metrics, each under its own name.

        Raises:
            DataError, HubError, UsageError: as `train_features`.
        """

    @abstractmethod
    def outputs(self, result: ModelOutput, lengths: Sequence[int]) -> list[FloatArray]:
        """Outputs of a batch as those evaluation sets score them that have no `outputs` of their own, one array for
        each row.

        Args:
            result: the model's result for a batch of R rows, padded to T tokens.
            lengths: (R,) numbers of tokens of the rows, without padding.
        """

    def choices(self, result: ModelOutput, inputs: Mapping[str, Tensor]) -> list[Tensor]:
        """Logits of the choices that a training batch asks for, for an objective that compares two models.

        Args:
            result: the model's result for the batch.
            inputs: the batch, labels included.

        Returns:
            (N, C) for each kind of choice: N choices among C alternatives; C = 1: a number.
        """
        return [result["logits"]]

    def note_training_data(self) -> None:
        """Print what is worth knowing about the training data before a training, such as rare classes.

        Raises:
            DataError, HubError: as `train_features`.
        """
        return None

    def batch_loss(self, result: ModelOutput, inputs: Mapping[str, Tensor]) -> Tensor | None:
        """The loss of a training batch, scalar, where it is not the model's own; None: the model's own.

        Args:
            result: the model's result for the batch.
            inputs: the batch, labels included.
        """
        return None

    @abstractmethod
    def baseline_score(self) -> dict[str, float]:
        """The metrics of answers that ignore the input: the baseline that a model must beat. Empty if there is none.

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

    def content_sha256(self, role: str, path: Path) -> str:
        """Hash of the data of a role, by which they are known.

        Args:
            role: key of `data_files`.
            path: its value.
        """
        return file_sha256(path)

    def collator(self, processor: Processor) -> Collator:
        """Collator that makes batches of features, padded to the longest in the batch.

        Raises:
            UsageError: the tokenizer has no padding token.
        """
        return PaddingCollator(processor)

    def training_subset(self, count: int) -> list[int]:
        """Indices of the training samples among `count`: ascending; `max_train_samples` of them at random, or all."""
        limit = self.config.max_train_samples
        if limit is None or limit >= count:
            return list(range(count))
        # A bit generator's raw numbers are the same in every release of numpy, those of Generator.choice need not be.
        order = np.random.PCG64(self.seed).random_raw(count).argsort(kind="stable")
        return sorted(int(index) for index in order[:limit])
