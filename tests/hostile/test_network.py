"""Work on local files asks nothing of the network, and the libraries' telemetry is off."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

GUARDED = """
import json, sys
log = open(sys.argv[1], "w", buffering=1)

def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg"):
        address = arguments[0] if event.startswith("socket.get") else arguments[1]
        log.write(json.dumps([event, str(address)]) + chr(10))
        raise OSError("the network is guarded")

sys.addaudithook(watch)
from analog_lora_cli.cli import main
for arguments in json.loads(sys.argv[2]):
    code = main(arguments)
    if code:
        sys.exit(code)
"""


def guarded(folder: Path, *commands: list[str]) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run commands in one new process, online as far as the environment says, and list what they asked of the network.

    The hook sees every connection that goes through Python's sockets, whichever library opens it.
    """
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "TRANSFORMERS_"))}
    environment |= {"HF_HOME": str(folder / "cache"), "XDG_CACHE_HOME": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    log = folder / "network.log"
    done = subprocess.run(
        [sys.executable, "-c", GUARDED, str(log), json.dumps(commands)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )
    return done, log.read_text().splitlines()


def test_local_models_and_data_need_no_network(tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    commands = [["presets"], ["train", "--preset", "smoke-glue-lora", "--output", run, "--no-drift", "--quiet"]]
    commands += [["evaluate-drift", run, "--chips", "1", "--times", "0s", "--quiet"]]
    commands += [["adapt", run, "--adapter", "second", "--set", "train.seed=7", "--no-drift", "--quiet"]]
    commands += [["inspect-tiles", run, "--statistics"]]
    for form in ("peft", "merged", "conductances", "aihwkit"):
        commands += [["export", run, "--format", form, "--output", str(tmp_path / form), "--quiet"]]
    done, asked = guarded(tmp_path, *commands)
    assert done.returncode == 0, done.stderr
    assert asked == []


def test_the_guard_sees_the_hub_being_asked(tmp_path: Path) -> None:
    """What is on the hub must be asked for there; a guard that missed that would prove nothing above."""
    done, asked = guarded(tmp_path, ["inspect-tiles", "--model", "nobody/no-such-model"])
    assert done.returncode != 0 and "cannot be reached" in done.stderr
    assert any("huggingface.co" in line for line in asked)


def test_telemetry_is_off() -> None:
    program = (
        "from analog_lora_cli.runtime.libraries import prepare_libraries; prepare_libraries()\n"
        "from huggingface_hub import constants; print(constants.HF_HUB_DISABLE_TELEMETRY)"
    )
    switches = ("DO_NOT_TRACK", "DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY")
    environment = {key: value for key, value in os.environ.items() if key not in switches}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.stdout.split()[-1:] == ["True"], done.stderr
