"""Intervals over chips and samples: those of the closed form of crossed random effects, as often right as they say."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from analog_lora_cli.evaluation.bootstrap import SAMPLES, Clusters, Deviations, over_members, simultaneous
from analog_lora_cli.evaluation.statistics import MetricOverChips
from analog_lora_cli.tasks.sample_statistics import Mean
from analog_lora_cli.tasks.scores import Column

SCORE = Mean("score", scale=1.0)


def over_chips(scores: Column, per_cluster: int = 1) -> MetricOverChips:
    """A metric that is the mean of some scores, (chips, samples)."""
    count = scores.shape[1]
    clusters = Clusters.of({"cluster": np.arange(count) // per_cluster}, count)
    over_samples = clusters.resampled(SCORE, [{"score": row} for row in scores])
    return MetricOverChips([[float(row.mean())] for row in scores], over_samples, clusters.count)


def crossed(seed: int, chips: int, clusters: int, sizes: tuple[float, float, float], per_cluster: int = 1) -> Column:
    """Scores with effects of chip, cluster, and both: standard deviations `sizes`."""
    draw = np.random.default_rng(seed)
    of_cluster = np.repeat(sizes[1] * draw.normal(size=(1, clusters)), per_cluster, axis=1)
    return sizes[0] * draw.normal(size=(chips, 1)) + of_cluster + sizes[2] * draw.normal(size=(chips, of_cluster.size))


@pytest.mark.parametrize("per_cluster", [1, 5])
def test_the_interval_is_that_of_the_closed_form(per_cluster: int) -> None:
    """Many chips and clusters, so that the estimated effects are the true ones: chip / C + samples / G."""
    chips, clusters, sizes = 200, 400, (1.0, 2.0, 0.5)
    halves = [
        (interval[1] - interval[0]) / 2
        for seed in range(10)
        if (
            interval := over_chips(crossed(seed, chips, clusters, sizes, per_cluster), per_cluster).statistics()["ci95"]
        )
    ]
    assert len(halves) == 10
    closed = 1.96 * np.sqrt(sizes[0] ** 2 / chips + sizes[1] ** 2 / clusters)
    assert np.mean(halves) == pytest.approx(closed, rel=0.05)


def test_samples_of_a_passage_are_no_independent_evidence() -> None:
    scores = crossed(0, 20, 50, (0.1, 2.0, 0.1), per_cluster=10)
    wide, narrow = (over_chips(scores, per).components()["samples"] for per in (10, 1))
    assert wide is not None and narrow is not None
    assert wide == pytest.approx(2 / np.sqrt(50), rel=0.25) and narrow < wide / 2.5


@pytest.mark.parametrize(
    ("chips", "clusters", "sizes"), [(5, 40, (1, 3, 2)), (10, 200, (1, 10, 5)), (3, 100, (1, 2, 2))]
)
def test_the_truth_lies_within_as_often_as_said(chips: int, clusters: int, sizes: tuple[float, float, float]) -> None:
    """0 is the mean of all chips and samples; 200 evaluations, of which 95 % +- 3 standard errors must hold it."""
    results = [over_chips(crossed(seed, chips, clusters, sizes)).statistics() for seed in range(200)]
    share = np.mean([one["ci95"] is not None and one["ci95"][0] <= 0 <= one["ci95"][1] for one in results])
    assert 0.95 - 3 * np.sqrt(0.95 * 0.05 / 200) <= share


def test_over_chips_alone_it_is_students() -> None:
    scores = crossed(1, 4, 30, (1, 1, 1))
    values = scores.mean(axis=1)
    low, high = stats.t.interval(0.95, 3, loc=values.mean(), scale=stats.sem(values))
    assert over_chips(scores).statistics()["ci95_chips"] == pytest.approx([low, high])


def test_one_chip_has_no_interval_over_chips() -> None:
    one = over_chips(crossed(2, 1, 100, (1, 2, 1)))
    assert one.statistics()["ci95"] is None and one.statistics()["ci95_chips"] is None
    interval = one.interval_over_samples()
    assert interval is not None and interval[1] - interval[0] == pytest.approx(2 * 1.98 * np.sqrt(5 / 100), rel=0.25)


def test_a_difference_sees_the_samples_only_where_the_two_differ() -> None:
    scores = crossed(3, 8, 100, (1, 10, 0))
    draw = np.random.default_rng(4)
    other = scores + 0.5 + 0.1 * draw.normal(size=scores.shape)
    difference = (over_chips(other) - over_chips(scores)).statistics()
    assert difference["ci95"] is not None
    assert 0 < difference["ci95"][0] < 0.5 < difference["ci95"][1] < 0.6, "samples spread by 10, differences by 0.1"


def test_reads_are_told_from_chips() -> None:
    """Chips spread by 2, readings by 1: with 400 chips of 2 readings both are found."""
    draw = np.random.default_rng(5)
    readings = 2 * draw.normal(size=(400, 1)) + draw.normal(size=(400, 2))
    parts = MetricOverChips(readings.tolist(), None).components()
    assert parts["chip"] == pytest.approx(2, rel=0.1) and parts["read"] == pytest.approx(1, rel=0.1)
    alone = MetricOverChips(draw.normal(size=(400, 2)).tolist(), None).components()
    assert alone["chip"] is not None and alone["chip"] < 0.35, "the spread of readings does not pass for one of chips"


def test_more_clusters_than_are_resampled_are_joined() -> None:
    draw = np.random.default_rng(6)
    clusters = Clusters.of({}, 5000)
    assert (clusters.count, clusters.members) == (2000, 5000)
    values = clusters.resampled(SCORE, [{"score": draw.normal(size=5000)}])[:, 0]
    assert values.std() == pytest.approx(1 / np.sqrt(5000), rel=0.1)


def test_an_interval_for_all_times_is_wider_but_not_much_where_they_move_together() -> None:
    draw = np.random.default_rng(7)
    chips = draw.normal(size=20)
    together = [Deviations({SAMPLES: over_members("chips", chips + 0.01 * draw.normal(size=20))}) for _ in range(7)]
    apart = [Deviations({SAMPLES: over_members("chips", draw.normal(size=20))}) for _ in range(7)]
    ratios = []
    for deviations in (together, apart):
        one = deviations[0].interval(0.0)
        every = simultaneous([0.0] * 7, deviations)[0]
        ratios.append((every[1] - every[0]) / (one[1] - one[0]))
    assert 0.95 < ratios[0] < 1.1 < 1.25 < ratios[1] < 1.55, "Sidak's factor for 7 independent ones is 1.37"
