"""Render a report as one HTML file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from analog_lora_cli.config.load import dump_config
from analog_lora_cli.config.times import duration
from analog_lora_cli.evaluation.stored_result import StoredResult
from analog_lora_cli.inspection.energy import model_energy
from analog_lora_cli.inspection.energy import origins as energy_origins
from analog_lora_cli.inspection.files import totals
from analog_lora_cli.inspection.grouping import groups, row_name
from analog_lora_cli.inspection.inspect import Inspection
from analog_lora_cli.inspection.latency import model_timing, origins
from analog_lora_cli.report.html.charts import drift_chart, tile_chart, training_chart
from analog_lora_cli.report.next_steps import analora, errors_command
from analog_lora_cli.report.tables import labels, row_at
from analog_lora_cli.report.tiles.energy import energy_parts
from analog_lora_cli.workflows.report_content import Report, RunContent

MOST_LAYERS = 12
"""Layers in the table of errors: the worst ones."""


def render(report: Report) -> str:
    """The page as text."""
    environment = Environment(
        loader=PackageLoader("analog_lora_cli.report.html", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= FILTERS
    environment.globals |= {"duration": duration}
    alike = [(label, results) for label, results in report.by_metric.items() if len(results) > 1]
    page: str = environment.get_template("page.html.jinja").render(
        report=report,
        comparisons=[(label, results, drift_chart(results)) for label, results in alike],
        runs=[_RunView(run, index) for index, run in enumerate(report.runs)],
        compare_command=_compare_command(report),
    )
    return page


def _compare_command(report: Report) -> str | None:
    """The command that compares the runs; None where one of them holds results alone, which cannot be measured."""
    if any(run.checkpoint is None for run in report.runs):
        return None
    return analora("evaluate-drift", *(run.folder for run in report.runs), "--output", "comparison")


class _RunView:
    """A run with what its sections need."""

    def __init__(self, run: RunContent, index: int) -> None:
        self.run, self.anchor = run, f"run-{index}"
        self.charts = {result.name: drift_chart([result]) for result in run.results}
        self.curve = training_chart(run.curves)
        inspection = run.inspection
        self.totals: dict[str, Any] = {} if inspection is None else totals(inspection)
        self.kinds = [] if inspection is None else kinds(inspection)
        self.digital = [] if inspection is None else digital_layers(inspection)
        self.map = None if inspection is None else tile_chart(inspection)
        config = None if inspection is None else inspection.config.latency
        self.latency = (
            []
            if inspection is None or config is None
            else [model_timing(inspection.works(), time, config) for time in config.integration_times_ns]
        )
        self.latency_tokens = 0 if config is None else config.sequence_tokens
        self.constants = {} if config is None else _listed(origins(config))
        self.energy = [] if inspection is None else energy_parts(inspection, model_energy(inspection))
        self.prices = {} if inspection is None else _listed(energy_origins(inspection.config.energy))
        self.layers = () if run.errors is None else run.errors.layers[:MOST_LAYERS]

    @property
    def commands(self) -> list[tuple[str, str]]:
        """What to run for that which is missing here, and why."""
        found = []
        checkpoint = self.run.checkpoint
        if self.run.inspection is not None and self.run.errors is None and checkpoint is not None:
            found.append(("errors by layer, which this report then shows", errors_command(checkpoint.folder)))
        return found


def _listed(constants: Mapping[str, Mapping[str, Any]]) -> dict[str, list[tuple[str, Any]]]:
    return {origin: sorted(values.items()) for origin, values in constants.items()}


def kinds(inspection: Inspection) -> list[dict[str, Any]]:
    """The layers on tiles by their kind."""
    rows = []
    for group in groups(inspection.placement.analog):
        first = group[0]
        rows.append(
            {
                "name": row_name(group, inspection.placement),
                "count": len(group),
                "shape": " x ".join(map(str, first.shape)),
                "grid": " x ".join(map(str, first.tiles or ())),
                "tiles": sum(len(inspection.blocks[layer.name]) for layer in group),
                "used": inspection.utilisation(group),
                "clipped": sum(layer.clipped for layer in group) / inspection.cells(group),
                "adapter": sum(layer.adapter_parameters for layer in group),
            }
        )
    return rows


def digital_layers(inspection: Inspection) -> list[tuple[str, int, int]]:
    """Reasons why layers stay digital, each with their number and parameters."""
    found: dict[str, list[int]] = {}
    for layer in inspection.placement.layers:
        if not layer.analog:
            found.setdefault(f"{layer.kind}: {layer.reason}", []).append(layer.parameters)
    return [(reason, len(sizes), sum(sizes)) for reason, sizes in found.items()]


def number(value: float | None, digits: int = 2) -> str:
    """A number, or a dash where it is unknown."""
    return "-" if value is None else f"{value:.{digits}f}"


def signed(value: float | None, digits: int = 2) -> str:
    """A difference with its sign."""
    return "-" if value is None else f"{value:+.{digits}f}"


def interval(value: Sequence[float] | None) -> str:
    """An interval, or a dash where it is unknown."""
    return "-" if value is None else f"{value[0]:.2f} .. {value[1]:.2f}"


def millions(value: float) -> str:
    """A number of parameters."""
    return f"{value / 1e6:.2f} M" if value >= 1e5 else f"{value:,.0f}"


def plain(value: object) -> str:
    """A value of a configuration as it is written there."""
    if isinstance(value, (Path, str)):
        return str(value)
    return json.dumps(value, ensure_ascii=False)


def biggest(components: Sequence[tuple[str, float | None]]) -> float:
    """The largest of some standard deviations."""
    return max((value for _, value in components if value is not None), default=0.0)


def has_paper(result: StoredResult) -> bool:
    """Whether the paper gives a number for any row."""
    return any(result.published(row) is not None for row in result.rows)


FILTERS: dict[str, Callable[..., Any]] = {
    "number": number,
    "signed": signed,
    "interval": interval,
    "millions": millions,
    "plain": plain,
    "biggest": biggest,
    "labels": labels,
    "row_at": row_at,
    "has_paper": has_paper,
    "yaml": dump_config,
}
