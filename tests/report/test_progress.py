"""Progress on a console that is no terminal: plain lines with short names, and how long it will take."""

from __future__ import annotations

import pytest

from analog_lora_cli.config.schema import Config
from analog_lora_cli.evaluation.measurement import DIGITAL, Measurement
from analog_lora_cli.report.progress import console as progress
from analog_lora_cli.report.progress.console import ConsoleObserver
from analog_lora_cli.runtime import console
from analog_lora_cli.workflows.observer import planned_measurements

YEAR = Measurement("chip", 0, 31_536_000.0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that the observer reads, one after the other; consoles of this moment."""
    console.messages.cache_clear()
    seconds: list[float] = []
    monkeypatch.setattr(progress, "time", type("Clock", (), {"monotonic": staticmethod(lambda: seconds.pop(0))}))
    return seconds


def test_after_two_measurements_it_says_how_long_the_others_take(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    clock += [100.0, 115.0, 130.0]
    with ConsoleObserver() as observer:
        observer.measured(1, 74, DIGITAL, {"f1": 90.0})
        assert "about" not in capsys.readouterr().err
        observer.measured(2, 74, YEAR, {"f1": 80.0})
        assert "about 18 min 0 s for the other 72 measurements" in capsys.readouterr().err
        observer.measured(74, 74, YEAR, {"f1": 80.0})
        said = capsys.readouterr().err
    assert "about" not in said and "drift: 74/74  chip 0 at 1y: f1 80.00" in said


def test_short_work_needs_no_estimate(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    clock += [0.0, 0.1]
    with ConsoleObserver() as observer:
        observer.measured(1, 74, DIGITAL, {"f1": 90.0})
        observer.measured(2, 74, YEAR, {"f1": 80.0})
    assert "about" not in capsys.readouterr().err


def test_before_a_training_it_says_how_long_the_measurements_will_take(capsys: pytest.CaptureFixture[str]) -> None:
    console.messages.cache_clear()
    with ConsoleObserver() as observer:
        observer.expected(72, 10.0)
        assert capsys.readouterr().err == ""
        observer.expected(72, 1080.0)
    assert "the 72 measurements after the training will take 18 min 0 s or more" in capsys.readouterr().err


def test_the_work_is_announced() -> None:
    drift = Config().drift
    assert planned_measurements(1, []) == "measuring 2 times: digital, converters only"
    expected = "measuring 146 times: digital, converters only x 5, 10 chips x 7 times x 2 reads"
    assert planned_measurements(5, [drift]) == expected
    one = drift.model_copy(update={"chips": 1, "times": ["1y"], "reads": 3})
    assert planned_measurements(5, [one], reused=2).endswith("1 chip x 1 time x 3 reads; 2 of them are there already")
    assert planned_measurements(5, [drift], reused=146) == "all 146 measurements are there already"


def test_training_shows_rewards_and_lengths_where_there_are_any() -> None:
    from analog_lora_cli.report.progress.training import TrainingMeter

    meter = TrainingMeter()
    meter.begin(0, 100)
    meter.values(1, {"loss": 0.25, "learning_rate": 1e-4, "grad_norm": 3.0})
    meter.step(1, 8)
    assert meter.meter.values.startswith("loss 0.250 lr 1.0e-04 ") and "reward" not in meter.meter.values
    meter.values(2, {"loss": 0.25, "reward": 2.5, "completions/mean_length": 13.4, "kl": 0.012, "learning_rate": 1e-4})
    meter.step(2, 8)
    assert meter.meter.values.startswith("loss 0.250 reward 2.50 length 13 kl 0.012 lr 1.0e-04 ")
