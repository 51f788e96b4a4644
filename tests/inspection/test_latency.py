"""The timing model against the figures that were published, and against a clock that counts batch by batch."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analog_lora_cli.config.sections.latency import ORIGIN, LatencyConfig
from analog_lora_cli.inspection.latency import (
    PUBLISHED_RATIO,
    LayerWork,
    fastest,
    fits,
    model_timing,
    most_balanced,
    published_ratio,
    timing,
    timings,
)

CONFIG = LatencyConfig()


@pytest.mark.parametrize(
    ("inputs", "time", "tokens", "ratio"),
    [
        (128, 128.0, 128, 1.04),
        (128, 256.0, 8, 0.63),
        (128, 512.0, 8, 0.32),
        (512, 128.0, 128, 2.57),
        (512, 256.0, 128, 1.29),
        (512, 512.0, 8, 0.70),
    ],
)
def test_the_papers_six_ratios_and_its_choice_of_t(inputs: int, time: float, tokens: int, ratio: float) -> None:
    balanced = most_balanced(timings(LayerWork(inputs, 128, rank=8), time, CONFIG))
    assert balanced.tokens == tokens
    assert balanced.ratio == pytest.approx(ratio, abs=0.02)
    assert PUBLISHED_RATIO[128, inputs, time] == ratio


@pytest.mark.parametrize(("time", "overhead", "off"), [(128.0, 2.72, 0.02), (256.0, 1.39, 0.02), (512.0, 1.05, 0.04)])
def test_the_papers_overheads(time: float, overhead: float, off: float) -> None:
    """The last is 1.02 here; the paper does not say at which t its 1.05 was taken."""
    best = fastest(timings(LayerWork(512, 128, rank=8), time, CONFIG), CONFIG)
    assert best.overhead == pytest.approx(overhead, abs=off)


@pytest.mark.parametrize(
    ("inputs", "tokens", "kib", "paper"),
    [(128, 8, 8.125, 8.2), (512, 8, 20.125, 21), (128, 128, 70, 70), (512, 128, 172, 172)],
)
def test_the_papers_memory(inputs: int, tokens: int, kib: float, paper: float) -> None:
    needed = timing(LayerWork(inputs, 128, rank=8), 128.0, tokens, CONFIG).memory_bytes / 1024
    assert needed == kib
    assert needed == pytest.approx(paper, rel=0.05)


def test_only_the_published_cases_carry_a_published_ratio() -> None:
    assert published_ratio(LayerWork(512, 128, 8), 128.0) == published_ratio(LayerWork(128, 512, 8), 128.0) == 2.57
    assert published_ratio(LayerWork(512, 128, 4), 128.0) is None
    assert published_ratio(LayerWork(512, 128, 8, tiles=2), 128.0) is None
    assert published_ratio(LayerWork(512, 512, 8), 128.0) is None


def test_every_constant_has_an_origin() -> None:
    assert ORIGIN.keys() == LatencyConfig.model_fields.keys()
    assert {key for key, origin in ORIGIN.items() if origin == "fitted"} == {"macs_per_ns", "startup_ns"}


@given(
    inputs=st.integers(1, 2000),
    outputs=st.integers(1, 2000),
    rank=st.integers(0, 64),
    tokens=st.integers(1, 400),
    sequence=st.integers(1, 400),
    time=st.floats(1.0, 1000.0),
)
def test_the_pipeline_is_what_a_clock_counts(
    inputs: int, outputs: int, rank: int, tokens: int, sequence: int, time: float
) -> None:
    config = LatencyConfig(sequence_tokens=sequence)
    got = timing(LayerWork(inputs, outputs, rank), time, tokens, config)
    sizes = [tokens] * (sequence // tokens) + ([sequence % tokens] if sequence % tokens else [])
    work = [(247.0 + size * rank * (inputs + outputs) / 15.62) if rank else 0.0 for size in sizes]
    # The cluster ends when the longest chain has gone through: some batches on the tile, the rest on the cluster.
    chains = [sum(sizes[: cut + 1]) * time + sum(work[cut:]) for cut in range(len(sizes))]
    assert got.sequence_ns == pytest.approx(max(chains))
    assert got.overhead >= 1 - 1e-12
    assert got.overhead == pytest.approx(got.sequence_ns / (sequence * time))


def test_a_layer_without_adapter_costs_no_more_than_its_tiles() -> None:
    alone = timing(LayerWork(512, 128, rank=0), 256.0, 128, CONFIG)
    assert (alone.digital_ns, alone.memory_bytes, alone.overhead) == (0.0, 0, 1.0)


def test_the_clusters_of_a_layer_share_its_tokens() -> None:
    work = LayerWork(1024, 4096, rank=8, tiles=16)
    shared = timing(work, 128.0, 128, CONFIG)
    alone = timing(work, 128.0, 128, LatencyConfig(clusters="layer"))
    assert shared.digital_ns - 247 == pytest.approx((alone.digital_ns - 247) / 16)
    matrices = 2 * 8 * (1024 + 4096)
    assert shared.memory_bytes - matrices == (alone.memory_bytes - matrices) / 16
    assert timing(work, 128.0, 8, CONFIG).digital_ns == pytest.approx(247 + 8 * 5120 / 15.62), "a token cannot be cut"


def test_the_fastest_t_fits_into_the_memory_if_any_does() -> None:
    work = LayerWork(512, 128, rank=8)
    choices = timings(work, 128.0, CONFIG)
    assert [fits(choice, CONFIG) for choice in choices] == [True, True, True, True, False]
    small = LatencyConfig(cluster_memory_kib=32.0)
    assert fastest(choices, small).tokens == 16
    tiny = LatencyConfig(cluster_memory_kib=1.0)
    assert fastest(choices, tiny).tokens == min(choices, key=lambda choice: choice.sequence_ns).tokens


def test_a_model_is_the_sum_of_its_layers() -> None:
    works = [LayerWork(512, 128, 8), LayerWork(128, 128, 8), LayerWork(128, 128, 0)]
    whole = model_timing(works, 256.0, CONFIG)
    best = [fastest(timings(work, 256.0, CONFIG), CONFIG) for work in works]
    assert whole.analog_ns == 3 * 320 * 256
    assert whole.sequence_ns == pytest.approx(sum(one.sequence_ns for one in best))
    assert whole.memory_bytes == max(one.memory_bytes for one in best)
    assert whole.overhead == pytest.approx(whole.sequence_ns / whole.analog_ns)
