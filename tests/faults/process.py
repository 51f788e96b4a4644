"""Commands in processes of their own, which can be killed: forked from a server that has imported everything."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

PATIENCE = 60.0
"""Seconds within which every command of these tests is done."""


def _run(arguments: list[str], said: str, largest_file: int | None) -> None:
    from analog_lora_cli.cli import main
    from analog_lora_cli.runtime import console

    with open(said, "ab", buffering=0) as handle:
        os.dup2(handle.fileno(), 1)
        os.dup2(handle.fileno(), 2)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
    console.messages.cache_clear()
    console.results.cache_clear()
    if largest_file is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    code = main(arguments)
    sys.stdout.flush()
    os._exit(code)


class Command:
    """An `analora` command at work.

    Args:
        arguments: of the command line.
        said: file that what is printed is added to.
        largest_file: bytes; a write beyond fails, in the middle if it must, as on a full disk.
    """

    def __init__(self, *arguments: object, said: Path, largest_file: int | None = None) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tests.faults.preload"])
        self.arguments = list(map(str, arguments))
        self.said = said
        self.began = time.monotonic()
        given = (self.arguments, str(said), largest_file)
        self.process: BaseProcess = context.Process(target=_run, args=given)
        self.process.start()

    @property
    def running(self) -> bool:
        return self.process.exitcode is None

    def wait(self) -> int:
        """The exit code."""
        self.process.join(PATIENCE)
        assert not self.running, f"{self.arguments} hangs: {self.text()[-500:]}"
        assert self.process.exitcode is not None
        return self.process.exitcode

    def wait_until(self, moment: Callable[[], bool]) -> bool:
        """Wait for a moment; False if the command ended before."""
        until = time.monotonic() + PATIENCE
        while self.running:
            if moment():
                return True
            assert time.monotonic() < until, f"{self.arguments}: the moment does not come"
            time.sleep(0.0005)
        return False

    def send(self, number: int) -> None:
        if self.running and self.process.pid is not None:
            os.kill(self.process.pid, number)

    def kill(self) -> int:
        self.send(signal.SIGKILL)
        return self.wait()

    def text(self) -> str:
        """All that was printed, in one line."""
        return " ".join(self.said.read_text().split()) if self.said.exists() else ""


def analora(*arguments: object, said: Path, largest_file: int | None = None) -> tuple[int, str]:
    """Run a command to its end: exit code, and what it printed, in one line."""
    said.unlink(missing_ok=True)
    command = Command(*arguments, said=said, largest_file=largest_file)
    return command.wait(), command.text()
