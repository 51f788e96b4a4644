"""A process that is killed, hangs or fails takes the others down, with a message that names it, and not after hours.

The processes are started as srun does it: the variables are set, and no launcher watches over them.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from analog_lora_cli.config.load import dump_config
from analog_lora_cli.config.schema import Config
from analog_lora_cli.workflows.observer import SilentObserver
from analog_lora_cli.workflows.train import train as run_training


@contextmanager
def started(arguments: list[str], folder: Path, ranks: int = 2, where: list[Path] | None = None) -> Iterator[list[Job]]:
    """Processes that shall meet each other; those that are left at the end of the block are killed."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    jobs = []
    try:
        for rank in range(ranks):
            jobs.append(Job(arguments, folder, rank, ranks, port, None if where is None else where[rank]))
        yield jobs
    finally:
        for job in jobs:
            job.process.kill()
            job.process.wait()


class Job:
    """One of the processes; its outputs go to files."""

    def __init__(
        self, arguments: list[str], folder: Path, rank: int, ranks: int, port: int, where: Path | None
    ) -> None:
        self.files = [folder / f"rank{rank}.{name}" for name in ("out", "err")]
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(ranks),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
        command = [sys.executable, "-m", "analog_lora_cli", *arguments]
        with self.files[0].open("w") as out, self.files[1].open("w") as err:
            self.process = subprocess.Popen(command, env=environment, stdout=out, stderr=err, cwd=where)

    @property
    def said(self) -> str:
        return self.files[1].read_text()

    def ends(self, seconds: float) -> int:
        """The exit code; fails if the process takes longer."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"still running after {seconds} s:\n{self.said}")


def wait_until(condition: Callable[[], bool], jobs: list[Job], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, jobs[0].said
        assert all(job.process.poll() is None for job in jobs), [job.said for job in jobs]
        time.sleep(0.1)


def long_training(make_config: Callable[..., Config], folder: Path) -> tuple[list[str], Path]:
    train = {"per_device_train_batch_size": 4, "max_steps": 100_000, "save_steps": 5}
    (folder / "long.yaml").write_text(dump_config(make_config(train=train)))
    output = folder / "run"
    return ["train", "--config", str(folder / "long.yaml"), "--output", str(output)], output


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_training_ends_when_a_process_is_killed(
    victim: int, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    arguments, output = long_training(make_config, tmp_path)
    with started(arguments, tmp_path) as jobs:
        wait_until(lambda: any(output.glob("trainer/checkpoint-*/complete.json")), jobs)
        jobs[victim].process.send_signal(signal.SIGKILL)
        other = jobs[1 - victim]
        assert other.ends(30) == 1
        assert f"rank {victim} (process {jobs[victim].process.pid} on {socket.gethostname()}) was lost" in other.said
        assert "--resume" in other.said
        assert "Traceback" not in other.said


def test_a_process_that_fails_alone_ends_the_others(make_config: Callable[..., Config], tmp_path: Path) -> None:
    """The second process stands in a folder without the data: as on a machine that does not have the file."""
    config = make_config()
    folders = [tmp_path / "with", tmp_path / "without"]
    for folder in folders:
        folder.mkdir()
    shutil.copy(str(config.task.train_file), folders[0] / "train.csv")
    task = config.task.model_copy(update={"train_file": "train.csv"})
    (tmp_path / "relative.yaml").write_text(dump_config(config.model_copy(update={"task": task})))
    arguments = ["train", "--config", str(tmp_path / "relative.yaml"), "--output", str(tmp_path / "run")]
    with started(arguments, tmp_path, where=folders) as jobs:
        assert jobs[1].ends(60) == 2
        assert jobs[0].ends(20) == 1
        assert "rank 1: " in jobs[1].said
        assert "train.csv" in jobs[1].said
        assert f"rank 1 (process {jobs[1].process.pid} on {socket.gethostname()}) failed: DataError" in jobs[0].said
        assert "Traceback" not in jobs[0].said + jobs[1].said


@pytest.mark.slow
def test_an_error_that_all_processes_meet_is_said_once(make_config: Callable[..., Config], tmp_path: Path) -> None:
    config = make_config()
    task = config.task.model_copy(update={"train_file": str(tmp_path / "nothing.csv")})
    (tmp_path / "wrong.yaml").write_text(dump_config(config.model_copy(update={"task": task})))
    with started(["train", "--config", str(tmp_path / "wrong.yaml"), "--output", "x"], tmp_path) as jobs:
        assert [job.ends(60) for job in jobs] == [2, 2]
        assert "nothing.csv" in jobs[0].said
        assert jobs[1].said == ""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_measuring_ends_when_a_process_is_lost(
    number: signal.Signals, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    """Between collectives only the missing beats tell; what was measured before is used by the next run."""
    folder = tmp_path / "run"
    run_training(make_config(), folder, SilentObserver(), drift=False)
    arguments = ["evaluate-drift", str(folder), "--chips", "100000"]
    finished = folder / "drift" / "default" / "measurements.jsonl"
    with started(arguments, tmp_path) as jobs:
        wait_until(lambda: finished.is_file() and len(finished.read_text().splitlines()) > 8, jobs)
        jobs[1].process.send_signal(number)
        assert jobs[0].ends(90) == 1
        assert f"rank 1 (process {jobs[1].process.pid} on {socket.gethostname()}) was lost" in jobs[0].said
        assert "run the command again: finished measurements are reused" in jobs[0].said
    kept = [json.loads(line) for line in finished.read_text().splitlines()[1:]]
    assert len(kept) > 8
