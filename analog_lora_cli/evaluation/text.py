"""Statistics as text, for tables and READMEs."""

from __future__ import annotations


def interval_text(interval: list[float] | None) -> str:
    """An interval; empty if it is unknown."""
    return "" if interval is None else " .. ".join(map(number_text, interval))


def number_text(value: float | None) -> str:
    """A number with two decimals, from 1,000 on with none; empty if it is unknown."""
    if value is None:
        return ""
    return f"{value:.2f}" if abs(value) < 1000 else f"{value:.0f}"
