from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analog_lora_cli.config.times import SECONDS_PER_UNIT, seconds, shortest_label, time_label

UNITS = st.sampled_from(sorted(SECONDS_PER_UNIT))


@given(value=st.integers(0, 2**53) | st.floats(0, 1e18))
def test_a_bare_number_is_seconds(value: float) -> None:
    assert seconds(time_label(value)) == value


NUMBERS = st.integers(0, 10**6) | st.floats(0, 1e6)


@given(number=NUMBERS, unit=UNITS, space=st.sampled_from(["", " "]), upper=st.booleans())
def test_a_number_with_a_unit(number: float, unit: str, space: str, upper: bool) -> None:
    label = time_label(f" {number}{space}{unit.upper() if upper else unit} ")
    assert seconds(label) == pytest.approx(number * SECONDS_PER_UNIT[unit])
    assert time_label(label) == label and " " not in label


@given(text=st.text())
def test_any_text_is_a_time_or_a_value_error(text: str) -> None:
    try:
        label = time_label(text)
    except ValueError as error:
        assert "is not a time" in str(error)
    else:
        assert math.isfinite(seconds(label)) and seconds(label) >= 0


@pytest.mark.parametrize(
    "value", [-1, -0.1, math.inf, math.nan, True, None, [], {}, "", "-1s", "1 month", "1q", "d", "1e400"]
)
def test_what_is_not_a_time(value: object) -> None:
    with pytest.raises(ValueError, match="is not a time"):
        time_label(value)


def test_examples() -> None:
    assert [seconds(t) for t in ("0s", "90", "1min", "1h", "1d", "1w", "30d", "1y")] == [
        0,
        90,
        60,
        3600,
        86400,
        604800,
        2592000,
        31536000,
    ]
    assert time_label(3600) == "3600s" and time_label(31536000) == "31536000s" and time_label("1Y") == "1y"


@pytest.mark.parametrize("label", ["0s", "0.5s", "25s", "90min", "1h", "36h", "1d", "1w", "30d", "1y", "10y"])
def test_the_shortest_label_is_what_a_person_writes(label: str) -> None:
    assert shortest_label(seconds(label)) == label
