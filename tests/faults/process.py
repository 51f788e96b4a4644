"""Commands in processes of their own, which can be killed: forked from a server that has imported everything."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

PATIENCE = 60.0
"""Seconds within which every command of these tests is done."""


@dataclass(frozen=True)
class Surroundings:
    """What a process is deprived of."""

    largest_file: int | None = None
    """Bytes; a write beyond fails as on a full disk. Files of that size exist already or not."""
    user: int | None = None
    """To run as, when the tests run as root, who may write everywhere."""


def _run(arguments: list[str], said: str, surroundings: Surroundings) -> None:
    from analog_lora_cli import console
    from analog_lora_cli.cli import main

    with open(said, "ab", buffering=0) as handle:
        os.dup2(handle.fileno(), 1)
        os.dup2(handle.fileno(), 2)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
    console.messages.cache_clear()
    console.results.cache_clear()
    if surroundings.largest_file is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (surroundings.largest_file, surroundings.largest_file))
    if surroundings.user is not None:
        os.setgroups([])
        os.setgid(surroundings.user)
        os.setuid(surroundings.user)
    code = main(arguments)
    sys.stdout.flush()
    os._exit(code)


class Command:
    """An `analora` command at work."""

    def __init__(self, *arguments: object, said: Path, surroundings: Surroundings | None = None) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tests.faults.preload"])
        self.arguments = list(map(str, arguments))
        self.said = said
        self.began = time.monotonic()
        given = (self.arguments, str(said), surroundings or Surroundings())
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


def analora(*arguments: object, said: Path, surroundings: Surroundings | None = None) -> tuple[int, str]:
    """Run a command to its end: exit code, and what it printed, in one line."""
    said.unlink(missing_ok=True)
    command = Command(*arguments, said=said, surroundings=surroundings)
    return command.wait(), command.text()
