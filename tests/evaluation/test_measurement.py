"""Measurements: their keys are what seeds and logs have always held, and people see times as they wrote them."""

from __future__ import annotations

import pytest

from analog_lora_cli.evaluation.measurement import DIGITAL, Measurement


@pytest.mark.parametrize(
    ("measurement", "key", "label"),
    [
        (DIGITAL, "digital", "digital"),
        (Measurement("converters_only"), "converters only", "converters only"),
        (Measurement("converters_only", read=2), "converters only draw 2", "converters only draw 2"),
        (Measurement("chip", 3, 86400.0, 1), "chip 3 at 86400 s read 1", "chip 3 at 1d, read 1"),
        (Measurement("chip", 0, 31536000.0), "chip 0 at 31536000 s", "chip 0 at 1y"),
        (Measurement("gaussian", 3, level=0.067), "gaussian 0.067000000000000004 chip 3", "chip 3 with 6.7% noise"),
        (Measurement("chip", 10**20, 0.1), f"chip {10**20} at 0.10000000000000001 s", f"chip {10**20} at 0.1s"),
    ],
)
def test_keys(measurement: Measurement, key: str, label: str) -> None:
    """The key seeds the output noise: another text would change every result."""
    assert measurement.key() == key and Measurement.parse(key) == measurement
    assert measurement.label() == label


@pytest.mark.parametrize(
    "text",
    ["", "chip", "chip 3", "chip 3 at 1y", "chip x at 3 s", "chip 3 at 3 s read", "gaussian 3% chip 1", "analog"],
)
def test_other_texts_are_no_keys(text: str) -> None:
    with pytest.raises(ValueError, match="key of a measurement|could not convert"):
        Measurement.parse(text)
