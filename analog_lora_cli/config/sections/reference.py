"""The `reference` section."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from analog_lora_cli.config.effects import Affects
from analog_lora_cli.config.section import Section
from analog_lora_cli.config.sections.drift import DriftTime


class ReferenceConfig(Section):
    """Published numbers to show beside the measured ones. Never inherited through `extends`."""

    source: Annotated[str, Affects("report")]
    """Publication that the numbers are from."""

    digital: Annotated[dict[str, float], Affects("report")] = Field(default_factory=dict)
    """Metric without analog hardware, by name, in percent."""

    drift: Annotated[dict[str, dict[DriftTime, float]], Affects("report")] = Field(default_factory=dict)
    """Metric by name and time after programming, in percent."""

    before: Annotated[dict[str, dict[DriftTime, float]], Affects("report")] = Field(default_factory=dict)
    """As `drift`, before an adaptation: the old adapter on the new hardware."""

    trainable_parameters: Annotated[int | None, Affects("report")] = None
    """Parameters that are trained."""

    note: Annotated[str | None, Affects("report")] = None
    """Remark on the numbers: conditions that the publication gives, or leaves open."""
