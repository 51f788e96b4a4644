"""Identity of a measurement: digital, with converters only, one chip read once at one time, or Gaussian noise."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from analog_lora_cli.config.noise_levels import level_label
from analog_lora_cli.config.times import shortest_label

_CHIP = re.compile(r"chip (?P<chip>-?[0-9]+) at (?P<seconds>\S+) s(?: read (?P<read>[0-9]+))?")
_GAUSSIAN = re.compile(r"gaussian (?P<level>\S+) chip (?P<chip>-?[0-9]+)")
_DRAW = re.compile(r"converters only(?: draw (?P<draw>[0-9]+))?")


@dataclass(frozen=True)
class Measurement:
    """One evaluation of an adapter; under the same conditions, equal measurements give the same metrics."""

    kind: Literal["digital", "converters_only", "chip", "gaussian"]
    chip: int = 0
    """Seed of the chip; 0 where there is none."""
    seconds: float = 0.0
    """Time after programming."""
    read: int = 0
    """Number of the reading, from 0: each draws read noise and output noise of its own."""
    level: float = 0.0
    """Static Gaussian weight noise in place of the device, relative to the largest weight of each column."""

    @property
    def has_chip(self) -> bool:
        """Whether the seed of a chip draws the weights: over drift, or with Gaussian noise."""
        return self.kind in ("chip", "gaussian")

    def key(self) -> str:
        """Name in the log, which also seeds the output noise: `digital`, `chip 3 at 86400 s read 1`."""
        if self.kind == "gaussian":
            return f"gaussian {self.level:.17g} chip {self.chip}"
        if self.kind != "chip":
            name = self.kind.replace("_", " ")
            return f"{name} draw {self.read}" if self.read else name
        key = f"chip {self.chip} at {self.seconds:.17g} s"
        return f"{key} read {self.read}" if self.read else key

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
        return cls("chip", int(match["chip"]), float(match["seconds"]), int(match["read"] or 0))

    def label(self) -> str:
        """Name for a person: `digital`, `chip 3 at 1y, read 1`, `chip 3 with 6.7% noise`."""
        if self.kind == "gaussian":
            return f"chip {self.chip} with {level_label(self.level)} noise"
        if self.kind != "chip":
            return self.key()
        label = f"chip {self.chip} at {shortest_label(self.seconds)}"
        return f"{label}, read {self.read}" if self.read else label


DIGITAL = Measurement("digital")


def without_chips(draws: int) -> list[Measurement]:
    """The measurements that no chip takes part in: digital first, because the model may not lie on tiles yet.

    Args:
        draws: draws of the output noise with converters only.
    """
    return [DIGITAL, *(Measurement("converters_only", read=draw) for draw in range(draws))]
