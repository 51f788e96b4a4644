"""Several processes that work together, as accelerate, torchrun or srun starts them."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

from analog_lora_cli.errors import AnaloraError, StoppedError, UsageError
from analog_lora_cli.runtime.ranks import rank, world_size

if TYPE_CHECKING:
    import torch
    from torch.distributed import ProcessGroup

    from analog_lora_cli.config.schema import Config
    from analog_lora_cli.runtime.peers import Failure, Peers

Item = TypeVar("Item")

MEETING = timedelta(minutes=5)
"""Longest wait of the processes for each other at the start."""
COLLECTIVE = timedelta(days=30)
"""Longest wait for the others, which may have a chip more to measure; `peers` notices those that died."""

_peers: Peers | None = None


def collective_timeout(config: Config) -> timedelta:
    """Longest time of a collective: `train.ddp_timeout` (seconds) where the configuration has it."""
    limit = (config.train.model_extra or {}).get("ddp_timeout")
    return timedelta(seconds=limit) if isinstance(limit, int) and limit > 0 else COLLECTIVE


@contextmanager
def together(timeout: timedelta = COLLECTIVE) -> Iterator[None]:
    """Work together with the other processes, if there are any: gloo on CPUs, NCCL on GPUs.

    If one of them fails or is lost, all end with a message that names it.

    Args:
        timeout: longest time of a collective.

    Raises:
        UsageError: the launcher has not said where to meet, or not all processes came.
        AnaloraError: another process failed or is lost.
        StoppedError: the same, or the same error as elsewhere, and another process says so.
    """
    if world_size() == 1:
        yield
        return
    _join(timeout)
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        ended = _reason_to_end(error)
        if ended is error:
            raise
        raise ended from error
    _leave()


def _join(timeout: timedelta) -> None:
    global _peers
    import torch
    import torch.distributed as dist
    from accelerate import PartialState

    from analog_lora_cli.runtime.peers import meet

    cuda = torch.cuda.is_available()
    needed = ["RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", *(["LOCAL_RANK"] if cuda else [])]
    missing = [name for name in needed if name not in os.environ]
    if missing:
        raise UsageError(
            f"WORLD_SIZE is {world_size()}, but {', '.join(missing)} not set: start the processes with torchrun or "
            "accelerate launch, or set the variables"
        )
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    try:
        store, _peers = meet(MEETING)
    except dist.DistError as error:
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"rank {rank()} waited {MEETING.seconds // 60} minutes for the {world_size()} processes of this run at "
            f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}, and not all came: {reason}"
        ) from None
    dist.init_process_group(
        "cuda:nccl,cpu:gloo" if cuda else "gloo", store=store, rank=rank(), world_size=world_size(), timeout=timeout
    )
    PartialState(cpu=not cuda, backend=None if cuda else "gloo")


def _reason_to_end(error: BaseException) -> BaseException:
    """Error to end this process with: its own, or that of another process which has caused it."""
    from analog_lora_cli.runtime.peers import failure_of

    assert _peers is not None
    if threading.current_thread() is threading.main_thread():
        # A launcher sends the signal once it knows of the failure that this process is about to explain.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
    try:
        if isinstance(error, (RuntimeError, KeyboardInterrupt)):
            # A lost connection looks like any RuntimeError, and a launcher's way to end the others like Ctrl-C.
            failure = _peers.failure_elsewhere()
            if failure is not None:
                return _caused_elsewhere(failure)
        failure = _peers.publish_error(error)
        same = failure.rank != rank() and failure.text == failure_of(rank(), error).text
        return StoppedError(str(error), getattr(error, "exit_code", StoppedError.exit_code)) if same else error
    finally:
        _peers.stop()


def _caused_elsewhere(failure: Failure) -> AnaloraError:
    assert _peers is not None
    return AnaloraError(_peers.describe(failure)) if rank() == failure.speaker else StoppedError(failure.text)


def _leave() -> None:
    """Part from the other processes; without this, gloo's threads abort those that end first."""
    import torch.distributed as dist

    assert _peers is not None
    dist.barrier()
    _peers.stop()
    dist.barrier()  # Nobody watches any more: now the one that hosts the store may go.
    dist.destroy_process_group()
    _on_cpus.cache_clear()


def own_device() -> torch.device:
    """The device that this process computes on: its own GPU, else the CPU."""
    import torch

    return (
        torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        if torch.cuda.is_available()
        else torch.device("cpu")
    )


def wait_for_all() -> None:
    """Return when all processes are here."""
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        dist.barrier()


def any_of(flag: bool) -> bool:
    """Whether a flag is set on any process: the same answer on all of them."""
    import torch
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return flag
    answer = torch.tensor([int(flag)])
    dist.all_reduce(answer, op=dist.ReduceOp.MAX, group=_on_cpus())
    return bool(answer.item())


@lru_cache(maxsize=1)
def _on_cpus() -> ProcessGroup | None:
    """The processes as a group that talks without waiting for a GPU; None if all of their talk is so."""
    import torch.distributed as dist

    return None if dist.get_backend() == "gloo" else dist.new_group(backend="gloo")


def gather(value: Item) -> list[Item]:
    """The values of all processes, by rank, on every process."""
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return [value]
    values = [value] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values
