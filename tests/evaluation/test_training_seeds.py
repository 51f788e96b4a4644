"""Methods compared with the training seed as the unit."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from analog_lora_cli.config.times import seconds
from analog_lora_cli.evaluation.measurement import DIGITAL, Measurement
from analog_lora_cli.evaluation.training_seeds import SeedGroup, seed_differences, welch
from analog_lora_cli.tasks import Metric
from analog_lora_cli.tasks.sample_statistics import Mean
from analog_lora_cli.tasks.scores import Column
from tests.evaluation.results import drift_result

SCORE = Metric("score", unit="", statistic=Mean("score", scale=1.0))
TIMES = ["0s", "1y"]


def group(name: str, seed: int, level: float, spread: float, trainings: int = 5, chips: int = 4) -> SeedGroup:
    """Trainings that spread by `spread`, chips by 0.5 and samples by 3, both the same for every group."""
    common, own = np.random.default_rng(99), np.random.default_rng(seed)
    of_sample, of_chip = 3 * common.normal(size=200), 0.5 * common.normal(size=chips)
    results = []
    for training in spread * own.normal(size=trainings):
        samples: dict[Measurement, dict[str, Column]] = {DIGITAL: {"validation.score": level + of_sample + training}}
        for chip in range(chips):
            for time in TIMES:
                scores = level + of_sample + of_chip[chip] + training + 0.3 * own.normal(size=200)
                samples[Measurement("chip", chip, seconds(time))] = {"validation.score": scores}
                if time == "1y":  # With the noise as at the last time, so that both rows must agree.
                    samples[Measurement("gaussian", chip, level=0.03)] = {"validation.score": scores}
        metrics = {one: {"score": float(columns["validation.score"].mean())} for one, columns in samples.items()}
        digital = metrics.pop(DIGITAL)
        results.append(
            drift_result([SCORE], digital, metrics, TIMES, samples=samples, converters_only=[digital], levels=["3%"])
        )
    return SeedGroup(name, results)


def test_welchs_test_on_one_value_a_seed() -> None:
    first, second = group("a", 0, 10.0, 1.0), group("b", 1, 12.0, 2.0, trainings=4)
    found = seed_differences(first, second)["1y"]
    a, b = first.values("score", "1y"), second.values("score", "1y")
    expected = stats.ttest_ind(b, a, equal_var=False)
    assert found["mean"] == pytest.approx(np.mean(b) - np.mean(a))
    assert (found["p"], found["df"]) == pytest.approx((expected.pvalue, expected.df))
    assert found["ci95_seeds"] == pytest.approx(list(expected.confidence_interval(0.95)))


def test_rows_of_gaussian_noise_have_the_statistics_of_times() -> None:
    first, second = group("a", 0, 10.0, 1.0), group("b", 1, 12.0, 2.0)
    of_noise, of_time = first.summary("score", "3%"), first.summary("score", "1y")
    assert {**of_noise, "ci95_all_times": None} == {**of_time, "ci95_all_times": None}
    differences = seed_differences(first, second)
    assert list(differences) == ["0s", "1y", "3%"] and differences["3%"]["ci95"] == differences["1y"]["ci95"]


def test_samples_widen_a_mean_but_not_a_difference() -> None:
    """Samples spread by 3, so 0.2 in the mean of 200, and are the same for both methods."""
    first, second = group("a", 0, 10.0, 0.02), group("b", 1, 10.5, 0.02)
    one, difference = first.summary("score", "1y"), seed_differences(first, second)["1y"]
    assert one["ci95"] is not None and one["ci95_seeds"] is not None and difference["ci95"] is not None
    assert one["ci95_seeds"][1] - one["ci95_seeds"][0] < 0.3 < 0.8 < one["ci95"][1] - one["ci95"][0]
    assert 0.3 < difference["ci95"][0] < 0.5 < difference["ci95"][1] < 0.7


def test_the_spread_is_told_apart_by_its_causes() -> None:
    parts = group("a", 3, 10.0, 1.0, trainings=40, chips=20).summary("score", "0s")["components"]
    assert parts["training_seed"] == pytest.approx(1.0, rel=0.3)
    assert parts["chip"] == pytest.approx(0.5, rel=0.3)
    assert parts["samples"] == pytest.approx(3 / np.sqrt(200), rel=0.15)
    assert parts["read"] is None


def test_the_truth_lies_within_as_often_as_said() -> None:
    """Two methods of the same level: their difference is 0."""
    intervals = []
    for seed in range(60):
        pair = group("a", 2 * seed, 10.0, 1.0, chips=2), group("b", 2 * seed + 1, 10.0, 2.0, chips=2)
        intervals.append(seed_differences(*pair)["0s"]["ci95"])
    held = [interval is not None and interval[0] <= 0 <= interval[1] for interval in intervals]
    assert np.mean(held) >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / 60)


def test_one_training_says_nothing_about_its_method() -> None:
    alone = group("a", 0, 10.0, 1.0, trainings=1).summary("score", "0s")
    assert (alone["std"], alone["ci95"], alone["ci95_seeds"], alone["ci95_all_times"]) == (None, None, None, None)


def test_without_any_spread_the_difference_is_what_it_is() -> None:
    same = np.full(3, 1.0)
    assert welch(same, same) == ([0.0, 0.0], 1.0, 4.0)
    assert welch(same + 1, same) == ([1.0, 1.0], 0.0, 4.0)
    # A spread of rounding errors is none, and equal values on one side are no warning.
    assert welch(same * (1 + 1e-15 * np.arange(len(same))), same)[1] == 1.0
    interval, p, _ = welch(same + np.arange(len(same)), same)
    assert interval[0] < np.arange(len(same)).mean() < interval[1] and 0 < p < 1
