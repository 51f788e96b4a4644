"""Noticing that another process of the run has failed or is gone, whoever has started the processes.

A collective waits for its peers, for hours where they measure chips of their own. So how long one may take says
nothing about whether the others live. Here each process counts up a beat in the store that they all met at, and looks
at the beats of the others: a run with a lost process ends with a message, with a launcher that watches or without.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from analog_lora_cli.errors import EXIT_FAILED
from analog_lora_cli.runtime import console

BEAT = 0.5
"""Seconds between two looks at the others."""
SILENCE = 60.0
"""Seconds without a beat after which a process counts as lost; a long call into a library can hold beats back."""
SHORT_SILENCE = 4.0
"""The same once something has gone wrong already."""
_FAILURE = "analora/failure"


@dataclass(frozen=True)
class Failure:
    """Why the run ends: the first process that failed or was lost."""

    rank: int
    text: str

    def __str__(self) -> str:
        return self.text


class Peers(threading.Thread):
    """Beats for this process, and ends it when another one has failed or is lost.

    Args:
        rank: of this process.
        size: number of processes.
        store: a connection to the common store that nothing else waits on; its timeout is how long to wait for those
            that have not come yet.
    """

    def __init__(self, rank: int, size: int, store: Any) -> None:
        super().__init__(daemon=True, name="analora-peers")
        self.rank = rank
        self.size = size
        self._store = store
        self._acts = True
        self._ended = threading.Event()
        self._silent = [0.0] * size
        """Seconds that each process has not beaten for, counted in this process's own beats: while the whole job is
        suspended nobody grows silent."""
        self._beats = [b""] * size
        store.set(_who(rank), f"rank {rank} (process {os.getpid()} on {socket.gethostname()})")
        self._names = [store.get(_who(number)).decode() for number in range(size)]

    def run(self) -> None:
        beats = 0
        while not self._ended.wait(BEAT):
            beats += 1
            failure = self._look(beats)
            if failure is not None and self._acts:
                self._leave(failure)

    def stop(self) -> None:
        """Stop watching: this process is about to part from the others, or to end."""
        self._ended.set()
        self.join(10)

    def what_happened(self) -> Failure | None:
        """After something went wrong here: who failed or is lost, if it was another process; takes some seconds."""
        self._acts = False
        deadline = time.monotonic() + SHORT_SILENCE + 3 * BEAT
        while time.monotonic() < deadline:
            failure = self._known() or self._lost(SHORT_SILENCE)
            if failure is not None:
                return self._publish(failure)
            time.sleep(BEAT / 2)
        return None

    def tell(self, error: BaseException) -> Failure:
        """Let the others know that this process ends with an error; returns the run's first failure."""
        self._acts = False
        own = failed(self.rank, error)
        # Most errors meet all processes alike. The first one, which prints, shall be the one that they agree on.
        patience = time.monotonic() + (4 * BEAT if self.rank else 0)
        known = self._known()
        while known is None and time.monotonic() < patience:
            time.sleep(BEAT / 2)
            known = self._known()
        first = known or self._publish(own)
        if self.rank == 0:
            time.sleep(3 * BEAT)  # The store ends with this process: the others must have read it.
        return first

    def describe(self, failure: Failure) -> str:
        """A failure as a message to the user."""
        return f"{self._names[failure.rank]} {failure.text}; what is finished is kept, continue with --resume"

    def _look(self, beats: int) -> Failure | None:
        try:
            self._store.set(_beat(self.rank), str(beats))
            for rank in range(self.size):
                beat = self._store.get(_beat(rank)) if self._store.check([_beat(rank)]) else b""
                self._silent[rank] = self._silent[rank] + BEAT if beat == self._beats[rank] else 0.0
                self._beats[rank] = beat
        except Exception:  # The store raises what its transport raises; its releases differ.
            return None if self._ended.is_set() else Failure(0, "was lost, and with it what the processes meet at")
        return self._known() or self._lost(SILENCE)

    def _known(self) -> Failure | None:
        try:
            if not self._store.check([_FAILURE]):
                return None
            return Failure(**json.loads(self._store.get(_FAILURE)))
        except Exception:
            return Failure(0, "was lost, and with it what the processes meet at")

    def _lost(self, silence: float) -> Failure | None:
        longest = max(range(self.size), key=lambda rank: self._silent[rank])
        if longest == self.rank or self._silent[longest] < silence:
            return None
        return Failure(longest, "was lost: it was killed, ran out of memory, hangs, or its machine is cut off")

    def _publish(self, failure: Failure) -> Failure:
        try:
            return Failure(**json.loads(self._store.compare_set(_FAILURE, "", json.dumps(asdict(failure)))))
        except Exception:
            return failure

    def _leave(self, failure: Failure) -> None:
        """End at once: the main thread may wait for the lost process for ever."""
        self._publish(failure)
        if self.rank == (1 if failure.rank == 0 else 0):
            console.messages().show_cursor()
            console.error(self.describe(failure))
        if self.rank == 0:
            time.sleep(3 * BEAT)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(EXIT_FAILED)


def meet(timeout: timedelta) -> tuple[Any, Peers]:
    """Meet the other processes at the address that the launcher has set.

    Args:
        timeout: how long to wait for those that have not come yet.

    Returns:
        the store for the process group, and the watch, which runs.
    """
    from torch.distributed import TCPStore  # type: ignore[attr-defined]
    from torch.distributed.rendezvous import rendezvous

    store, rank, size = next(rendezvous("env://", timeout=timeout))
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    own = TCPStore(address, port, is_master=False, timeout=timeout)
    peers = Peers(rank, size, own)
    own.set_timeout(timedelta(seconds=10))
    peers.start()
    return store, peers


def failed(rank: int, error: BaseException) -> Failure:
    """The failure of a process that ends with an error."""
    return Failure(rank, f"failed: {type(error).__name__}: {error}")


def _who(rank: int) -> str:
    return f"analora/who/{rank}"


def _beat(rank: int) -> str:
    return f"analora/beat/{rank}"
