"""Latency of a layer on its tiles, and the part of the digital adapter in it.

Two stages work side by side: the tile computes a batch of t tokens, the cluster then computes the adapter of that batch
while the tile is at the next one. With M inputs, N outputs and rank r:

    analog(t)  = t * T_int                                             ns
    digital(t) = startup + t * r * (M + N) / macs_per_ns               ns
    memory(t)  = value_bytes * (t*M + M*r + t*r + r*N + t*N)           bytes

The paper (arXiv 2411.17367v4, section on latency) simulates a cluster of eight RISC-V cores with a matrix engine of 32
multipliers and gives the ratio digital/analog for two layers; the formulas are fitted to it, see `config.latency`. Not
in the model: adding up the partial sums of several tiles, attention, normalisation, transfers beyond those that the fit
contains, and what variants such as DoRA compute besides the product of rank r.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from analog_lora_cli.config.sections.latency import ORIGIN, LatencyConfig


@dataclass(frozen=True)
class LayerWork:
    """The work of one layer for tile and cluster."""

    inputs: int
    outputs: int
    rank: int
    """Adapter rank; 0 if the layer has no adapter."""
    tiles: int = 1


@dataclass(frozen=True)
class BatchTiming:
    """One layer at one integration time, in batches of one size."""

    integration_ns: float
    tokens: int
    """Tokens of one batch."""
    analog_ns: float
    """Time of the tile for a batch, in ns."""
    digital_ns: float
    """Time of the cluster for a batch, in ns."""
    sequence_ns: float
    """Time of both stages, pipelined, for the whole sequence, in ns."""
    overhead: float
    """Ratio of `sequence_ns` to the time that the tile alone would take, without unit."""
    memory_bytes: int
    """Memory that one cluster needs: inputs, outputs, and the adapter's two matrices, in bytes."""

    @property
    def ratio(self) -> float:
        """Ratio of digital to analog time of a batch, without unit; at 1 neither stage waits."""
        return self.digital_ns / self.analog_ns


def timing(work: LayerWork, integration_ns: float, tokens: int, config: LatencyConfig) -> BatchTiming:
    """The timing of a layer.

    Args:
        work: the layer.
        integration_ns: T_int of a tile in ns.
        tokens: tokens of one batch.
        config: the constants.
    """
    sequence = config.sequence_tokens
    total = _pipelined(work, integration_ns, tokens, config)
    return BatchTiming(
        integration_ns=integration_ns,
        tokens=tokens,
        analog_ns=tokens * integration_ns,
        digital_ns=_digital(work, tokens, config),
        sequence_ns=total,
        overhead=total / (sequence * integration_ns),
        memory_bytes=_memory(work, tokens, config),
    )


def timings(work: LayerWork, integration_ns: float, config: LatencyConfig) -> list[BatchTiming]:
    """The timings of a layer for each number of tokens in the configuration."""
    return [timing(work, integration_ns, tokens, config) for tokens in config.tokens_per_batch]


def most_balanced(choices: list[BatchTiming]) -> BatchTiming:
    """The paper's choice of t: where the two stages come closest to taking equally long."""
    return min(choices, key=lambda choice: abs(choice.ratio - 1.0))


def fastest(choices: list[BatchTiming], config: LatencyConfig) -> BatchTiming:
    """The t with the shortest time for the whole sequence, among those that fit into the memory if there are any."""
    fitting = [choice for choice in choices if fits(choice, config)]
    return min(fitting or choices, key=lambda choice: choice.sequence_ns)


def fits(choice: BatchTiming, config: LatencyConfig) -> bool:
    """Whether the cluster's memory holds a batch."""
    return choice.memory_bytes <= config.cluster_memory_kib * 1024


def _cluster_tokens(work: LayerWork, tokens: int, config: LatencyConfig) -> int:
    """Tokens of a batch that fall to one cluster."""
    clusters = work.tiles if config.clusters == "tile" else 1
    return -(-tokens // clusters)


def _digital(work: LayerWork, tokens: int, config: LatencyConfig) -> float:
    if work.rank == 0:
        return 0.0
    macs = _cluster_tokens(work, tokens, config) * work.rank * (work.inputs + work.outputs)
    return config.startup_ns + macs / config.macs_per_ns


def _memory(work: LayerWork, tokens: int, config: LatencyConfig) -> int:
    if work.rank == 0:
        return 0
    t, m, r, n = _cluster_tokens(work, tokens, config), work.inputs, work.rank, work.outputs
    return config.value_bytes * (t * m + m * r + t * r + r * n + t * n)


def _pipelined(work: LayerWork, integration_ns: float, tokens: int, config: LatencyConfig) -> float:
    """Time at which the cluster finishes the last batch, in ns; the last batch may have fewer tokens."""
    tile_end = cluster_end = 0.0
    for start in range(0, config.sequence_tokens, tokens):
        batch = min(tokens, config.sequence_tokens - start)
        tile_end += batch * integration_ns
        cluster_end = max(tile_end, cluster_end) + _digital(work, batch, config)
    return cluster_end


@dataclass(frozen=True)
class ModelTiming:
    """All layers of a model on tiles, one after the other, each in batches of its fastest size."""

    integration_ns: float
    analog_ns: float
    """Time of the tiles alone for the whole sequence, in ns."""
    sequence_ns: float
    """Time with the adapters, in ns."""
    memory_bytes: int
    """Memory of the cluster that needs most, in bytes."""

    @property
    def overhead(self) -> float:
        """Ratio of `sequence_ns` to `analog_ns`, without unit."""
        return self.sequence_ns / self.analog_ns


def model_timing(works: Iterable[LayerWork], integration_ns: float, config: LatencyConfig) -> ModelTiming:
    """The timing of all layers of a model.

    Args:
        works: its layers, at least one.
        integration_ns: T_int of a tile in ns.
        config: the constants.
    """
    # Most layers of a transformer are alike.
    counts = Counter(works)
    choices = {work: fastest(timings(work, integration_ns, config), config) for work in counts}
    best = [choices[work] for work in counts.elements()]
    return ModelTiming(
        integration_ns=integration_ns,
        analog_ns=len(best) * config.sequence_tokens * integration_ns,
        sequence_ns=sum(choice.sequence_ns for choice in best),
        memory_bytes=max(choice.memory_bytes for choice in best),
    )


PUBLISHED_RATIO: dict[tuple[int, int, float], float] = {
    (128, 128, 128.0): 1.04,
    (128, 128, 256.0): 0.63,
    (128, 128, 512.0): 0.32,
    (128, 512, 128.0): 2.57,
    (128, 512, 256.0): 1.29,
    (128, 512, 512.0): 0.7,
}
"""Ratios of digital to analog time at the most balanced t, by the layer's smaller and larger side and T_int in ns, for
rank 8 and one tile: what the constants were fitted to (arXiv 2411.17367v4, section on latency)."""


def published_ratio(work: LayerWork, integration_ns: float) -> float | None:
    """The paper's ratio for a layer; None for layers and times that it does not give."""
    if (work.rank, work.tiles) != (8, 1):
        return None
    sides = sorted((work.inputs, work.outputs))
    return PUBLISHED_RATIO.get((sides[0], sides[1], integration_ns))


def origins(config: LatencyConfig) -> dict[str, dict[str, object]]:
    """Constants by origin: the paper, the fit to it, an assumption, or the user's settings."""
    defaults = LatencyConfig()
    by_origin: dict[str, dict[str, object]] = {}
    for key, value in config.model_dump().items():
        origin = ORIGIN[key] if value == getattr(defaults, key) else "set"
        by_origin.setdefault(origin, {})[key] = value
    return by_origin
