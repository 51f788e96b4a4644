"""Keys of the tasks that give a sample a label: a class, several classes, or a number."""

from __future__ import annotations

from abc import abstractmethod
from math import inf
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from analog_lora_cli.config.effects import Affects, Unit
from analog_lora_cli.config.metrics import METRICS, Compared, Metrics, ModuleMetric
from analog_lora_cli.config.registry import shown
from analog_lora_cli.config.sections.measured import MeasuredSection
from analog_lora_cli.config.sections.own_data import check_different
from analog_lora_cli.config.sections.task import TaskSection

if TYPE_CHECKING:
    from analog_lora_cli.config.schema import Config


ClassWeights = Literal["none", "balanced"] | dict[str, float]


def _named_weights(value: object) -> object:
    """Weights by the classes' names as a file has them: `1` and `true` are names too.

    Raises:
        ValueError: it is neither `none`, `balanced` nor weights by name.
    """
    if value in ("none", "balanced"):
        return value
    if not isinstance(value, dict) or not value:
        raise ValueError(f"expected none, balanced, or weights of classes as {{CLASS: WEIGHT}}, got {shown(value)}")
    for name, weight in value.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < inf:
            raise ValueError(f"the weight of class {name!r} must be a number above 0, got {shown(weight)}")
    return {str(name).lower() if isinstance(name, bool) else str(name): float(w) for name, w in value.items()}


class LabelledSection(MeasuredSection):
    """Base of the tasks with one label for a sample."""

    input_key: ClassVar[str]
    """The key that names the columns of what is labelled."""

    label_column: Annotated[str, Affects("training", "score")] = "label"
    """Column of the label."""

    metrics: Annotated[list[str | ModuleMetric] | None, Field(min_length=1), Metrics(METRICS), Affects("score")] = None
    """Metrics, the headline first; f1, precision and recall are those of the second of two classes, and the mean over
    more, or over those of `multi_label`. Any other module of `evaluate` is named with its direction, and with `unit`,
    `scale`, `value` (an entry of its result) and `options` where need be; its code is run. null: accuracy and f1;
    f1_micro, f1_macro and accuracy with `multi_label`; pearson and spearman of numbers."""

    @property
    @abstractmethod
    def input_columns(self) -> list[str]:
        """Columns of what is labelled."""

    @model_validator(mode="after")
    def _columns_differ(self) -> LabelledSection:
        check_different([*self.input_columns, self.label_column], f"{self.input_key} and label_column")
        return self


class ClassesSection(LabelledSection):
    """Base of the tasks whose labels are classes."""

    labels: Annotated[list[str] | None, Affects("architecture", "score", "training")] = Field(
        default=None, min_length=2
    )
    """Names of the classes, in the order of the model's outputs; null: those in the training data, sorted. A checkpoint
    holds them."""

    multi_label: Annotated[bool, Affects("architecture", "score", "training")] = False
    """Whether a sample has any number of classes rather than one: each has a probability of its own, and the loss is
    binary cross entropy. The label column holds lists, or text with `label_separator` between the labels. Accuracy is
    then the share of samples with exactly the right classes."""

    label_separator: Annotated[str, Affects("score", "training")] = Field(default=",", min_length=1)
    """Text between two labels of a sample, with `multi_label`."""

    threshold: Annotated[float, Affects("score"), Unit("probability")] = Field(default=0.5, gt=0, lt=1)
    """Probability from which a class is predicted, with `multi_label`."""

    class_weights: Annotated[ClassWeights, BeforeValidator(_named_weights), Affects("training")] = "none"
    """Weights of the classes in the training loss. `balanced`: samples / (classes * samples of the class), with
    `multi_label` samples without the class / samples with it; or the weight of each class, 1 where none is given: with
    `multi_label` that of the samples with the class."""

    @property
    def compares(self) -> Compared:
        """See `MeasuredSection`."""
        return "sets of classes" if self.multi_label else "classes"

    @model_validator(mode="after")
    def _keys_of_multi_label(self) -> ClassesSection:
        for key in ("label_separator", "threshold"):
            if not self.multi_label and getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"{key} has an effect with multi_label: true only; set that, or leave the key out")
        return self

    def conflict(self, config: Config) -> str | None:
        """See `TaskSection`."""
        smoothing = config.train.label_smoothing
        if smoothing and (self.multi_label or self.class_weights != "none"):
            key = "multi_label: true" if self.multi_label else "class_weights"
            return f"train.label_smoothing_factor: {smoothing} does not go with task.{key}; leave one of them out"
        return super().conflict(config)

    @property
    def own_loss(self) -> str | None:
        return None if self.class_weights == "none" else "task.class_weights"

    def same_head(self, other: TaskSection) -> bool:
        """Whether the other task has the same classes too, and as many for a sample."""
        return (
            super().same_head(other)
            and isinstance(other, ClassesSection)
            and (self.labels, self.multi_label) == (other.labels, other.multi_label)
        )
