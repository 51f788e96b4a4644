"""A drift result as a table, as CSV, as a plot, and as files in the checkpoint."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from rich.table import Table

from analog_lora_cli.config.times import seconds
from analog_lora_cli.evaluation.drift_result import DriftResult
from analog_lora_cli.figures.drift import drift_plot
from analog_lora_cli.runtime import console
from analog_lora_cli.storage.files import replacing, write_text
from analog_lora_cli.storage.sealed import write_sealed


def write_drift(result: DriftResult, folder: Path, title: str) -> None:
    """Write drift.json, drift.csv and drift.png; each appears whole or not at all."""
    write_sealed(folder / "drift.json", result.as_json())
    write_text(folder / "drift.csv", drift_csv(result))
    with replacing(folder / "drift.png") as beside:
        drift_plot(result, beside, title)


def drift_csv(result: DriftResult) -> str:
    """One line for each metric of each measurement; time in seconds after programming."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["adapter", "measurement", "time", "seconds", "chip", "read", "metric", "value"])
    for name, metrics in (("digital", result.digital), ("converters only", result.converters_only)):
        for metric, value in metrics.items():
            writer.writerow([result.adapter, name, "", "", "", "", metric, value])
    labels = {seconds(label): label for label in result.times}
    for cell in result.cells:
        for metric, value in cell.metrics.items():
            time = f"{cell.seconds:.17g}"
            writer.writerow([result.adapter, "chip", labels[cell.seconds], time, cell.chip, cell.read, metric, value])
    return text.getvalue()


def drift_table(result: DriftResult, title: str, guess: float | None = None) -> Table:
    """Mean over chips at each time, its spread, and the drop against digital; fits 80 columns."""
    metric = result.metric
    others = [name for name in result.digital if name != metric][:1]
    paper = (result.reference or {}).get("drift", {}).get(metric, {})
    paper_digital = (result.reference or {}).get("digital", {}).get(metric)
    with_paper = bool(paper) or paper_digital is not None
    caption = [f"mean, std and 95 % interval over {len(result.chips)} chips; drop: against digital, in points"]
    if guess is not None:
        caption.append(f"answers that ignore the question get {metric} {guess:.1f}")
    if with_paper and result.reference is not None:
        caption.append(f"paper: {result.reference['source']}")
    made = console.table(
        title, "", "mean", "std", "95 % interval", "min", "drop", *(["paper"] if with_paper else []),
        *(name.replace("_", " ") for name in others), caption="\n".join(caption),
    )  # fmt: skip
    made.columns[-1].no_wrap = False
    digital = result.digital[metric]

    for name, measured, published in (
        ("digital", result.digital, paper_digital),
        ("converters only", result.converters_only, None),
    ):
        drop = "" if name == "digital" else f"{digital - measured[metric]:.2f}"
        made.add_row(
            name, f"{measured[metric]:.2f}", "", "", "", drop, *([_number(published)] if with_paper else []),
            *(f"{measured[other]:.2f}" for other in others),
        )  # fmt: skip
    made.add_section()
    for label in result.times:
        summary = result.summary(metric, label)
        interval = "" if summary["ci95"] is None else "{:.2f} .. {:.2f}".format(*summary["ci95"])
        std = "" if summary["std"] is None else f"{summary['std']:.2f}"
        row = [
            label,
            f"{summary['mean']:.2f}",
            std,
            interval,
            f"{summary['min']:.2f}",
            f"{digital - summary['mean']:.2f}",
        ]
        made.add_row(
            *row,
            *([_number(paper.get(label))] if with_paper else []),
            *(f"{result.summary(other, label)['mean']:.2f}" for other in others),
        )
    return made


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
