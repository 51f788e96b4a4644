"""The command line: all commands in the order in which help lists them."""

from __future__ import annotations

from typing import Annotated

import typer

from analog_lora_cli.commands import experiment_commands, information_commands
from analog_lora_cli.version import __version__

app = typer.Typer(
    name="analora",
    help="Transformers on analog in-memory hardware, adapted with digital LoRA adapters (AHWA-LoRA).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(value: bool) -> None:
    if value:
        print(f"analora {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", metavar="", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


for group in (experiment_commands, information_commands):
    app.add_typer(group.commands)
