"""Runs that share a machine's cores: who else is there, and how OpenMP's threads wait then."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from analog_lora_cli.runtime import cores
from analog_lora_cli.runtime.cores import CoreSharing

OTHER = """
import sys, time
from pathlib import Path
from analog_lora_cli.runtime.cores import CoreSharing
sharing = CoreSharing(Path(sys.argv[1]), 2, 2)
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture
def two_threads() -> Iterator[int]:
    """As many threads as a second thread of Python takes over from torch."""
    torch.set_num_threads(2)
    yield 2
    torch.set_num_threads(1)


def test_another_run_is_seen_until_it_is_killed(tmp_path: Path, two_threads: int) -> None:
    sharing = CoreSharing(tmp_path, two_threads, cores=2)
    sharing.look()
    assert sharing.other_threads() == 0 and not sharing.yielding
    with subprocess.Popen([sys.executable, "-c", OTHER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "ready\n"
        sharing.look()
        assert sharing.other_threads() == 2 and sharing.yielding
        other.kill()
        other.wait()
    sharing.look()
    assert sharing.other_threads() == 0 and not sharing.yielding
    assert [path.name for path in tmp_path.iterdir()] == [Path(sharing._own.lock_file).name]


def test_enough_cores_for_all_change_nothing(tmp_path: Path, two_threads: int) -> None:
    sharing = CoreSharing(tmp_path, two_threads, cores=4)
    with subprocess.Popen([sys.executable, "-c", OTHER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "ready\n"
        sharing.look()
        assert sharing.other_threads() == 2 and not sharing.yielding
        other.kill()


def test_the_number_of_threads_stays(tmp_path: Path, two_threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sharing = CoreSharing(tmp_path, two_threads, cores=2)
    monkeypatch.setattr(sharing, "other_threads", lambda: 2)
    sharing.look()
    deadline = time.monotonic() + 5
    while not sharing.yielding and time.monotonic() < deadline:
        time.sleep(0.01)
    assert sharing.yielding and torch.get_num_threads() == two_threads
    monkeypatch.setattr(sharing, "other_threads", lambda: 0)
    sharing.look()
    assert not sharing.yielding


def test_a_users_own_policy_stands(monkeypatch: pytest.MonkeyPatch, two_threads: int) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert cores.share_cores.__wrapped__() is None
