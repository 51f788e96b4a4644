"""The `objective` section: one class for each kind of objective."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from analog_lora_cli.config.effects import Affects, Unit
from analog_lora_cli.config.recalibration import Recalibration
from analog_lora_cli.config.registry import OBJECTIVES
from analog_lora_cli.config.section import Section

if TYPE_CHECKING:
    from analog_lora_cli.config.schema import Config


class ObjectiveSection(Section):
    """Objective that the training minimizes."""

    kind: Annotated[str, Affects("training")]
    """Kind of objective."""

    @property
    def recalibration(self) -> Recalibration | None:
        """Settings of a recalibration of one chip, which trains nothing; None: it is a training."""
        return None

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


class RecalibrationSection(ObjectiveSection):
    """A correction of one chip at one time in closed form, without training or labels: least squares of the error of
    each layer on tiles along the principal directions of its inputs. For `adapt` with `--chip` and `--at`."""

    kind: Annotated[Literal["recalibration"], Affects("training")] = "recalibration"
    """Correction of one chip in closed form."""

    recalibration_rank: Annotated[int, Affects("training")] = Field(default=32, ge=1)
    """Rank of the correction, the mean over the layers on tiles by their parameters: layers that lose more get more.
    The new adapter has it on top of the old one's."""

    recalibration_tokens: Annotated[int, Affects("training"), Unit("tokens")] = Field(default=2048, ge=64)
    """Training tokens that each layer is read for, labels left out."""

    recalibration_reads: Annotated[int, Affects("training")] = Field(default=4, ge=2)
    """Reads of each of these tokens, to tell the chip's own error from the noise of a read."""

    @property
    def recalibration(self) -> Recalibration:
        """Its settings."""
        return Recalibration(self.recalibration_rank, self.recalibration_tokens, self.recalibration_reads)


OBJECTIVES.register(["supervised"], SupervisedSection)
OBJECTIVES.register(["recalibration"], RecalibrationSection)
