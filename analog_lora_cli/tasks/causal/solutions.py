"""Reasoning and solution in a completion, and the numbers in them."""

from __future__ import annotations

import re
from dataclasses import dataclass

REASONING = ("<start_working_out>", "<end_working_out>")
SOLUTION = ("<SOLUTION>", "</SOLUTION>")
TAGS = (*REASONING, *SOLUTION)
"""The tags around reasoning and solution, those of the paper."""

INSTRUCTION = (
    f"Work out the answer between {REASONING[0]} and {REASONING[1]}. Then give the answer alone between "
    f"{SOLUTION[0]} and {SOLUTION[1]}."
)
"""What the model is told of them."""

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
        before, tag, after = self.text.rpartition(SOLUTION[0])
        return after.partition(SOLUTION[1])[0] if tag else None


def number(text: str) -> float | None:
    """The value of a text that is one number, with a sign, thousands separated by commas, `$` or `%`; else None."""
    plain = text.strip().removesuffix(".").removesuffix("%").replace("$", "").strip()
    return _value(plain) if _NUMBER.fullmatch(plain) else None


def first_number(text: str) -> float | None:
    """The first number in a text; None if there is none."""
    match = _NUMBER.search(text)
    return None if match is None else _value(match[0])


def last_number(text: str) -> float | None:
    """The last number in a text; None if there is none."""
    numbers = _NUMBER.findall(text)
    return _value(numbers[-1]) if numbers else None


def same(solution: str, answer: str) -> bool:
    """Whether a solution says the same as an answer: the same number, or the same words in either case."""
    expected = number(answer)
    if expected is not None:
        return first_number(solution) == expected
    return solution.strip().casefold() == answer.strip().casefold()


def _value(digits: str) -> float:
    return float(digits.replace(",", ""))
