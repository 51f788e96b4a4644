"""The log of a command: `log.txt` in the folder that the command writes to.

Entries before the folder is known to be writable are kept in memory until then; a command that is refused leaves no
log. Lines of several commands that work on one folder at a time are told apart by the number of the process.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
import time
from pathlib import Path

from analog_lora_cli.runtime.ranks import is_main

FILE = "log.txt"
VARIABLES = (
    "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "HF_HOME",
    "HF_HUB_OFFLINE", "HF_ENDPOINT", "XDG_CACHE_HOME", "SLURM_JOB_ID",
)  # fmt: skip
"""Environment variables that change what a command does."""

_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_arguments: list[str] | None = None
_began = 0.0
_lines: list[str] = []
_files: list[Path] = []


def start(command: list[str]) -> None:
    """Begin the log of a command; without this, nothing is logged.

    Args:
        command: arguments of the command line, without the program's name.
    """
    global _arguments, _began
    _arguments, _began = command, time.time()
    _lines.clear()
    _files.clear()


def record(kind: str, text: str) -> None:
    """Add an entry.

    Args:
        kind: one word: `stage`, `warning`, `error` ...
        text: further lines are indented.
    """
    if _arguments is None:
        return
    entry = _entry(kind, text)
    _lines.append(entry)
    for path in _files:
        _append(path, entry)


def keep_in(folder: Path) -> None:
    """Write the log into a folder from now on, earlier entries included; a folder inside a logged one adds none.

    Of several processes only the main one writes.
    """
    folder = folder.absolute()
    if _arguments is None or not is_main() or any(folder.is_relative_to(path.parent) for path in _files):
        return
    if not _files:
        facts = "\n".join(f"{name}: {value}" for name, value in surroundings().items())
        _lines.insert(0, _entry("begin", facts, _began))
    _files.append(folder / FILE)
    _append(folder / FILE, "".join(_lines))


def end(code: int) -> None:
    """Note the exit code, and end the log."""
    global _arguments
    record("end", f"exit code {code}")
    _arguments = None


def file() -> Path | None:
    """Path of the log; None if nothing was written yet."""
    return _files[0] if _files else None


def command() -> bool:
    """Whether a command is running and logged; else a Python program has called."""
    return _arguments is not None


def arguments() -> list[str]:
    """Arguments of the command that is logged; none if nothing is."""
    return list(_arguments or [])


def surroundings() -> dict[str, str]:
    """The command and what its outcome may depend on: versions, machine, device, environment variables."""
    from analog_lora_cli.runtime.provenance import environment
    from analog_lora_cli.version import __version__

    facts = environment()
    packages = ", ".join(f"{name} {version}" for name, version in facts["packages"].items() if version)
    variables = " ".join(f"{name}={os.environ[name]}" for name in VARIABLES if name in os.environ)
    return {
        "command": shlex.join(["analora", *arguments()]),
        "folder": str(Path.cwd()),
        "versions": f"analora {__version__}, python {facts['python']}, {packages}",
        "platform": facts["platform"],
        "device": _device(),
        "environment": variables or "nothing set",
    }


def _entry(kind: str, text: str, at: float | None = None) -> str:
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
    head, *rest = _COLOUR.sub("", text).splitlines() or [""]
    return "".join([f"{moment} [{os.getpid()}] {kind}: {head}\n", *(f"    {line}\n" for line in rest)])


def _device() -> str:
    torch = sys.modules.get("torch")
    if torch is None:
        return "torch was not loaded"
    threads = f"{torch.get_num_threads()} CPU threads"
    if not torch.cuda.is_available():
        return threads
    return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}, CUDA {torch.version.cuda}, {threads}"


def _append(path: Path, text: str) -> None:
    try:
        with path.open("a", encoding="utf-8") as handle:
            handle.write(text)
    except OSError:  # A full disk is reported by what could not be saved; the log must not hide that.
        return
