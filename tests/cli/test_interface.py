"""The command line as scripts see it: help without torch, exit codes, clean stdout, errors without a traceback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from analog_lora_cli import cli
from analog_lora_cli.commands import presets
from analog_lora_cli.errors import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_REQUIREMENT,
    EXIT_USAGE,
    AnaloraError,
    RequirementError,
    UsageError,
)
from analog_lora_cli.runtime import console
from analog_lora_cli.version import __version__

Captured = pytest.CaptureFixture[str]
COMMANDS = sorted(command.name or command.callback.__name__ for command in cli.app.registered_commands)
PROBE = """
import json, sys
from analog_lora_cli.cli import main
code = main(sys.argv[1:])
heavy = {"torch", "transformers", "aihwkit", "peft", "datasets", "numpy", "huggingface_hub"}
print(json.dumps([code, sorted(heavy & sys.modules.keys())]), file=sys.stderr)
"""


@pytest.fixture(autouse=True)
def fresh_console() -> None:
    """Each console is built once, with the stdout and stderr of that moment; each test has its own."""
    console.messages.cache_clear()
    console.results.cache_clear()
    console.set_quiet(False)


def analora(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "analog_lora_cli", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_answers_at_once_without_torch(command: str) -> None:
    arguments = [*command.split(), "--help"]
    done = subprocess.run([sys.executable, "-c", PROBE, *arguments], capture_output=True, text=True, timeout=60)
    assert json.loads(done.stderr) == [0, []]
    assert f"Usage: analora {command}".strip() in done.stdout
    fastest = 9.0
    for _ in range(8):  # Whatever else runs on this machine can only make it slower.
        start = time.perf_counter()
        assert analora(*arguments).returncode == 0
        fastest = min(fastest, time.perf_counter() - start)
        if fastest < 0.5:
            return
    pytest.fail(f"{fastest:.2f} s")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_groups_and_whole_examples(command: str) -> None:
    lines = analora(command, "--help", COLUMNS="80", NO_COLOR="1").stdout.splitlines()
    assert max(map(len, lines)) <= 80 and not any("\x1b" in line or "…" in line for line in lines)
    assert any(line.startswith("╭─ Behaviour") for line in lines)
    examples = [line.strip() for line in lines[lines.index(" Examples:".ljust(80)) + 1 :] if line.strip()]
    assert examples and all(line.startswith(f"analora {command}") for line in examples), "one line each"


def test_the_usage_names_arguments_as_the_help_does() -> None:
    for command, name in (("evaluate-drift", "CHECKPOINT"), ("explain", "KEY"), ("presets", "NAME")):
        lines = analora(command, "--help", COLUMNS="80", NO_COLOR="1").stdout.splitlines()
        assert any(line.startswith(f" Usage: analora {command} [OPTIONS] ") and name in line for line in lines)
        assert not any("[[" in line or "......" in line for line in lines)
    switches = [line for line in lines if "--quiet" in line or "--debug" in line]
    assert len(switches) == 2 and not any("bool" in line.lower() for line in switches)


def test_listing_presets_imports_no_torch() -> None:
    done = subprocess.run([sys.executable, "-c", PROBE, "presets"], capture_output=True, text=True, timeout=60)
    assert json.loads(done.stderr) == [0, []]


def test_version(capsys: Captured) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr() == (f"analora {__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nope"], "No such option"),
        (["trian"], "No such command 'trian'. Did you mean 'train'?"),
        (["train", "--outptu", "x"], "--outptu"),
        (["train", "--set"], "Option '--set' requires an argument"),
        (["train", "--resume=3"], "does not take a value"),
        (["train", "stray"], "unexpected extra argument"),
        (["train"], "give --preset NAME or --config FILE"),
        (["train", "--preset", "zzz"], "there is no preset 'zzz'"),
        (["presets", "zzz"], "there is no preset 'zzz'"),
        (["train", "--config", "none.yaml"], "none.yaml: cannot be read: No such file or directory"),
        (["train", "--preset", "x", "--resume", "--overwrite"], "give one of them"),
        (["train", "--preset", "quickstart", "--chips", "0"], "--chips: input should be greater than or equal to 1"),
        (["train", "--preset", "quickstart", "--times", "0s,soon"], "--times: 'soon' is not a time"),
        (["train", "--preset", "quickstart", "--limit", "0"], "--limit: input should be"),
        (["train", "--preset", "quickstart", "--chips", "2", "--no-drift"], "--chips: has no effect with --no-drift"),
        (
            ["train", "--preset", "quickstart", "--chips", "2", "--set", "drift.chips=3"],
            "--set drift.chips=3: --chips sets drift.chips too",
        ),
        (["evaluate-drift", "nofolder", "--resume"], "No such option"),
        (["inspect-tiles", "--preset", "quickstart", "--resume"], "No such option"),
        (["adapt", "nofolder"], "nofolder: not a checkpoint folder"),
    ],
)
def test_wrong_arguments(
    arguments: list[str], message: str, capsys: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == EXIT_USAGE
    captured = capsys.readouterr()
    assert captured.out == "" and message in captured.err and "Traceback" not in captured.err
    assert captured.err.lower().count("error:") == 1
    assert list(tmp_path.iterdir()) == []


def test_no_arguments_prints_the_help(capsys: Captured) -> None:
    assert cli.main([]) == EXIT_USAGE
    captured = capsys.readouterr()
    assert "Usage: analora" in captured.out + captured.err and "not expected" not in captured.err


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (AnaloraError("it broke [here]"), EXIT_FAILED, "error: it broke [here]\n"),
        (UsageError("not so"), EXIT_USAGE, "error: not so\n"),
        (RequirementError("too low"), EXIT_REQUIREMENT, "error: too low\n"),
        (OSError(28, "No space left on device", "/x/y"), EXIT_FAILED, "error: No space left on device (/x/y); nothing"),
        (ValueError("odd"), EXIT_FAILED, "error: ValueError: odd\nThis is not expected; --debug shows where"),
        (KeyboardInterrupt(), EXIT_INTERRUPTED, "error: interrupted; nothing half-written is left, run the"),
    ],
)
def test_each_error_has_its_exit_code_and_one_message(
    error: BaseException, code: int, message: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str | None) -> None:
        raise error

    monkeypatch.setattr(presets, "run", fail)
    assert cli.main(["presets"]) == code
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith(message) and "Traceback" not in captured.err
    assert cli.main(["presets", "--debug"]) == code
    if not isinstance(error, KeyboardInterrupt):
        assert f"{type(error).__name__}: " in capsys.readouterr().err.partition("Traceback")[2]


def test_a_process_ends_with_the_code_of_the_error() -> None:
    done = analora("presets", "zzz")
    assert (done.returncode, done.stdout) == (EXIT_USAGE, "")
    assert done.stderr.startswith("error: ") and "Traceback" not in done.stderr
    done = analora("presets", "zzz", "--debug")
    assert done.returncode == EXIT_USAGE and "Traceback" in done.stderr and "ConfigError" in done.stderr


def test_a_reader_that_goes_away_is_no_error_of_ours() -> None:
    command = f"{sys.executable} -m analog_lora_cli presets | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert "Traceback" not in done.stderr and done.stdout.strip() in ("0", "1")


def test_sigterm_ends_a_command_in_the_background() -> None:
    """A shell that starts a command with `&` in a script has SIGINT ignored."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        cli._end_like_ctrl_c()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
