"""A drift result as a table."""

from __future__ import annotations

from rich.table import Table

from analog_lora_cli.evaluation.drift_result import DriftResult
from analog_lora_cli.runtime import console


def drift_table(result: DriftResult, title: str, baseline: float | None = None) -> Table:
    """Mean over chips at each time, its spread, and the drop against digital; fits 80 columns."""
    metric = result.metric
    others = [name for name in result.digital if name != metric][:1]
    paper = (result.reference or {}).get("drift", {}).get(metric, {})
    paper_digital = (result.reference or {}).get("digital", {}).get(metric)
    with_paper = bool(paper) or paper_digital is not None
    several = len(result.chips) > 1
    caption = [
        f"mean, std and 95 % interval over {chips(len(result.chips))}; worst: the worst chip"
        if several
        else "one chip only; std and 95 % interval need at least two",
        f"drop: how much worse than digital, in {result.headline.points}",
        f"{metric}: {result.headline.direction}"
        + ("" if baseline is None else f"; ignoring the input gets {baseline:.1f}"),
    ]
    if with_paper and result.reference is not None:
        caption.append(f"paper: {result.reference['source']}")
    table = console.table(
        title, "", "mean", "std", "95 % interval", "worst", "drop", *(["paper"] if with_paper else []),
        *(name.replace("_", " ") for name in others), caption="\n".join(caption),
    )  # fmt: skip
    table.columns[-1].no_wrap = False
    digital, drop = result.digital[metric], result.headline.drop

    for name, metrics, published in (
        ("digital", result.digital, paper_digital),
        ("converters only", result.converters_only, None),
    ):
        worse = "" if name == "digital" else f"{drop(digital, metrics[metric]):.2f}"
        table.add_row(
            name, f"{metrics[metric]:.2f}", "", "", "", worse, *([_number(published)] if with_paper else []),
            *(f"{metrics[other]:.2f}" for other in others),
        )  # fmt: skip
    table.add_section()
    for label in result.times:
        summary = result.summary(metric, label)
        interval = "" if summary["ci95"] is None else "{:.2f} .. {:.2f}".format(*summary["ci95"])
        std = "" if summary["std"] is None else f"{summary['std']:.2f}"
        row = [
            label,
            f"{summary['mean']:.2f}",
            std,
            interval,
            f"{summary['worst']:.2f}",
            f"{drop(digital, summary['mean']):.2f}",
        ]
        table.add_row(
            *row,
            *([_number(paper.get(label))] if with_paper else []),
            *(f"{result.summary(other, label)['mean']:.2f}" for other in others),
        )
    return table


def chips(count: int) -> str:
    """Number of chips in words."""
    return "1 chip" if count == 1 else f"{count} chips"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
