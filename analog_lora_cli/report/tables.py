"""Short tables of stored results for a paper or a pull request: Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from analog_lora_cli.evaluation.stored_result import Row, StoredResult
from analog_lora_cli.workflows.report_content import Report

_MARKDOWN = {ord(sign): f"\\{sign}" for sign in "\\`*_{}[]<>#|~!"} | {ord("\n"): " ", ord("\r"): " "}
_LATEX = {
    ord("\\"): r"\textbackslash{}", ord("~"): r"\textasciitilde{}", ord("^"): r"\textasciicircum{}",
    ord("<"): r"\textless{}", ord(">"): r"\textgreater{}", ord("|"): r"\textbar{}",
    **{ord(sign): f"\\{sign}" for sign in "&%$#_{}"}, ord("\n"): " ", ord("\r"): " ",
}  # fmt: skip


def labels(results: Sequence[StoredResult]) -> list[str]:
    """Labels of all conditions that any of some results has: without chips, times in their order, then the others."""
    times = sorted({(row.seconds or 0.0, row.label) for one in results for row in one.times})
    further = [row.label for one in results for row in one.further]
    return list(dict.fromkeys(["digital", "converters only", *(label for _, label in times), *further]))


def row_at(result: StoredResult, label: str) -> Row | None:
    """A result's row; None: it was not measured under this condition."""
    return next((row for row in result.rows if row.label == label), None)


def markdown(report: Report) -> str:
    """One Markdown table for each metric: mean and 95 % interval of each run, and the paper's numbers."""
    parts = []
    for results in report.by_metric.values():
        heading, rows = _cells(results, markdown_text, " .. ")
        lines = [heading, ["---", *["---:"] * (len(heading) - 1)], *rows]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        parts.append(f"{table}\n\n{markdown_text(_caption(results))}\n")
    return "\n".join(parts)


def latex(report: Report) -> str:
    """One LaTeX table for each metric, with booktabs' rules; content as in `markdown`."""
    parts = []
    for results in report.by_metric.values():
        heading, rows = _cells(results, latex_text, " -- ")
        body = [f"{' & '.join(row)} \\\\" for row in rows]
        lines = [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{latex_text(_caption(results))}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(heading) - 1)}}}",
            r"\toprule",
            rf"{' & '.join(heading)} \\",
            r"\midrule",
            *body[:2],
            r"\midrule",
            *body[2:],
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
        parts.append("\n".join(lines) + "\n")
    return "% needs \\usepackage{booktabs}\n" + "\n".join(parts)


def markdown_text(text: str) -> str:
    """Text without what Markdown, or HTML in it, would take for markup."""
    return text.translate(_MARKDOWN)


def latex_text(text: str) -> str:
    """Text without what LaTeX would take for a command."""
    return text.translate(_LATEX)


def _cells(
    results: Sequence[StoredResult], escape: Callable[[str], str], dash: str
) -> tuple[list[str], list[list[str]]]:
    """The headings, and the rows."""
    published = {row.label: value for one in results for row in one.rows if (value := one.published(row)) is not None}
    heading = ["", *(escape(one.name) for one in results), *(["paper"] if published else [])]
    rows = []
    for label in labels(results):
        cells = [_cell(row_at(one, label), dash) for one in results]
        if published:
            cells.append(f"{published[label]:.2f}" if label in published else "")
        rows.append([escape(label), *cells])
    return heading, rows


def _cell(row: Row | None, dash: str) -> str:
    if row is None:
        return ""
    return f"{row.mean:.2f}" + ("" if row.interval is None else f" ({row.interval[0]:.2f}{dash}{row.interval[1]:.2f})")


def _caption(results: Sequence[StoredResult]) -> str:
    first = results[0]
    covers = "; ".join(dict.fromkeys(one.interval_covers for one in results))
    sources = [one.reference["source"] for one in results if one.reference]
    return (
        f"{first.metric.label}, {first.metric.direction}: mean and 95 % interval over {covers}."
        + "".join(f" {one.name}: {warning}." for one in results for warning in one.warnings)
        + (f" Paper: {sources[0]}." if sources else "")
    )
