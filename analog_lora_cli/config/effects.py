"""Effects of a configuration key, as each field states them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Effect = Literal[
    "mapping", "clipping", "programming", "read", "score", "data", "chips", "architecture", "training", "cost",
    "numerics", "report",
]  # fmt: skip


@dataclass(frozen=True)
class Meaning:
    """Explanation of an effect, and the commands on which a key with this effect acts."""

    text: str
    commands: tuple[str, ...]


_MEASURE = ("train", "evaluate-drift", "adapt")

MEANINGS: dict[Effect, Meaning] = {
    "mapping": Meaning("which weights lie on tiles, and where", ("train", "evaluate-drift", "inspect-tiles", "export")),
    "clipping": Meaning(
        "how far weights are clipped before they are programmed", ("train", "evaluate-drift", "inspect-tiles", "export")
    ),
    "programming": Meaning(
        "what the devices are programmed to", ("train", "evaluate-drift", "inspect-tiles", "export")
    ),
    "read": Meaning("what a programmed chip gives when it is measured", (*_MEASURE, "inspect-tiles", "export")),
    "score": Meaning("how the outputs of a chip become metrics", _MEASURE),
    "data": Meaning("which samples are measured; compared by content, not by path", (*_MEASURE, "inspect-tiles")),
    "chips": Meaning("which chips are measured, when and how often", _MEASURE),
    "architecture": Meaning(
        "what the trained model is and what goes into it; settled once it is trained",
        ("train", "adapt", "inspect-tiles"),
    ),
    "training": Meaning("what the training gives, how long it takes, what it logs", ("train", "adapt")),
    "cost": Meaning("what a deployment costs: devices, time and energy", ("inspect-tiles", "report")),
    "numerics": Meaning("how a result is computed: the same one up to rounding", (*_MEASURE, "inspect-tiles")),
    "report": Meaning("only what is shown beside a result", _MEASURE),
}


class Affects:
    """Metadata of a field: what its value affects.

    Args:
        effects: what the key affects; none: nothing but how `analora presets` lists the configuration.
        reason: why the key cannot change on a programmed chip; completes "it ...".
    """

    def __init__(self, *effects: Effect, reason: str = "") -> None:
        self.effects: frozenset[Effect] = frozenset(effects)
        self.reason = reason


@dataclass(frozen=True)
class Unit:
    """Metadata of a field: the unit of its value."""

    name: str
