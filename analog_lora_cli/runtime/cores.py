"""Sharing a machine's cores with other runs of this tool.

Between two parallel regions OpenMP's threads spin for milliseconds, so that the next region starts at once. A second
run on the same cores then waits for threads that only spin: on two cores, two trainings at once took 34 s each where
one alone took 4.7 s. With `OMP_WAIT_POLICY=PASSIVE` they took 9 s, but one alone 7 s. So threads spin while a run is
alone, and hardly at all while others need its cores (`python -m tests.benchmarks.two_at_once`).

GNU's OpenMP reads its policy once, when it is loaded. But it spins three hundred times shorter while a process has more
OpenMP threads than there are processors (`gomp_throttled_spin_count_var` in libgomp's `wait.h`). An idle team of
threads, kept by a thread of its own, makes it so for as long as it lives.
"""

from __future__ import annotations

import os
import tempfile
import threading
from functools import cache
from pathlib import Path

from filelock import FileLock, Timeout

POLICIES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
"""Environment variables by which a user decides how OpenMP waits; then nothing is done here."""
LOOK_EVERY = 1.0
"""Seconds between two looks at which other runs there are."""


@cache
def share_cores() -> CoreSharing | None:
    """Spin less from now on whenever other runs need this machine's cores; once a process.

    Returns:
        the observer of the other runs; None where the user has set a policy, or one thread cannot wait for another.
    """
    import torch

    threads = torch.get_num_threads()
    if threads == 1 or any(name in os.environ for name in POLICIES):
        return None
    try:
        sharing = CoreSharing(_folder(), threads, usable_cores())
    except OSError:  # No folder to meet in: runs stay as fast as they are alone.
        return None
    sharing.start()
    return sharing


def usable_cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class CoreSharing(threading.Thread):
    """Observer of the other runs on a machine, which makes OpenMP's threads spin less while there are too many.

    Each run holds the lock of a file in a common folder, named by its process and its number of threads. The lock ends
    with the process, however it ends.

    Args:
        folder: where the runs of one user meet.
        threads: OpenMP threads of this process.
        cores: processors that it may use.

    Raises:
        OSError: the folder cannot be written.
    """

    def __init__(self, folder: Path, threads: int, cores: int) -> None:
        super().__init__(daemon=True, name="analora-cores")
        self.threads = threads
        self.cores = cores
        self._teams: list[threading.Thread] = []
        """Keepers of idle teams, while threads spin less."""
        self._release = threading.Event()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._own = FileLock(folder / f"{os.getpid()}-{threads}.lock", thread_local=False)
        self._own.acquire(timeout=0)

    def run(self) -> None:
        while True:
            self.look()
            threading.Event().wait(LOOK_EVERY)

    def look(self) -> None:
        """Count the threads of all runs, and spin less if they are more than the cores."""
        crowded = self.threads + self.other_threads() > self.cores
        if not crowded:
            self._release.set()
        elif not self.yielding:
            self._release = threading.Event()
            # A team adds one thread less than it has: its first one is the keeper.
            teams = -(-(self.cores - self.threads + 1) // (self.threads - 1))
            self._teams = [self._idle_team() for _ in range(teams)]

    @property
    def yielding(self) -> bool:
        """Whether threads spin less at present."""
        return not self._release.is_set() and any(team.is_alive() for team in self._teams)

    def _idle_team(self) -> threading.Thread:
        team = threading.Thread(target=_keep_team, args=(self.threads, self._release), daemon=True)
        team.start()
        return team

    def other_threads(self) -> int:
        """OpenMP threads of the other runs; what ended runs have left is removed."""
        count = 0
        for path in self._folder.glob("*-*.lock"):
            threads = path.stem.rpartition("-")[2]
            if str(path) == self._own.lock_file or not threads.isdigit():
                continue
            try:
                with FileLock(path, timeout=0):
                    path.unlink(missing_ok=True)
            except Timeout:
                count += int(threads)
            except OSError:
                continue
        return count


def _keep_team(threads: int, release: threading.Event) -> None:
    """Start as many OpenMP threads as the process computes with, which then sleep until they are released."""
    import torch

    # A new thread takes the number that holds at this moment; a chip is programmed with one. The next look tries again.
    if torch.get_num_threads() == threads:
        torch.ones(1 << 20).add_(1)  # Large enough for torch to start the team.
        release.wait()


def _folder() -> Path:
    return Path(tempfile.gettempdir()) / f"analora-{os.getuid()}"
