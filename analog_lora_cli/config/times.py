"""Times after programming: `0s`, `1h`, `1d`, `1w`, `30d`, `1y`, or a bare number of seconds; durations in words."""

from __future__ import annotations

import math
import re

from analog_lora_cli.errors import UsageError

SECONDS_PER_UNIT = {
    "s": 1.0,
    "min": 60.0,
    "h": 3600.0,
    "d": 86400.0,
    "w": 604800.0,
    "y": 31536000.0,
}
"""Length of each unit in seconds; a year is 365 days, as in the paper's evaluation."""

_TIME = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]*)?(?:e[+-]?[0-9]+)?)\s*(?P<unit>[a-z]*)", re.IGNORECASE)


def time_label(value: object) -> str:
    """Normalize a time from a configuration or the command line.

    Args:
        value: a number of seconds, or text such as `30d`.

    Returns:
        the number with its unit, for instance `3600s` or `1y`.

    Raises:
        ValueError: the value is negative, not finite, or not a time.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if not math.isfinite(value) or value < 0:
            raise ValueError(f"{value} is not a time: expected a finite number of seconds, 0 or more")
        return f"{int(value)}s" if value == int(value) else f"{value!r}s"
    if isinstance(value, str):
        match = _TIME.fullmatch(value.strip())
        if match is not None:
            unit = match["unit"].lower() or "s"
            if unit in SECONDS_PER_UNIT and math.isfinite(float(match["number"])):
                return f"{match['number']}{unit}"
    units = ", ".join(SECONDS_PER_UNIT)
    raise ValueError(f"{value!r} is not a time: expected a number of seconds, or a number with a unit ({units})")


def time_option(option: str, value: str | None) -> str | None:
    """Normalized time of an option; None without the option.

    Raises:
        UsageError: the value is not a time; the message names the option.
    """
    try:
        return None if value is None else time_label(value)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None


def seconds(label: str) -> float:
    """Seconds after programming that a label such as `1y` stands for.

    Raises:
        ValueError: the label is not a time.
    """
    match = _TIME.fullmatch(time_label(label))
    assert match is not None
    return float(match["number"]) * SECONDS_PER_UNIT[match["unit"]]


def shortest_label(time: float) -> str:
    """The label of a time in the largest unit that it is a whole number of: `1y`, `30d`, `90min`, `0.5s`."""
    whole = [(time / length, unit) for unit, length in SECONDS_PER_UNIT.items() if time and time % length == 0]
    return f"{whole[-1][0]:.0f}{whole[-1][1]}" if whole else time_label(time)


def duration(seconds: float) -> str:
    """A span of time for a person: `12 s`, `3 min 5 s`, `2 h 10 min`."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"
