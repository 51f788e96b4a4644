"""What can be read in a completion."""

from __future__ import annotations

import pytest

from analog_lora_cli.tasks.causal.solutions import Completion, first_number, number, same


@pytest.mark.parametrize(
    ("text", "solution", "well_formed"),
    [
        ("<start_working_out>a<end_working_out><SOLUTION>b</SOLUTION>", "b", True),
        (" <start_working_out>a\n<end_working_out>\n<SOLUTION>b\n</SOLUTION>\n", "b\n", True),
        ("<SOLUTION>b</SOLUTION>", "b", False),
        ("<SOLUTION>a</SOLUTION> no, <SOLUTION>b", "b", False),
        ("<start_working_out>a<end_working_out><SOLUTION>b</SOLUTION> I hope.", "b", False),
        ("b</SOLUTION>", None, False),
        ("", None, False),
    ],
)
def test_tags(text: str, solution: str | None, well_formed: bool) -> None:
    completion = Completion(text)
    assert (completion.solution, completion.well_formed) == (solution, well_formed)


@pytest.mark.parametrize(
    ("text", "whole", "first"),
    [
        ("72", 72.0, 72.0),
        (" -7. ", -7.0, -7.0),
        ("$1,234.50", 1234.5, 1234.5),
        ("40%", 40.0, 40.0),
        ("72 clips", None, 72.0),
        ("between 3 and 4", None, 3.0),
        ("none", None, None),
        (".", None, None),
        ("", None, None),
    ],
)
def test_numbers(text: str, whole: float | None, first: float | None) -> None:
    assert (number(text), first_number(text)) == (whole, first)


@pytest.mark.parametrize(
    ("solution", "answer", "equal"),
    [
        ("72 clips", "72", True),
        ("72.0", "72", True),
        ("1,000", "1000", True),
        ("27", "72", False),
        ("Paris ", "paris", True),
        ("London", "Paris", False),
        ("", "0", False),
    ],
)
def test_same(solution: str, answer: str, equal: bool) -> None:
    assert same(solution, answer) == equal
