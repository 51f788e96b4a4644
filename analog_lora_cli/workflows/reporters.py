"""Drift results for the programs that `train.report_to` names, beside what the Trainer logs there."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from analog_lora_cli.config.schema import Config
from analog_lora_cli.evaluation.stored_result import Row, StoredResult, read_drift
from analog_lora_cli.storage.layout import DRIFT_JSON, DRIFT_PLOT, TRAINER

HEADINGS = ("condition", "mean", "std", "95 % from", "95 % to", "worst")


def report_drift(config: Config, folder: Path, results: Path, name: str) -> None:
    """Send a drift result to every program in `train.report_to`; nothing without any.

    Args:
        config: the configuration; its names were checked before the training.
        folder: the checkpoint.
        results: the folder with drift.json and drift.png.
        name: name of the result.
    """
    if not config.train.report_to:
        return
    result = read_drift(results / DRIFT_JSON, name)
    for reporter in config.train.report_to:
        REPORTERS[reporter](result, results / DRIFT_PLOT, folder)


def _to_tensorboard(result: StoredResult, plot: Path, folder: Path) -> None:
    """Scalars with the seconds after programming as their step, the table as text, the plot as an image."""
    from matplotlib.image import imread

    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:  # transformers takes either.
        from tensorboardX import SummaryWriter  # type: ignore[no-redef]

    own = os.environ.get("TENSORBOARD_LOGGING_DIR")
    base = Path(own).expanduser() if own else folder / TRAINER / "runs"
    writer = SummaryWriter(log_dir=str(base / f"drift-{plot.parent.name}"))
    try:
        for row in (result.digital, result.converters_only):
            writer.add_scalar(f"{row.label}/{result.metric.name}", row.mean)
        for row in result.times:
            writer.add_scalar(f"drift/{result.metric.name}", row.mean, int(row.seconds or 0))
        lines: list[Sequence[str | float | None]] = [
            HEADINGS,
            ["---"] * len(HEADINGS),
            *(_cells(row) for row in result.rows),
        ]
        table = "\n".join("| " + " | ".join(map(_text, line)) + " |" for line in lines)
        writer.add_text("drift", f"{result.metric.label}\n\n{table}")
        writer.add_image("drift", imread(str(plot))[..., :3], dataformats="HWC")
    finally:
        writer.close()


def _to_wandb(result: StoredResult, plot: Path, folder: Path) -> None:
    """The table, the plot, and each mean in the summary of the training's run, which ends then."""
    import wandb

    run = wandb.run or wandb.init(project=os.environ.get("WANDB_PROJECT", "huggingface"), name=folder.resolve().name)
    rows: list[list[str | float | None]] = [list(_cells(row)) for row in result.rows]
    run.log({"drift/table": wandb.Table(columns=list(HEADINGS), data=rows), "drift/plot": wandb.Image(str(plot))})
    for row in result.rows:
        run.summary[f"drift/{result.metric.name}/{row.label}"] = row.mean
    run.finish()


REPORTERS: dict[str, Callable[[StoredResult, Path, Path], None]] = {
    "tensorboard": _to_tensorboard,
    "wandb": _to_wandb,
}
"""By the names that `train.report_to` may hold."""


def _cells(row: Row) -> Sequence[str | float | None]:
    return row.label, row.mean, row.std, *(row.interval or (None, None)), row.worst


def _text(cell: str | float | None) -> str:
    if isinstance(cell, float):
        return f"{cell:.2f}"
    return "" if cell is None else cell
