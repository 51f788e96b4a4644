"""Sizes of Gaussian weight noise: `3%` or 0.03 of the largest weight of each column."""

from __future__ import annotations

import math
import re

_PERCENT = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*(?P<percent>%?)")


def noise_level(value: object) -> float:
    """A size of noise from a configuration or the command line, relative to the largest weight of each column.

    Args:
        value: a number such as 0.03, or text such as `3%` or `0.03`.

    Raises:
        ValueError: it is no number above 0 and up to 1.
    """
    level = math.nan
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        level = float(value)
    elif isinstance(value, str) and (match := _PERCENT.fullmatch(value.strip())):
        level = float(match["number"]) / (100 if match["percent"] else 1)
    if not 0 < level <= 1:
        hint = f"; did you mean {level:g}%?" if 1 < level <= 100 else ""
        raise ValueError(f"{value!r} is not a noise level: expected above 0% and up to 100%, such as 3% or 0.03{hint}")
    return level


def level_label(level: float) -> str:
    """The label of a noise level: `3%`, `6.7%`."""
    return f"{100 * level:.10g}%"
