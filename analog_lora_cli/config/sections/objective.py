"""The `objective` section: one class for each kind of objective."""

from __future__ import annotations

from typing import Annotated, Literal

from analog_lora_cli.config.effects import Affects
from analog_lora_cli.config.registry import OBJECTIVES
from analog_lora_cli.config.section import Section


class ObjectiveSection(Section):
    """Objective that the training minimizes."""

    kind: Annotated[str, Affects("training")]
    """Kind of objective."""


class SupervisedSection(ObjectiveSection):
    """The model's own loss against the labels of the training data."""

    kind: Annotated[Literal["supervised"], Affects("training")] = "supervised"
    """The labels' loss."""


OBJECTIVES.register(["supervised"], SupervisedSection)
