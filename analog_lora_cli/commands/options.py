"""The options of the command line, in the groups that `--help` shows."""

from __future__ import annotations

from enum import Enum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from analog_lora_cli.runtime import console

_configuration = partial(typer.Option, rich_help_panel="Configuration")
_training = partial(typer.Option, rich_help_panel="Training")
_measurement = partial(typer.Option, rich_help_panel="Measurement")
_result = partial(typer.Option, rich_help_panel="Result")
_behaviour = partial(typer.Option, rich_help_panel="Behaviour")


def _set_quiet(value: bool) -> bool:
    console.set_quiet(value)
    return value


def examples(*lines: str) -> str:
    """The end of a command's help, one line for each example."""
    return "\n\n".join(["Examples:", *lines])


class ExportFormat(str, Enum):
    """The forms that `export` writes."""

    peft = "peft"
    merged = "merged"
    conductances = "conductances"
    aihwkit = "aihwkit"


CheckpointFolder = Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="Checkpoint folder.")]
CheckpointFolders = Annotated[
    list[Path],
    typer.Argument(metavar="CHECKPOINT", help="Checkpoint folders, or folders of train --seeds; several are compared."),
]

Preset = Annotated[
    str | None, _configuration("--preset", metavar="NAME", help="Start from a preset; `analora presets` lists them.")
]
ConfigFile = Annotated[
    Path | None, _configuration("--config", metavar="FILE", help="YAML file; its keys go over the preset's.")
]
Overrides = Annotated[
    list[str] | None,
    _configuration(
        "--set",
        metavar="KEY=VALUE",
        help="Set one key over all others, e.g. hardware.adc_bits=6; may be repeated. `analora explain` lists keys.",
    ),
]
Model = Annotated[
    str | None,
    _configuration(
        "--model", metavar="ID", help="Hub id, local folder, or package:PACKAGE/FOLDER; with the defaults of a run."
    ),
]

Seeds = Annotated[
    int | None,
    _training(
        "--seeds",
        metavar="N",
        min=1,
        help="Train N times, with train.seed and the seeds after it, into DIR/seed-0, DIR/seed-1, ...; with --resume "
        "several processes share them; default: one training.",
    ),
]
NewAdapter = Annotated[
    str | None,
    _training("--adapter", metavar="NAME", help="Name of the new adapter; default: that of the preset or file."),
]
StartAdapter = Annotated[
    str | None,
    _training(
        "--from",
        metavar="ADAPTER",
        help="Start from this adapter; default: a new one, with --chip on the same task `default`.",
    ),
]
OwnChip = Annotated[
    int | None,
    _training("--chip", metavar="SEED", min=0, help="Train on this one chip; default: weight noise for all chips."),
]
OwnAge = Annotated[str | None, _training("--at", metavar="TIME", help="Age of that chip, e.g. 1y.")]

Adapters = Annotated[
    list[str] | None,
    _measurement(
        "--adapter",
        metavar="NAME",
        help="Adapter to measure; may be repeated; all: every one of a checkpoint; default: `default`.",
    ),
]
OneAdapter = Annotated[
    str | None,
    _configuration("--adapter", metavar="NAME", help="Which of a checkpoint's adapters; default: `default`."),
]
Times = Annotated[
    str | None,
    _measurement(
        "--times",
        metavar="TIME,...",
        help="Times after programming, e.g. 0s,1h,1d,1w,30d,1y,10y; default: the configuration's drift.times.",
    ),
]
Chips = Annotated[
    int | None,
    _measurement("--chips", metavar="N", help="Chips that are programmed; default: the configuration's drift.chips."),
]
Seed = Annotated[
    int | None,
    _measurement("--seed", metavar="SEED", help="Seed of the first chip; default: the configuration's drift.seed."),
]
Reads = Annotated[
    int | None,
    _measurement(
        "--reads", metavar="N", help="Readings of each chip at each time; default: the configuration's drift.reads."
    ),
]
Gaussian = Annotated[
    str | None,
    _measurement(
        "--gaussian",
        metavar="LEVEL,...",
        help="Also measure static Gaussian weight noise of these sizes, e.g. 1%,3%,6.7% of each column's largest "
        "weight; default: the configuration's drift.gaussian.",
    ),
]
Recalibrate = Annotated[
    int | None,
    _measurement(
        "--recalibrate",
        metavar="RANK",
        help="Also measure each chip at each time after a recalibration in closed form: a correction of this rank "
        "beside each layer, from training text without labels; default: the configuration's drift.recalibrate.",
    ),
]
Limit = Annotated[
    int | None,
    _measurement(
        "--limit",
        metavar="N",
        help="Evaluate on the first N samples; default: the configuration's task.max_eval_samples.",
    ),
]
Require = Annotated[
    list[str] | None,
    _measurement(
        "--require",
        metavar="RULE",
        help="Exit with 3 unless e.g. f1>=85@1y, f1:worst>=80@1y or f1:lower>84@1y; may be repeated. Writes nothing "
        "without --output.",
    ),
]
NoDrift = Annotated[
    bool,
    _measurement(
        "--no-drift", metavar="", help="Leave chips and times out: measure digitally and with exact weights only."
    ),
]

Statistics = Annotated[
    bool, _measurement("--statistics", metavar="", help="Load the weights; show their distribution and conductances.")
]
Errors = Annotated[
    bool, _measurement("--errors", metavar="", help="Also measure each layer's error, effect by effect, over time.")
]
ErrorTimes = Annotated[
    str | None, _measurement("--times", metavar="TIME,...", help="With --errors; default: 1d,1y,10y.")
]
ErrorChips = Annotated[
    int | None, _measurement("--chips", metavar="N", help="With --errors: chips to average over; default: 1.")
]
ErrorSeed = Annotated[
    int | None,
    _measurement(
        "--seed", metavar="SEED", help="With --errors: seed of the first chip; default: the configuration's drift.seed."
    ),
]
ErrorInputs = Annotated[
    str | None,
    _measurement(
        "--inputs",
        metavar="KIND",
        help="With --errors: data (validation data) or random; default: data, with --model random.",
    ),
]
ErrorTokens = Annotated[
    int | None, _measurement("--tokens", metavar="N", help="With --errors: inputs of each layer; default: 128.")
]
Pack = Annotated[bool, _measurement("--pack", metavar="", help="Let small layers share tiles; shows the saving.")]

RunFolder = Annotated[
    Path | None,
    _result("--output", metavar="DIR", help="Checkpoint folder; default: runs/ and the name of preset or file."),
]
DriftFolder = Annotated[
    Path | None,
    _result("--output", metavar="DIR", help="Folder for the result; default: drift/ADAPTER in each checkpoint."),
]
ExportFolder = Annotated[Path, _result("--output", metavar="DIR", help="Folder for the export.")]
Format = Annotated[
    ExportFormat,
    _result(
        "--format",
        metavar="FORMAT",
        help="peft: adapter for plain PEFT; merged: plain transformers model; conductances: what programs a chip; "
        "aihwkit: on aihwkit's own tiles.",
    ),
]
ExportedAdapter = Annotated[str, _result("--adapter", metavar="NAME", help="Which adapter.")]
ExportedChip = Annotated[
    int | None,
    _result("--chip", metavar="SEED", help="With conductances: also what this chip holds; default: the targets alone."),
]
ExportedAge = Annotated[
    str | None, _result("--at", metavar="TIME", help="With --chip: when it is read, e.g. 0s, 1d, 1y.")
]
PushToHub = Annotated[
    str | None, _result("--push-to-hub", metavar="REPO", help="Upload to USER/NAME; a new repository is public.")
]
ReportedFolders = Annotated[
    list[Path],
    typer.Argument(
        metavar="RUN", help="Checkpoint folders, folders of train --seeds, or of evaluate-drift --output; any number."
    ),
]
ReportFile = Annotated[Path | None, _result("--output", metavar="FILE", help="Write the page, e.g. report.html.")]
MarkdownTable = Annotated[
    Path | None, _result("--markdown", metavar="FILE", help="Write a short Markdown table; - is stdout.")
]
LatexTable = Annotated[Path | None, _result("--latex", metavar="FILE", help="Write a LaTeX table; - is stdout.")]
ShowAll = Annotated[bool, _result("--all", metavar="", help="One row for each layer, not for each kind.")]
Json = Annotated[Path | None, _result("--json", metavar="FILE", help="Write everything as JSON; - is stdout.")]
Csv = Annotated[Path | None, _result("--csv", metavar="FILE", help="Write one line for each layer.")]
Plot = Annotated[Path | None, _result("--plot", metavar="FILE", help="Draw the tiles, as PNG.")]

Measurements = Annotated[
    Path, typer.Argument(metavar="MEASUREMENTS", help="CSV file with columns device,target_uS,time_s,measured_uS.")
]
ReadDuration = Annotated[
    float,
    _measurement("--t-read", metavar="SECONDS", help="Duration of one read: read noise accumulates from there on."),
]
DeviceFile = Annotated[
    Path, _result("--output", metavar="FILE", help="Device file, ending in .yaml: then a hardware.device.")
]
FitPlot = Annotated[
    Path | None,
    _result("--plot", metavar="FILE", help="Picture of the fits, as PNG; default: beside the device file."),
]

Resume = Annotated[bool, _behaviour("--resume", metavar="", help="Continue what was interrupted.")]
Overwrite = Annotated[bool, _behaviour("--overwrite", metavar="", help="Replace what exists.")]
MeasureAnew = Annotated[
    bool, _behaviour("--overwrite", metavar="", help="Measure anew; default: measurements that are there are reused.")
]
ReplaceExport = Annotated[
    bool, _behaviour("--overwrite", metavar="", help="Replace an earlier export, in the folder and on the hub.")
]
Quiet = Annotated[bool, _behaviour("--quiet", metavar="", callback=_set_quiet, help="Print no progress.")]
Debug = Annotated[bool, _behaviour("--debug", metavar="", help="Show an error's traceback, and versions and machine.")]
