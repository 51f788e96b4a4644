"""The `drift` section."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from analog_lora_cli.config.effects import Affects
from analog_lora_cli.config.noise_levels import level_label, noise_level
from analog_lora_cli.config.section import Section
from analog_lora_cli.config.times import seconds, time_label

DriftTime = Annotated[str, BeforeValidator(time_label)]
NoiseLevel = Annotated[float, BeforeValidator(noise_level)]


def _unique_times(times: list[str]) -> list[str]:
    by_seconds: dict[float, str] = {}
    for label in times:
        if seconds(label) in by_seconds:
            raise ValueError(f"{label} and {by_seconds[seconds(label)]} are the same time")
        by_seconds[seconds(label)] = label
    return [by_seconds[key] for key in sorted(by_seconds)]


def _unique_levels(levels: list[float]) -> list[float]:
    twice = [level for level in levels if levels.count(level) > 1]
    if twice:
        raise ValueError(f"{level_label(twice[0])} stands there twice")
    return sorted(levels)


class DriftConfig(Section):
    """The evaluation over time: chips are programmed, aged and measured."""

    times: Annotated[
        list[DriftTime], Field(min_length=1), AfterValidator(_unique_times), Affects("chips", "training")
    ] = Field(default=["0s", "1h", "1d", "1w", "30d", "1y", "10y"])
    """Times after programming: seconds, or with a unit (s, min, h, d, w, y; 1y = 365 d)."""

    chips: Annotated[int, Affects("chips")] = Field(default=10, ge=1)
    """Number of simulated chips, each with a seed of its own."""

    seed: Annotated[int, Affects("chips")] = Field(default=0, ge=0)
    """Seed of the first chip; the others count up from it."""

    reads: Annotated[int, Affects("chips")] = Field(default=2, ge=1)
    """Reads of each chip at each time, each with read noise and output noise of its own: tells the spread within a chip
    from that between chips. Each costs a whole evaluation."""

    draws: Annotated[int, Affects("chips")] = Field(default=5, ge=1)
    """Evaluations with converters only, each with output noise of its own."""

    gaussian: Annotated[list[NoiseLevel], AfterValidator(_unique_levels), Affects("chips")] = Field(default=[])
    """Sizes of static Gaussian weight noise to measure beside drift, such as 3% or 0.03 of the largest weight of each
    column, as the language-model literature reports. Each chip's seed draws it once, in place of the device."""
