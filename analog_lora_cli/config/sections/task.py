"""The `task` section: one class for each kind of task, with what all have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, get_args

from pydantic import Field, model_validator

from analog_lora_cli.config.effects import Affects, Unit
from analog_lora_cli.config.registry import TASKS
from analog_lora_cli.config.section import Section

if TYPE_CHECKING:
    from analog_lora_cli.config.schema import Config

Modality = Literal["text", "image"]
"""What a model's inputs are made of."""

GlueName = Literal["cola", "mnli", "mrpc", "qnli", "qqp", "rte", "sst2", "stsb", "wnli"]


class TaskSection(Section):
    """The task and its data."""

    modality: ClassVar[Modality] = "text"

    pretrained_head: ClassVar[bool] = False
    """Whether the head belongs to the pretrained model; else the task brings a new one."""

    has_prompts: ClassVar[bool] = False
    """Whether there is something for the model to answer in its own words, as objective `grpo` needs it."""

    name: Annotated[str, Affects("architecture", "score", "training")]
    """Name of the task."""

    train_file: Annotated[str | None, Affects("training")] = None
    """Training data in the task's format; `package:PACKAGE/FILE` for a file inside an installed package; null takes
    the data set from the hub."""

    validation_file: Annotated[str | None, Affects("data")] = None
    """Validation data; as `train_file`."""

    max_train_samples: Annotated[int | None, Affects("training")] = Field(default=None, ge=1)
    """Use only this many training samples, drawn with `train.seed`; null: all."""

    max_eval_samples: Annotated[int | None, Affects("score")] = Field(default=None, ge=1)
    """Use only the first validation samples (SQuAD: questions); null: all."""

    @property
    def longest(self) -> int | None:
        """`max_length`; None where the model alone decides the size of its inputs."""
        return None

    @property
    def smooths_labels(self) -> bool:
        """Whether its labels are classes that the Trainer's label smoothing can act on."""
        return True

    @property
    def own_loss(self) -> str | None:
        """What gives the task a loss of its own, as a configuration names it; None: the model's own loss is trained."""
        return None

    @property
    def own_code(self) -> list[str]:
        """Modules of others whose code the metrics run."""
        return []

    def conflict(self, config: Config) -> str | None:
        """A key that does not fit this task, as `key: reason and remedy`; None if all fit.

        Args:
            config: the complete configuration.
        """
        smoothing = config.train.label_smoothing
        if smoothing and not self.smooths_labels:
            return f"train.label_smoothing_factor: {smoothing} does not go with task {self.name}; leave it out"
        return None

    def same_head(self, other: TaskSection) -> bool:
        """Whether a head trained for the other task has the outputs of this one."""
        return self.name == other.name


class TokenSection(TaskSection):
    """Base of the tasks whose inputs are sequences of tokens."""

    max_length: Annotated[int, Affects("architecture", "read", "training"), Unit("tokens")] = Field(default=320, ge=8)
    """Longest input."""

    @property
    def longest(self) -> int | None:
        return self.max_length


class SquadSection(TokenSection):
    """Questions about a passage, answered with a span of it: SQuAD v1.1."""

    name: Annotated[Literal["squad"], Affects("architecture", "score", "training")] = "squad"
    """SQuAD v1.1. Its files are SQuAD JSON."""

    doc_stride: Annotated[int, Affects("architecture", "read", "training"), Unit("tokens")] = Field(default=128, ge=1)
    """Overlap of the windows of a long context."""

    n_best: Annotated[int, Affects("score")] = Field(default=20, ge=1)
    """Start and end candidates considered in each window."""

    max_answer_length: Annotated[int, Affects("score"), Unit("tokens")] = Field(default=30, ge=1)
    """Longest answer."""

    @property
    def smooths_labels(self) -> bool:
        return False

    @model_validator(mode="after")
    def _windows_advance(self) -> SquadSection:
        if self.doc_stride >= self.max_length:
            raise ValueError(f"doc_stride ({self.doc_stride}) must be below max_length ({self.max_length})")
        return self


class Squad2Section(SquadSection):
    """Questions about a passage, some of which it does not answer: SQuAD v2."""

    name: Annotated[Literal["squad_v2"], Affects("architecture", "score", "training")] = "squad_v2"  # type: ignore[assignment]
    """SQuAD v2. Its files are SQuAD JSON."""

    null_threshold: Annotated[float, Affects("score"), Unit("logits")] = 0.0
    """The empty answer is given when its score exceeds the best answer's by more than this."""


class GlueSection(TokenSection):
    """Classification or regression of a sentence or a pair of sentences: the tasks of GLUE."""

    name: Annotated[GlueName, Affects("architecture", "score", "training")]
    """A GLUE task. Its files are CSV, JSON or JSONL with GLUE's column names."""

    @property
    def smooths_labels(self) -> bool:
        return self.name != "stsb"


TASKS.register(["squad"], SquadSection)
TASKS.register(["squad_v2"], Squad2Section)
TASKS.register(get_args(GlueName), GlueSection)
