"""Several processes that work together, as accelerate or torchrun starts them."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any


def world_size() -> int:
    """Number of processes."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Number of this process, from 0."""
    return int(os.environ.get("RANK", "0"))


def is_main() -> bool:
    """Whether this is the process that prints and writes."""
    return rank() == 0


def join() -> None:
    """Meet the other processes, if there are any: gloo on CPUs, NCCL on GPUs."""
    if world_size() > 1:
        import torch
        from accelerate import PartialState

        cuda = torch.cuda.is_available()
        PartialState(cpu=not cuda, backend=None if cuda else "gloo")


def leave() -> None:
    """Part from the other processes; without this, gloo's threads abort those that end first."""
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


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
def _on_cpus() -> Any:
    """The processes as a group that talks without waiting for a GPU; None if all of their talk is so."""
    import torch.distributed as dist

    return None if dist.get_backend() == "gloo" else dist.new_group(backend="gloo")


def gather(value: Any) -> list[Any]:
    """The values of all processes, by rank, on every process."""
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values
