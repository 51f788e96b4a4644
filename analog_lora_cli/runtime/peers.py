"""Detection of failed or lost processes, whoever has started the processes.

The libraries do not suffice: gloo notices a peer that was killed, not one that hangs or whose machine is cut off,
and only inside a collective; NCCL waits for its timeout; srun and mpirun watch over nothing. Between collectives, while
each process measures chips of its own for hours, nobody would notice at all. `monitored_barrier` names a missing rank,
but all ranks must call it together. So each process counts up a beat in their common store, and looks at the
beats of the others, over a connection of its own, because the main thread may wait on the other.
"""

from __future__ import annotations

import itertools
import json
import os
import socket
import sys
import threading
import time
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from analog_lora_cli.errors import EXIT_FAILED
from analog_lora_cli.runtime import console
from analog_lora_cli.runtime import log as run_log
from analog_lora_cli.runtime.failure import hint

if TYPE_CHECKING:
    from torch.distributed import Store  # type: ignore[attr-defined]

BEAT = 0.5
"""Seconds between two looks at the others."""
SILENCE = 60.0
"""Seconds without a beat after which a process counts as lost; a long call into a library can hold beats back."""
SHORT_SILENCE = 4.0
"""The same once something has gone wrong already."""
_FAILURE = "analora/failure"
_meetings = itertools.count()
"""Numbers of the meetings of this process, the same in all processes of a run."""


@dataclass(frozen=True)
class Failure:
    """Reason for the end of the run: the first process that failed or was lost."""

    rank: int
    text: str

    @property
    def speaker(self) -> int:
        """Rank that tells the user."""
        return 1 if self.rank == 0 else 0


class Peers(threading.Thread):
    """Beats for this process, and ends it when another one has failed or is lost.

    Args:
        rank: rank of this process.
        size: number of processes.
        store: a connection to the common store that nothing else waits on.

    Attributes:
        failure: the run's first failure, once it is known here.
    """

    def __init__(self, rank: int, size: int, store: Store) -> None:
        super().__init__(daemon=True, name="analora-peers")
        self.rank = rank
        self.failure: Failure | None = None
        self._store = store
        self._ends_process = True
        self._longest_silence = SILENCE
        self._stopped = threading.Event()
        # Silence is counted in this process's own beats: while the whole job is suspended nobody grows silent.
        self._silent = [0.0] * size
        self._beats = [0] * size
        store.set(f"analora/name/{rank}", f"rank {rank} (process {os.getpid()} on {socket.gethostname()})")
        self._names = [store.get(f"analora/name/{number}").decode() for number in range(size)]
        store.set_timeout(timedelta(seconds=10))

    def run(self) -> None:
        """Look at the others until `stop`, or until a failure is known."""
        while not self._stopped.wait(BEAT):
            try:
                failure = self._published() or self._lost()
            except Exception:  # The store raises what its transport raises; its releases differ.
                failure = Failure(0, "was lost, and with it the store of all processes")
            if failure is not None and not self._stopped.is_set():
                self.failure = self._publish(failure)
                if self._ends_process:
                    self._end_process(self.failure)
                return

    def stop(self) -> None:
        """Stop watching: this process is about to part from the others, or to end."""
        self._stopped.set()
        self.join(10)

    def failure_elsewhere(self) -> Failure | None:
        """First failure, if it is another process's, after something went wrong here; takes some seconds."""
        self._ends_process = False
        self._longest_silence = SHORT_SILENCE
        self.join(SHORT_SILENCE + 3 * BEAT)
        return self.failure

    def publish_error(self, error: BaseException) -> Failure:
        """Let the others know that this process ends with an error; returns the run's first failure."""
        self._ends_process = False
        if self.rank:
            # Most errors meet all processes alike. The first one, which prints, shall be the one that they agree on.
            self.join(4 * BEAT)
        first = self.failure or self._publish(failure_of(self.rank, error))
        self._let_others_read()
        return first

    def describe(self, failure: Failure) -> str:
        """Message to the user."""
        return f"{self._names[failure.rank]} {failure.text}; {hint(run_log.arguments())}"

    def _published(self) -> Failure | None:
        if not self._store.check([_FAILURE]):
            return None
        return Failure(**json.loads(self._store.get(_FAILURE)))

    def _lost(self) -> Failure | None:
        """Beat, and look for a process that does not."""
        for rank in range(len(self._beats)):
            beat = self._store.add(f"analora/beat/{rank}", int(rank == self.rank))
            self._silent[rank] = self._silent[rank] + BEAT if beat == self._beats[rank] else 0.0
            self._beats[rank] = beat
            if self._silent[rank] >= self._longest_silence:
                return Failure(rank, "was lost: it was killed, ran out of memory, hangs, or its machine is cut off")
        return None

    def _publish(self, failure: Failure) -> Failure:
        """Make a failure the run's, unless another one was first; returns the first."""
        try:
            return Failure(**json.loads(self._store.compare_set(_FAILURE, "", json.dumps(asdict(failure)))))
        except Exception:  # As above.
            return failure

    def _let_others_read(self) -> None:
        if self.rank == 0:  # The store ends with this process.
            time.sleep(3 * BEAT)

    def _end_process(self, failure: Failure) -> None:
        """End at once, without Python's cleaning up: the main thread may wait for the lost process for ever."""
        if self.rank == failure.speaker:
            console.messages().show_cursor()
            console.error(self.describe(failure))
        self._let_others_read()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(EXIT_FAILED)


def meet(timeout: timedelta) -> tuple[Store, Peers]:
    """Meet the other processes at the address that the launcher has set.

    Args:
        timeout: longest wait for the others.

    Returns:
        the store for the process group, and the watch, which runs.
    """
    from torch.distributed import PrefixStore  # type: ignore[attr-defined]
    from torch.distributed.rendezvous import rendezvous

    store, rank, size = next(rendezvous("env://", timeout=timeout))
    # A launcher's store outlives the processes' group: keys of an earlier meeting must not answer for this one.
    number = next(_meetings)
    peers = Peers(rank, size, PrefixStore(f"analora/{number}/watch", store.clone()))
    store = PrefixStore(f"analora/{number}", store)
    peers.start()
    return store, peers


def failure_of(rank: int, error: BaseException) -> Failure:
    """Failure of a process that ends with an error."""
    return Failure(rank, f"failed: {type(error).__name__}: {error}")
