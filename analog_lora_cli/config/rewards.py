"""The rewards that `objective.rewards` can name: those that come along, and functions of a user's own file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema

from analog_lora_cli.config.registry import OneOf, Registry


@dataclass(frozen=True)
class Reward:
    """A reward that comes with this package."""

    description: str
    lowest: float
    highest: float


REWARDS: Registry[Reward] = Registry("reward")
"""Rewards by name. Their four maxima add up to the 9.5 that the paper states; its formulas are not published."""

REWARDS.register(
    ["format_strict"],
    Reward("3 for a completion that is reasoning and solution, each between its tags, and nothing else; else 0", 0, 3),
)
REWARDS.register(["format_soft"], Reward("0.5 for each of the four tags that stands there once, else -0.5", -2, 2))
REWARDS.register(
    ["answer_correct"],
    Reward(
        "3 for a solution that is the answer; for numbers 1.5 where it is written otherwise, 0.5 within 10 % of the "
        "answer, 0.25 within 20 %; else 0",
        0,
        3,
    ),
)
REWARDS.register(["answer_is_number"], Reward("1.5 for a solution that is a number and nothing else; else 0", 0, 1.5))


@dataclass(frozen=True)
class RewardFile:
    """A reward function in a user's Python file, `FILE.py:FUNCTION`."""

    file: str
    function: str

    @classmethod
    def parse(cls, text: str) -> RewardFile | None:
        """The file and function that a text names; None if it is the name of a reward."""
        file, colon, function = text.rpartition(":")
        return cls(file, function) if colon and file.endswith(".py") and function.isidentifier() else None


class Rewards(OneOf):
    """Metadata of a field that lists rewards; each is checked by `check_reward`."""

    @property
    def allowed(self) -> str:
        return f"list of {super().allowed}, FILE.py:FUNCTION"

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return handler(source)


def check_reward(text: str) -> str:
    """The text itself, if it names a reward or has the form of a file and a function. Reads no file.

    Raises:
        ValueError: neither.
    """
    if RewardFile.parse(text) is not None:
        return text
    if ".py" in text or ":" in text:
        raise ValueError(f"expected FILE.py:FUNCTION, such as ./rewards.py:short_answer, got {text!r}")
    if REWARDS.get(text) is None:
        raise ValueError(f"{REWARDS.unknown(text)}; a function of your own: FILE.py:FUNCTION")
    return text
