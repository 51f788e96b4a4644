"""The latency table of `inspect-tiles`: tile, cluster, and what the adapter costs in time."""

from __future__ import annotations

from collections import Counter

from rich.table import Table

from analog_lora_cli.config.sections.latency import LatencyConfig
from analog_lora_cli.inspection.inspect import Inspection
from analog_lora_cli.inspection.latency import (
    BatchTiming,
    LayerWork,
    fastest,
    fits,
    model_timing,
    most_balanced,
    origins,
    published_ratio,
    timings,
)
from analog_lora_cli.runtime import console

CAPTION_WIDTH = 66
"""In characters; the narrowest table is as wide."""


def latency_table(inspection: Inspection) -> Table:
    """Each shape at each integration time, then the model; fits 80 columns."""
    config = inspection.config.latency
    works = inspection.works()
    counts = Counter(works)
    published = [published_ratio(work, time) for work in counts for time in config.integration_times_ns]
    with_paper = any(ratio is not None for ratio in published)
    table = console.table(
        f"Latency of {config.sequence_tokens} tokens: tiles, and clusters with the adapters",
        "shape", "n", "T_int", "tile", "t", "ratio", *(["paper"] if with_paper else []), "t'", "KiB", "total",
        "x tile", caption="\n".join(_caption(config, with_paper)), collapse_padding=True,
    )  # fmt: skip
    table.columns[0].no_wrap = True
    for work, count in counts.items():
        for index, time in enumerate(config.integration_times_ns):
            name = [f"{work.outputs}x{work.inputs}", str(count)] if index == 0 else ["", ""]
            table.add_row(*name, *_cells(work, time, config, with_paper))
        table.add_section()
    for index, time in enumerate(config.integration_times_ns):
        whole = model_timing(works, time, config)
        table.add_row(
            "model" if index == 0 else "",
            str(len(works)) if index == 0 else "",
            f"{time:g}",
            _microseconds(whole.analog_ns),
            "", "",
            *([""] if with_paper else []),
            "",
            f"{whole.memory_bytes / 1024:.1f}",
            _microseconds(whole.sequence_ns),
            f"{whole.overhead:.2f}",
        )  # fmt: skip
    return table


def _cells(work: LayerWork, time: float, config: LatencyConfig, with_paper: bool) -> list[str]:
    choices = timings(work, time, config)
    balanced, best = most_balanced(choices), fastest(choices, config)
    paper = published_ratio(work, time)
    idle = work.rank == 0
    return [
        f"{time:g}",
        _microseconds(config.sequence_tokens * time),
        "-" if idle else _tokens(balanced, config),
        "-" if idle else f"{balanced.ratio:.2f}",
        *([f"{paper:.2f}" if paper is not None else ""] if with_paper else []),
        "-" if idle else _tokens(best, config),
        "-" if idle else f"{best.memory_bytes / 1024:.1f}",
        _microseconds(best.sequence_ns),
        f"{best.overhead:.2f}",
    ]


def _tokens(choice: BatchTiming, config: LatencyConfig) -> str:
    return f"{choice.tokens}" if fits(choice, config) else f"{choice.tokens}!"


def _microseconds(nanoseconds: float) -> str:
    return f"{nanoseconds / 1000:.1f}"


def _caption(config: LatencyConfig, with_paper: bool) -> list[str]:
    lines = [
        "T_int: ns for a token; tile, total: us without and with adapters",
        "t: tokens of a batch where cluster and tile are nearest in time",
        "ratio: cluster's over tile's time there" + ("; paper: as published" if with_paper else ""),
        "t': tokens with the shortest total; KiB: what a cluster holds there",
        f"!: more than {config.cluster_memory_kib:g} KiB; model: layer by layer, no attention",
    ]
    return lines + constant_lines(origins(config))


def constant_lines(constants: dict[str, dict[str, object]]) -> list[str]:
    """Lines of a caption that tell the constants of a model by their origin."""
    lines: list[str] = []
    for heading, values in constants.items():
        for key, value in values.items():
            more = f"{lines[-1]}, {key} {_shown(value)}" if lines else ""
            if lines and lines[-1].startswith(f"{heading}: ") and len(more) <= CAPTION_WIDTH:
                lines[-1] = more
            else:
                lines.append(f"{heading}: {key} {_shown(value)}")
    return lines


def _shown(value: object) -> str:
    if isinstance(value, list):
        return "/".join(f"{item:g}" for item in value)
    return f"{value:g}" if isinstance(value, (int, float)) else str(value)
