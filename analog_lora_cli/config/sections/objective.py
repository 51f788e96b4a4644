"""The `objective` section: one class for each kind of objective."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from analog_lora_cli.config.effects import Affects
from analog_lora_cli.config.registry import OBJECTIVES
from analog_lora_cli.config.section import Section

if TYPE_CHECKING:
    from analog_lora_cli.config.schema import Config


class ObjectiveSection(Section):
    """Objective that the training minimizes."""

    kind: Annotated[str, Affects("training")]
    """Kind of objective."""

    @property
    def own_code(self) -> list[str]:
        """Functions of a user's own files that the objective calls, as `FILE.py:FUNCTION`."""
        return []

    def conflict(self, config: Config) -> str | None:
        """A key that does not fit this objective, as `key: reason and remedy`; None if all fit.

        Args:
            config: the complete configuration.
        """
        return None


class SupervisedSection(ObjectiveSection):
    """The model's own loss against the labels of the training data."""

    kind: Annotated[Literal["supervised"], Affects("training")] = "supervised"
    """The labels' loss."""


OBJECTIVES.register(["supervised"], SupervisedSection)
