"""Statistics as text, for tables and READMEs."""

from __future__ import annotations


def interval_text(interval: list[float] | None) -> str:
    """An interval; empty if it is unknown."""
    return "" if interval is None else "{:.2f} .. {:.2f}".format(*interval)


def number_text(value: float | None) -> str:
    """A number with two decimals; empty if it is unknown."""
    return "" if value is None else f"{value:.2f}"
