"""The entry point: runs a command and turns its errors into messages and exit codes."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import traceback
from types import FrameType
from typing import cast

import typer

from analog_lora_cli.commands.app import app
from analog_lora_cli.errors import EXIT_INTERRUPTED, EXIT_USAGE
from analog_lora_cli.runtime import log as run_log
from analog_lora_cli.runtime.failure import explain, interrupted

# Newer releases of Typer carry their own copy of Click: this is the base class of whichever one is in use.
_ClickException = cast(
    type[Exception], next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")
)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: without the program's name; None: those of the process.

    Returns:
        the exit code: 0 done, 1 failed while running, 2 wrong arguments or configuration, 3 a requirement did not
        hold, 130 interrupted.
    """
    words = sys.argv[1:] if arguments is None else arguments
    # While libraries are imported the collector would go through all their classes again and again: a third of the
    # time, for nothing that could be freed. Commands that work for long switch it on when they begin.
    gc.disable()
    os.environ.setdefault("TQDM_DISABLE", "1")  # Read when it is imported, which torch does.
    _end_like_ctrl_c()
    run_log.start(words)
    code = _run(words)
    run_log.end(code)
    return code


def _run(words: list[str]) -> int:
    try:
        outcome = app(args=words, prog_name="analora", standalone_mode=False)
    except _ClickException as error:
        error.show()  # type: ignore[attr-defined]
        return EXIT_USAGE
    except (KeyboardInterrupt, typer.Abort):
        outcome = EXIT_INTERRUPTED
    except Exception as error:
        if "--debug" in words:
            traceback.print_exc()
            print(*(f"{name}: {value}" for name, value in run_log.surroundings().items()), sep="\n", file=sys.stderr)
        return explain(error, words)
    finally:
        gc.enable()
    if outcome == EXIT_INTERRUPTED:  # Typer turns Ctrl-C into this outcome.
        interrupted(words)
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
    if "triton" in sys.modules:
        # Its extension prints a long list of what is left at the end.
        gc.unfreeze()
    else:
        # The interpreter looks once more for garbage among all objects of the libraries: most of a second.
        gc.freeze()
    sys.exit(code)
