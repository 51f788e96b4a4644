"""The `drift` section."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from analog_lora_cli.config.effects import Affects, Unit
from analog_lora_cli.config.noise_levels import level_label, noise_level
from analog_lora_cli.config.recalibration import Recalibration
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

    recalibrate: Annotated[int | None, Affects("chips")] = Field(default=None, ge=1)
    """Measure each chip at each time also after a recalibration in closed form, without training or labels: a
    correction of this rank beside each layer on tiles, in the mean over the layers. Null: without."""

    recalibration_tokens: Annotated[int, Affects("chips"), Unit("tokens")] = Field(default=2048, ge=64)
    """Training tokens that a recalibration reads each layer for, labels left out."""

    recalibration_reads: Annotated[int, Affects("chips")] = Field(default=4, ge=2)
    """Reads of each of these tokens, to tell a chip's own error from the noise of a read. Their noise is never that of
    a read that is measured."""

    recalibrate_at: Annotated[DriftTime | None, Affects("chips")] = None
    """Measure each chip at the times after this one also with the recalibration of this time: how long does one hold?
    Null: without."""

    @model_validator(mode="after")
    def _keys_of_recalibration(self) -> DriftConfig:
        for key in ("recalibration_tokens", "recalibration_reads", "recalibrate_at"):
            if self.recalibrate is None and getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"{key} has an effect with recalibrate only; set that to a rank, or leave the key out")
        return self

    @property
    def recalibration(self) -> Recalibration | None:
        """Settings of the recalibration; None without."""
        if self.recalibrate is None:
            return None
        return Recalibration(self.recalibrate, self.recalibration_tokens, self.recalibration_reads)

    @property
    def recalibrated_times(self) -> list[tuple[str, str]]:
        """Times to measure at after a recalibration, each after the time of that; ordered by the latter."""
        if self.recalibrate is None:
            return []
        at = self.recalibrate_at
        later = [] if at is None else [(at, time) for time in self.times if seconds(time) > seconds(at)]
        return sorted([*((time, time) for time in self.times), *later], key=lambda pair: tuple(map(seconds, pair)))
