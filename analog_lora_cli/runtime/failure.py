"""The one message that a user gets, on screen and in the log, when a command does not come to its end."""

from __future__ import annotations

import traceback

from analog_lora_cli.errors import EXIT_FAILED, AnaloraError, DiskFullError, StoppedError
from analog_lora_cli.runtime import console
from analog_lora_cli.runtime import log as run_log
from analog_lora_cli.runtime.ranks import is_main

HINTS = {
    "train": "what is finished is kept, continue with --resume",
    "adapt": "what is finished is kept, continue with --resume",
    "evaluate-drift": "run the command again: finished measurements are reused",
}
"""Hint for each command that keeps finished work."""


def explain(error: Exception, arguments: list[str]) -> int:
    """Print and log an error as one clear message.

    Args:
        error: error that a command ended with.
        arguments: arguments of the command line.

    Returns:
        the exit code.
    """
    if isinstance(error, StoppedError):  # The process that failed has said why.
        return error.exit_code
    if isinstance(error, DiskFullError):
        _fail(f"{error}. Make room; {hint(arguments)}")
        return error.exit_code
    if isinstance(error, AnaloraError):
        _fail(str(error))
        return error.exit_code
    if isinstance(error, OSError) and error.strerror:
        where = f" ({error.filename})" if error.filename else ""
        _fail(f"{error.strerror}{where}; {hint(arguments)}", error)
        return EXIT_FAILED
    log = run_log.file()
    detail = "--debug shows where it happened" if log is None else f"{log} holds the traceback"
    _fail(f"{type(error).__name__}: {error}\nThis is not expected; {detail}.", error)
    return EXIT_FAILED


def interrupted(arguments: list[str]) -> None:
    """Print that a signal has ended the command, with the hint; of several processes the main one does."""
    if is_main():
        _fail(f"interrupted; {hint(arguments)}")


def hint(arguments: list[str]) -> str:
    """Hint on how to continue after a command was broken off.

    Args:
        arguments: arguments of the command line.
    """
    command = next((argument for argument in arguments if not argument.startswith("-")), "")
    return HINTS.get(command, "nothing half-written is left, run the command again")


def _fail(text: str, error: Exception | None = None) -> None:
    trace = "" if error is None else "\n" + "".join(traceback.format_exception(error))
    run_log.record("error", text + trace)
    console.error(text)
