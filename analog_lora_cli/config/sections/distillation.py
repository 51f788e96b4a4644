"""The `objective` section of distillation: a teacher's outputs beside the labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from analog_lora_cli.config.effects import Affects
from analog_lora_cli.config.registry import OBJECTIVES
from analog_lora_cli.config.sections.objective import ObjectiveSection

if TYPE_CHECKING:
    from analog_lora_cli.config.schema import Config

SELF, PRETRAINED = "self", "pretrained"


class DistillationSection(ObjectiveSection):
    """The labels' loss and the distance to a teacher that computes digitally."""

    kind: Annotated[Literal["distillation"], Affects("training")] = "distillation"
    """Labels and a teacher: (1 - weight) x labels' loss + weight x T^2 KL(teacher || model), both softened by the
    temperature T (Hinton et al., arXiv 1503.02531); for a regression the squared difference in place of T^2 KL."""

    teacher: Annotated[str, Affects("training")] = Field(default=SELF, min_length=1)
    """Teacher: `self`, the model itself at the same step, adapter and head included, with tiles and dropout off;
    `pretrained`, the same without the adapter, for tasks with a pretrained head (Analog Foundation Models, arXiv
    2505.09663); or the folder of a checkpoint of the same task, whose first adapter computes digitally: on the weights
    of this model where they are the same, else with a second model in memory. Weights that were clipped for the tiles
    are clipped for `self` and `pretrained` too."""

    temperature: Annotated[float, Affects("training")] = Field(default=2.0, gt=0)
    """Divisor of the logits of both before the softmax."""

    weight: Annotated[float, Affects("training")] = Field(default=0.5, ge=0, le=1)
    """Weight of the teacher's outputs; 1: labels do not count."""

    hidden_weight: Annotated[float, Affects("training")] = Field(default=0.0, ge=0)
    """Weight of the hidden states: mean over layers of sum (h - h_teacher)^2 / sum h_teacher^2, over all tokens that
    are no padding; 0: not computed."""

    def conflict(self, config: Config) -> str | None:
        """See `ObjectiveSection`."""
        return next(self._conflicts(config), None)

    def _conflicts(self, config: Config) -> Iterator[str]:
        if not self.weight and not self.hidden_weight:
            yield "objective.weight: 0 with objective.hidden_weight 0 leaves nothing of the teacher: use supervised"
        if self.teacher == SELF and not config.on_tiles:
            yield (
                "objective.teacher: self is the model with its tiles off, and method digital has none: name the folder "
                "of a checkpoint, or use method lora"
            )
        if self.teacher == SELF and self.weight == 1:
            yield "objective.weight: 1 with teacher self leaves no labels to learn from: use less than 1"
        if not config.train.counts_tokens_of_all:
            yield (
                "train.average_tokens_across_devices: false does not go with objective distillation, whose parts are "
                "shares of the tokens of all processes; leave it out"
            )
        if self.teacher == PRETRAINED and not (config.task.pretrained_head and config.has_adapter):
            yield (
                "objective.teacher: pretrained needs a pretrained head and an adapter that can be left out; with task "
                f"{config.task.name} and method {config.method} use self, or the folder of a checkpoint"
            )


OBJECTIVES.register(["distillation"], DistillationSection)
