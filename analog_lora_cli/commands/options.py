"""The options of the command line, in the groups that `--help` shows."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from analog_lora_cli.runtime import console

CONFIGURATION = "Configuration"
TRAINING = "Training"
MEASUREMENT = "Measurement"
RESULT = "Result"
BEHAVIOUR = "Behaviour"


def _set_quiet(value: bool) -> bool:
    console.set_quiet(value)
    return value


class ExportFormat(str, Enum):
    """The forms that `export` writes."""

    peft = "peft"
    merged = "merged"
    conductances = "conductances"
    aihwkit = "aihwkit"


CheckpointFolder = Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="Checkpoint folder.")]
CheckpointFolders = Annotated[
    list[Path], typer.Argument(metavar="CHECKPOINT...", help="Checkpoint folders; several are compared.")
]

Preset = Annotated[
    str | None,
    typer.Option(
        "--preset",
        metavar="NAME",
        help="Start from a preset; `analora presets` lists them.",
        rich_help_panel=CONFIGURATION,
    ),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE", help="YAML file; its keys go over the preset's.", rich_help_panel=CONFIGURATION
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Set one key over all others, e.g. hardware.adc_bits=6; may be repeated. `analora explain` lists keys.",
        rich_help_panel=CONFIGURATION,
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="ID",
        help="Hub id, local folder, or package:PACKAGE/FOLDER; with the defaults of a run.",
        rich_help_panel=CONFIGURATION,
    ),
]

NewAdapter = Annotated[
    str | None,
    typer.Option(
        "--adapter",
        metavar="NAME",
        help="Name of the new adapter; default: that of the preset or file.",
        rich_help_panel=TRAINING,
    ),
]
StartAdapter = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="ADAPTER",
        help="Start from this adapter; default: a new one, with --chip on the same task `default`.",
        rich_help_panel=TRAINING,
    ),
]
OwnChip = Annotated[
    int | None,
    typer.Option(
        "--chip",
        metavar="SEED",
        min=0,
        help="Train on this one chip; default: weight noise for all chips.",
        rich_help_panel=TRAINING,
    ),
]
OwnAge = Annotated[
    str | None,
    typer.Option("--at", metavar="TIME", help="Age of that chip, e.g. 1y.", rich_help_panel=TRAINING),
]

Adapters = Annotated[
    list[str] | None,
    typer.Option(
        "--adapter",
        metavar="NAME",
        help="Adapter to measure; may be repeated; all: every one of a checkpoint; default: `default`.",
        rich_help_panel=MEASUREMENT,
    ),
]
OneAdapter = Annotated[
    str | None,
    typer.Option(
        "--adapter",
        metavar="NAME",
        help="Which of a checkpoint's adapters; default: `default`.",
        rich_help_panel=CONFIGURATION,
    ),
]
Times = Annotated[
    str | None,
    typer.Option(
        "--times",
        metavar="TIME,...",
        help="Times after programming, e.g. 0s,1h,1d,1w,30d,1y,10y; default: the configuration's drift.times.",
        rich_help_panel=MEASUREMENT,
    ),
]
Chips = Annotated[
    int | None,
    typer.Option(
        "--chips",
        metavar="N",
        help="Chips that are programmed; default: the configuration's drift.chips.",
        rich_help_panel=MEASUREMENT,
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(
        "--seed",
        metavar="SEED",
        help="Seed of the first chip; default: the configuration's drift.seed.",
        rich_help_panel=MEASUREMENT,
    ),
]
Reads = Annotated[
    int | None,
    typer.Option(
        "--reads",
        metavar="N",
        help="Readings of each chip at each time; default: the configuration's drift.reads.",
        rich_help_panel=MEASUREMENT,
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(
        "--limit",
        metavar="N",
        help="Evaluate on the first N samples; default: the configuration's task.max_eval_samples.",
        rich_help_panel=MEASUREMENT,
    ),
]
Require = Annotated[
    list[str] | None,
    typer.Option(
        "--require",
        metavar="RULE",
        help="Exit with 3 unless e.g. f1>=85@1y, f1:worst>=80@1y or f1:lower>84@1y; may be repeated.",
        rich_help_panel=MEASUREMENT,
    ),
]
NoDrift = Annotated[
    bool,
    typer.Option(
        "--no-drift",
        help="Leave chips and times out: measure digitally and with exact weights only.",
        rich_help_panel=MEASUREMENT,
    ),
]

Statistics = Annotated[
    bool,
    typer.Option(
        "--statistics",
        help="Load the weights; show their distribution and conductances.",
        rich_help_panel=MEASUREMENT,
    ),
]
Errors = Annotated[
    bool,
    typer.Option(
        "--errors",
        help="Also measure each layer's error, effect by effect, over time.",
        rich_help_panel=MEASUREMENT,
    ),
]
ErrorTimes = Annotated[
    str | None,
    typer.Option("--times", metavar="TIME,...", help="With --errors; default: 1d,1y,10y.", rich_help_panel=MEASUREMENT),
]
ErrorChips = Annotated[
    int | None,
    typer.Option(
        "--chips", metavar="N", help="With --errors: chips to average over; default: 1.", rich_help_panel=MEASUREMENT
    ),
]
ErrorSeed = Annotated[
    int | None,
    typer.Option(
        "--seed",
        metavar="SEED",
        help="With --errors: seed of the first chip; default: the configuration's drift.seed.",
        rich_help_panel=MEASUREMENT,
    ),
]
ErrorInputs = Annotated[
    str | None,
    typer.Option(
        "--inputs",
        metavar="KIND",
        help="With --errors: data (validation data) or random; default: data, with --model random.",
        rich_help_panel=MEASUREMENT,
    ),
]
ErrorTokens = Annotated[
    int | None,
    typer.Option(
        "--tokens", metavar="N", help="With --errors: inputs of each layer; default: 128.", rich_help_panel=MEASUREMENT
    ),
]
Pack = Annotated[
    bool,
    typer.Option("--pack", help="Let small layers share tiles; shows the saving.", rich_help_panel=MEASUREMENT),
]

RunFolder = Annotated[
    Path | None,
    typer.Option("--output", metavar="DIR", help="Checkpoint folder; default: runs/PRESET.", rich_help_panel=RESULT),
]
DriftFolder = Annotated[
    Path | None,
    typer.Option(
        "--output",
        metavar="DIR",
        help="Folder for the result; default: drift/ADAPTER in each checkpoint.",
        rich_help_panel=RESULT,
    ),
]
ExportFolder = Annotated[
    Path, typer.Option("--output", metavar="DIR", help="Folder for the export.", rich_help_panel=RESULT)
]
Format = Annotated[
    ExportFormat,
    typer.Option(
        "--format",
        metavar="FORMAT",
        help="peft: adapter for plain PEFT; merged: plain transformers model; conductances: what programs a chip; "
        "aihwkit: on aihwkit's own tiles.",
        rich_help_panel=RESULT,
    ),
]
ExportedAdapter = Annotated[
    str, typer.Option("--adapter", metavar="NAME", help="Which adapter.", rich_help_panel=RESULT)
]
ExportedChip = Annotated[
    int | None,
    typer.Option(
        "--chip",
        metavar="SEED",
        help="With conductances: also what this chip holds; default: the targets alone.",
        rich_help_panel=RESULT,
    ),
]
ExportedAge = Annotated[
    str | None,
    typer.Option("--at", metavar="TIME", help="With --chip: when it is read, e.g. 0s, 1d, 1y.", rich_help_panel=RESULT),
]
PushToHub = Annotated[
    str | None,
    typer.Option(
        "--push-to-hub",
        metavar="REPO",
        help="Upload to USER/NAME; a new repository is public.",
        rich_help_panel=RESULT,
    ),
]
ShowAll = Annotated[
    bool, typer.Option("--all", help="One row for each layer, not for each kind.", rich_help_panel=RESULT)
]
Json = Annotated[
    Path | None,
    typer.Option("--json", metavar="FILE", help="Write everything as JSON; - is stdout.", rich_help_panel=RESULT),
]
Csv = Annotated[
    Path | None,
    typer.Option("--csv", metavar="FILE", help="Write one line for each layer.", rich_help_panel=RESULT),
]
Plot = Annotated[
    Path | None, typer.Option("--plot", metavar="FILE", help="Draw the tiles, as PNG.", rich_help_panel=RESULT)
]

Resume = Annotated[bool, typer.Option("--resume", help="Continue what was interrupted.", rich_help_panel=BEHAVIOUR)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what exists.", rich_help_panel=BEHAVIOUR)]
MeasureAnew = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Measure anew; default: measurements that are there are reused.",
        rich_help_panel=BEHAVIOUR,
    ),
]
ReplaceExport = Annotated[
    bool,
    typer.Option(
        "--overwrite", help="Replace an earlier export, in the folder and on the hub.", rich_help_panel=BEHAVIOUR
    ),
]
Quiet = Annotated[
    bool, typer.Option("--quiet", callback=_set_quiet, help="Print no progress.", rich_help_panel=BEHAVIOUR)
]
Debug = Annotated[
    bool,
    typer.Option("--debug", help="Show an error's traceback, and versions and machine.", rich_help_panel=BEHAVIOUR),
]
