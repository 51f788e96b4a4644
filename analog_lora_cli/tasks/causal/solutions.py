"""Reasoning and solution in a completion, and the numbers in them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from analog_lora_cli.config.sections.reasoning import REASONING_TAGS as REASONING
from analog_lora_cli.config.sections.reasoning import SOLUTION_TAGS as SOLUTION

TAGS = (*REASONING, *SOLUTION)

_NUMBER = re.compile(r"-?(?:\d[\d,]*\.?\d*|\.\d+)")
_BETWEEN = r"((?:(?!</?(?:start_working_out|end_working_out|SOLUTION)>).)+)"
_WELL_FORMED = re.compile(
    rf"\s*{REASONING[0]}{_BETWEEN}{REASONING[1]}\s*{SOLUTION[0]}{_BETWEEN}{SOLUTION[1]}\s*", re.DOTALL
)


@dataclass(frozen=True)
class Completion:
    """A completion with what can be read in it."""

    text: str

    @property
    def well_formed(self) -> bool:
        """Whether it is reasoning and solution, neither of them empty, each between its tags, and nothing else."""
        return _WELL_FORMED.fullmatch(self.text) is not None

    @property
    def solution(self) -> str | None:
        """The text after the last opening tag of a solution, up to the closing one or the end; None without a tag."""
        if SOLUTION[0] not in self.text:
            return None
        return self.text.rpartition(SOLUTION[0])[2].partition(SOLUTION[1])[0]


def number(text: str) -> float | None:
    """The value of a text that is one number, with a sign, thousands separated by commas, `$` or `%`; else None."""
    plain = text.strip().removesuffix(".").removesuffix("%").replace("$", "").strip()
    return _value(plain) if _NUMBER.fullmatch(plain) else None


def first_number(text: str) -> float | None:
    """The first number in a text; None if there is none."""
    match = _NUMBER.search(text)
    return None if match is None else _value(match[0])


def same(solution: str, answer: str) -> bool:
    """Whether a solution says the same as an answer: the same number, or the same words in either case."""
    expected = number(answer)
    if expected is not None:
        return first_number(solution) == expected
    return solution.strip().casefold() == answer.strip().casefold()


def _value(digits: str) -> float:
    return float(digits.replace(",", ""))
