"""The `latency` section, constants of the timing model: what a tile and the digital cluster beside it take."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from analog_lora_cli.config.effects import Affects, Unit
from analog_lora_cli.config.section import Section

Origin = Literal["paper", "fitted", "assumed"]


class LatencyConfig(Section):
    """A tile integrates one token after the other; a digital cluster computes the adapter of a batch of tokens while
    the tile works on the next batch. Nothing but `inspect-tiles` and `report` depends on these constants."""

    integration_times_ns: Annotated[
        list[Annotated[float, Field(gt=0)]], Field(min_length=1), Affects("cost"), Unit("ns")
    ] = Field(default=[128.0, 256.0, 512.0])
    """Times in ns that a tile takes for one matrix-vector product."""

    tokens_per_batch: Annotated[
        list[Annotated[int, Field(ge=1)]], Field(min_length=1), Affects("cost"), Unit("tokens")
    ] = Field(default=[8, 16, 32, 64, 128])
    """Numbers of tokens t that are handed to the cluster at once."""

    sequence_tokens: Annotated[int, Affects("cost"), Unit("tokens")] = Field(default=320, ge=1)
    """Tokens of a whole input."""

    macs_per_ns: Annotated[float, Affects("cost"), Unit("1/ns")] = Field(default=15.62, gt=0)
    """Multiply-accumulate operations of a cluster in a ns: 32 units at 0.488 GHz, all losses included."""

    startup_ns: Annotated[float, Affects("cost"), Unit("ns")] = Field(default=247.0, ge=0)
    """Time in ns that a cluster takes for each batch, however many tokens it has."""

    value_bytes: Annotated[int, Affects("cost"), Unit("bytes")] = Field(default=2, ge=1)
    """Size of a number in the cluster's memory in bytes; 2: FP16."""

    cluster_memory_kib: Annotated[float, Affects("cost"), Unit("KiB")] = Field(default=128.0, gt=0)
    """Memory of a cluster in KiB."""

    clusters: Annotated[Literal["tile", "layer"], Affects("cost")] = "tile"
    """`tile`: a cluster beside each tile; those of a layer share the tokens of a batch. `layer`: one cluster for each
    layer, however many tiles it has."""


ORIGIN: dict[str, Origin] = {
    "integration_times_ns": "paper",
    "tokens_per_batch": "paper",
    "sequence_tokens": "paper",
    "macs_per_ns": "fitted",
    "startup_ns": "fitted",
    "value_bytes": "paper",
    "cluster_memory_kib": "paper",
    "clusters": "assumed",
}
"""Origin of each default. `paper`: arXiv 2411.17367v4, section on latency. `fitted`: the paper names neither
clock nor bandwidth; these two constants reproduce its six ratios of digital to analog time. `assumed`: the paper has a
cluster for each tile, but times only layers of one tile, so how several share a layer is this tool's choice."""
