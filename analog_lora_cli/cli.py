"""The command line: thin, and without torch until a command runs."""

from __future__ import annotations

import gc
import signal
import sys
import threading
import traceback
from enum import Enum
from pathlib import Path
from types import FrameType
from typing import Annotated, cast

import typer

from analog_lora_cli import __version__
from analog_lora_cli.errors import EXIT_INTERRUPTED, EXIT_USAGE
from analog_lora_cli.runtime import console
from analog_lora_cli.runtime import log as run_log
from analog_lora_cli.runtime.failure import explain, interrupted

# Newer releases of Typer carry their own copy of Click: this is the base class of whichever one is in use.
_ClickException = cast(
    type[Exception], next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")
)

app = typer.Typer(
    name="analora",
    help="Transformers on analog in-memory hardware, adapted with digital LoRA adapters (AHWA-LoRA).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _set_quiet(value: bool) -> bool:
    console.set_quiet(value)
    return value


def _show_version(value: bool) -> None:
    if value:
        print(f"analora {__version__}")
        raise typer.Exit


Preset = Annotated[str | None, typer.Option("--preset", help="Name of a preset; `analora presets` lists them.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML file; its keys go over the preset's.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override one key, e.g. hardware.adc_bits=6.")
]
Output = Annotated[Path | None, typer.Option("--output", help="Folder for the result; by default runs/PRESET.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue what was interrupted.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what exists.")]
NoDrift = Annotated[bool, typer.Option("--no-drift", help="Leave the drift evaluation at the end out.")]
Quiet = Annotated[bool, typer.Option("--quiet", callback=_set_quiet, help="Print no progress.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show an error's traceback, and versions and machine.")]


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def train(
    preset: Preset = None,
    config: ConfigFile = None,
    set_: Overrides = None,
    output: Output = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    no_drift: NoDrift = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train what a preset says, write a checkpoint, and evaluate it over drift."""
    from analog_lora_cli.commands import train as command

    command.run(preset, config, set_ or [], output, resume, overwrite, not no_drift)


@app.command("evaluate-drift")
def evaluate_drift(
    checkpoints: Annotated[list[Path], typer.Argument(metavar="CHECKPOINT...", help="Checkpoint folders.")],
    adapter: Annotated[
        list[str] | None,
        typer.Option(
            "--adapter", metavar="NAME", help="Which adapter; several are compared; all: every one of a checkpoint."
        ),
    ] = None,
    times: Annotated[
        str | None, typer.Option("--times", help="Times after programming, e.g. 0s,1h,1d,1w,30d,1y,10y.")
    ] = None,
    chips: Annotated[int | None, typer.Option("--chips", help="How many chips are programmed.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of the first chip.")] = None,
    set_: Overrides = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="Folder for the result; by default in the checkpoint.")
    ] = None,
    require: Annotated[
        list[str] | None,
        typer.Option(
            "--require", metavar="RULE", help="Exit with 3 unless e.g. f1>=85@1y, f1:min>=80@1y or f1:lower>84@1y."
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="What happens anyway: existing measurements are used again.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Measure anew what was measured before.")] = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Program simulated chips, age them through all times, and report the task's metrics."""
    from analog_lora_cli.commands import evaluate_drift as command

    command.run(checkpoints, adapter or [], times, chips, seed, set_ or [], output, require or [], overwrite)


class ExportFormat(str, Enum):
    """The forms that `export` writes."""

    peft = "peft"
    merged = "merged"
    conductances = "conductances"
    aihwkit = "aihwkit"


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="Checkpoint folder.")],
    format_: Annotated[
        ExportFormat,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="peft: adapter for plain PEFT; merged: plain transformers model; conductances: what programs a chip; "
            "aihwkit: on aihwkit's own tiles.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", metavar="DIR", help="Folder for the export.")],
    adapter: Annotated[str, typer.Option("--adapter", metavar="NAME", help="Which adapter.")] = "default",
    chip: Annotated[
        int | None,
        typer.Option("--chip", metavar="SEED", help="Also what this chip holds; only with conductances."),
    ] = None,
    at: Annotated[
        str | None, typer.Option("--at", metavar="TIME", help="When the chip is read, e.g. 0s, 1d, 1y.")
    ] = None,
    push_to_hub: Annotated[
        str | None,
        typer.Option("--push-to-hub", metavar="REPO", help="Upload to USER/NAME; a new repository is public."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier export, in the folder and on the hub.")
    ] = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write a result for another tool: PEFT, transformers, a chip's programmer, aihwkit."""
    from analog_lora_cli.commands import export as command

    command.run(checkpoint, format_.value, output, adapter, chip, at, push_to_hub, overwrite)


@app.command()
def adapt(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="Checkpoint folder.")],
    preset: Preset = None,
    config: ConfigFile = None,
    set_: Overrides = None,
    adapter: Annotated[
        str | None, typer.Option("--adapter", metavar="NAME", help="Name of the new adapter; by default the preset's.")
    ] = None,
    from_: Annotated[
        str | None, typer.Option("--from", metavar="ADAPTER", help="Start from this adapter; with --chip: default.")
    ] = None,
    chip: Annotated[int | None, typer.Option("--chip", metavar="SEED", min=0, help="Train on this one chip.")] = None,
    at: Annotated[str | None, typer.Option("--at", metavar="TIME", help="Age of that chip, e.g. 1y.")] = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    no_drift: NoDrift = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train one more adapter for a checkpoint's analog weights: a new task, new hardware, or an aged chip."""
    from analog_lora_cli.commands import adapt as command

    command.run(checkpoint, preset, config, set_ or [], adapter, from_, chip, at, resume, overwrite, not no_drift)


@app.command("inspect-tiles")
def inspect_tiles(
    checkpoint: Annotated[Path | None, typer.Argument(metavar="CHECKPOINT", help="Checkpoint folder.")] = None,
    preset: Preset = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="ID", help="Hub id, local folder, or package:PACKAGE/FOLDER.")
    ] = None,
    config: ConfigFile = None,
    set_: Overrides = None,
    adapter: Annotated[str | None, typer.Option("--adapter", metavar="NAME", help="Which of a checkpoint's.")] = None,
    statistics: Annotated[
        bool, typer.Option("--statistics", help="Load the weights; show their distribution and conductances.")
    ] = False,
    errors: Annotated[
        bool, typer.Option("--errors", help="Also measure each layer's error, effect by effect, over time.")
    ] = False,
    times: Annotated[str | None, typer.Option("--times", help="For --errors; by default 1d,1y,10y.")] = None,
    chips: Annotated[int | None, typer.Option("--chips", help="For --errors: chips to average over; 1.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="For --errors: seed of the first chip.")] = None,
    inputs: Annotated[
        str | None,
        typer.Option(
            "--inputs", metavar="KIND", help="For --errors: data (validation data; not with --model), random."
        ),
    ] = None,
    tokens: Annotated[int | None, typer.Option("--tokens", help="For --errors: inputs of each layer; 128.")] = None,
    pack: Annotated[bool, typer.Option("--pack", help="Let small layers share tiles; shows the saving.")] = False,
    every: Annotated[bool, typer.Option("--all", help="One row for each layer, not for each kind.")] = False,
    json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write everything as JSON; - is stdout.")
    ] = None,
    csv: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write one line for each layer.")] = None,
    plot: Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="Draw the tiles, as PNG.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Write only those files that do not exist.")] = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Show how a model lies on tiles and what that costs: devices, time, and with its weights, errors."""
    from analog_lora_cli.commands import inspect_tiles as command

    command.run(
        command.Request(
            checkpoint, preset, config, model, adapter, set_ or [], statistics, errors, times, chips, seed, inputs,
            tokens, pack, every, json, csv, plot, resume, overwrite,
        )
    )  # fmt: skip


@app.command()
def presets(
    name: Annotated[str | None, typer.Argument(help="Print this preset, resolved.")] = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """List the presets, or print one, resolved."""
    from analog_lora_cli.commands import presets as command

    command.run(name)


@app.command("explain")
def explain_key(
    key: Annotated[
        str | None, typer.Argument(metavar="[KEY]", help="A key such as hardware.adc_bits, or a section.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Print what a configuration key means: unit, default, allowed values, what it affects."""
    from analog_lora_cli.commands import explain as command

    command.run(key)


@app.command()
def doctor(quiet: Quiet = False, debug: Debug = False) -> None:
    """Check the installation: torch, GPU, aihwkit's extension, torchvision, hub."""
    from analog_lora_cli.commands import doctor as command

    command.run()


def main(arguments: list[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: without the program's name; None: those of the process.

    Returns:
        the exit code: 0 done, 1 failed while running, 2 wrong arguments or configuration, 3 a requirement did not
        hold, 130 interrupted.
    """
    given = sys.argv[1:] if arguments is None else arguments
    # While libraries are imported the collector would go through all their classes again and again: a third of the
    # time, for nothing that could be freed. Commands that work for long switch it on when they begin.
    gc.disable()
    _end_like_ctrl_c()
    run_log.start(given)
    code = _run(given)
    run_log.end(code)
    return code


def _run(given: list[str]) -> int:
    try:
        outcome = app(args=given, prog_name="analora", standalone_mode=False)
    except _ClickException as error:
        error.show()  # type: ignore[attr-defined]
        return EXIT_USAGE
    except (KeyboardInterrupt, typer.Abort):
        outcome = EXIT_INTERRUPTED
    except Exception as error:
        if "--debug" in given:
            traceback.print_exc()
            print(*(f"{name}: {value}" for name, value in run_log.surroundings().items()), sep="\n", file=sys.stderr)
        return explain(error, given)
    finally:
        gc.enable()
    if outcome == EXIT_INTERRUPTED:  # Typer turns Ctrl-C into this outcome.
        interrupted(given)
    return outcome if isinstance(outcome, int) else 0


def _end_like_ctrl_c() -> None:
    """Let SIGTERM, which schedulers send, end the program as Ctrl-C does: with what is finished, and a message."""

    def end(number: int, frame: FrameType | None) -> None:
        # Not through SIGINT: a shell that starts a command in the background has that one ignored.
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, end)


def run() -> None:
    """The entry point of the `analora` command."""
    code = main()
    # At its end the interpreter looks once more for garbage among all objects of the libraries: most of a second.
    gc.freeze()
    sys.exit(code)
