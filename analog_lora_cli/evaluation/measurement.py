"""Identity of a measurement: digital, with converters only, one chip read once at one time, recalibrated or not, or
Gaussian noise."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from analog_lora_cli.config.noise_levels import level_label
from analog_lora_cli.config.recalibration import Recalibration
from analog_lora_cli.config.times import shortest_label

_CHIP = re.compile(
    r"chip (?P<chip>-?[0-9]+) at (?P<seconds>\S+) s(?: read (?P<read>[0-9]+))?"
    r"(?: recalibrated at (?P<calibrated>\S+) s, rank (?P<rank>[0-9]+), (?P<tokens>[0-9]+) tokens x (?P<reads>[0-9]+))?"
)
_GAUSSIAN = re.compile(r"gaussian (?P<level>\S+) chip (?P<chip>-?[0-9]+)")
_DRAW = re.compile(r"converters only(?: draw (?P<draw>[0-9]+))?")


@dataclass(frozen=True)
class Measurement:
    """One evaluation of an adapter; under the same conditions, equal measurements give the same metrics."""

    kind: Literal["digital", "converters_only", "chip", "recalibrated", "gaussian"]
    chip: int = 0
    """Seed of the chip; 0 where there is none."""
    seconds: float = 0.0
    """Time after programming."""
    read: int = 0
    """Number of the reading, from 0: each draws read noise and output noise of its own."""
    level: float = 0.0
    """Static Gaussian weight noise in place of the device, relative to the largest weight of each column."""
    recalibration: Recalibration | None = None
    """Settings of the recalibration; None where there is none."""
    calibrated: float = 0.0
    """Time after programming at which the chip was recalibrated; 0 where it was not."""

    @property
    def has_chip(self) -> bool:
        """Whether the seed of a chip draws the weights: over drift, or with Gaussian noise."""
        return self.ages or self.kind == "gaussian"

    @property
    def ages(self) -> bool:
        """Whether it is of a chip at a time, recalibrated or not."""
        return self.kind in ("chip", "recalibrated")

    def key(self) -> str:
        """Name in the log, which also seeds the output noise: `digital`, `chip 3 at 86400 s read 1`."""
        if self.kind == "gaussian":
            return f"gaussian {self.level:.17g} chip {self.chip}"
        if not self.ages:
            name = self.kind.replace("_", " ")
            return f"{name} draw {self.read}" if self.read else name
        key = f"chip {self.chip} at {self.seconds:.17g} s"
        key = f"{key} read {self.read}" if self.read else key
        own = self.recalibration
        if own is None:
            return key
        return f"{key} recalibrated at {self.calibrated:.17g} s, rank {own.rank}, {own.tokens} tokens x {own.reads}"

    @classmethod
    def parse(cls, key: str) -> Measurement:
        """The measurement of a key.

        Raises:
            ValueError: the text is no key.
        """
        if key == DIGITAL.key():
            return DIGITAL
        if draw := _DRAW.fullmatch(key):
            return cls("converters_only", read=int(draw["draw"] or 0))
        if noise := _GAUSSIAN.fullmatch(key):
            return cls("gaussian", int(noise["chip"]), level=float(noise["level"]))
        match = _CHIP.fullmatch(key)
        if match is None:
            raise ValueError(f"{key!r} is not the key of a measurement")
        aged = int(match["chip"]), float(match["seconds"]), int(match["read"] or 0)
        if match["rank"] is None:
            return cls("chip", *aged)
        settings = Recalibration(int(match["rank"]), int(match["tokens"]), int(match["reads"]))
        return cls("recalibrated", *aged, recalibration=settings, calibrated=float(match["calibrated"]))

    def condition(self, label: str) -> str:
        """Label of the condition that a chip was measured under: `1y`, `1y recalibrated`, `3%`.

        Args:
            label: label of its time or noise.
        """
        return label if self.recalibration is None else recalibrated_label(label, self.seconds, self.calibrated)

    def label(self) -> str:
        """Name for a person: `digital`, `chip 3 at 1y, read 1`, `chip 3 with 6.7% noise`."""
        if self.kind == "gaussian":
            return f"chip {self.chip} with {level_label(self.level)} noise"
        if not self.ages:
            return self.key()
        label = self.condition(f"chip {self.chip} at {shortest_label(self.seconds)}")
        return f"{label}, read {self.read}" if self.read else label


DIGITAL = Measurement("digital")


def recalibrated_label(label: str, seconds: float, calibrated: float) -> str:
    """Label of a time at which recalibrated chips were measured: `1y recalibrated`, `1y recalibrated at 1d`.

    Args:
        label: label of the time.
        seconds: the time after programming.
        calibrated: the time of the recalibration.
    """
    at = "" if calibrated == seconds else f" at {shortest_label(calibrated)}"
    return f"{label} recalibrated{at}"


@dataclass(frozen=True)
class CalibrationCost:
    """What the recalibration of one chip at one time took and gave."""

    seconds: float
    """Duration on the machine that simulated it."""
    parameters: int
    """Numbers in the corrections of all layers."""
    ranks: Mapping[str, int]
    """Rank of the correction by layer on tiles."""
    explained: float
    """Share of the layers' output energy that the corrections change, the mean over the layers."""


def without_chips(draws: int) -> list[Measurement]:
    """The measurements that no chip takes part in: digital first, because the model may not lie on tiles yet.

    Args:
        draws: draws of the output noise with converters only.
    """
    return [DIGITAL, *(Measurement("converters_only", read=draw) for draw in range(draws))]
