"""Seeds of everything random in the simulation, derived from names and numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

_WORDS = slice(24, 24 + 8 * 624)
"""The Mersenne Twister's 624 words in torch's state of a CPU generator, in 8 bytes each."""


def derive_seed(*parts: object) -> int:
    """A 63-bit seed that depends on every part and on nothing else."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def seed_generator(generator: torch.Generator, seed: int) -> None:
    """Seed one of torch's CPU generators with all bits of a seed.

    torch itself takes the lower 32 bits; below 2^32 the numbers are those of `manual_seed`. The words of a larger seed
    come from numpy's SeedSequence.

    Args:
        generator: a generator on the CPU.
        seed: 0 .. 2^63 - 1.
    """
    generator.manual_seed(seed)
    if seed < 2**32:
        return
    words = np.random.SeedSequence(seed).generate_state(624).astype(np.int64)
    words[0] |= 1 << 31  # Words that are all zero would stay so.
    state = generator.get_state()
    state[_WORDS].view(torch.int64).copy_(torch.from_numpy(words))
    generator.set_state(state)


@contextmanager
def seeded_globally(*parts: object) -> Iterator[None]:
    """Seed torch's global generators inside the block, so that what it draws does not depend on what was drawn before.

    Args:
        parts: parts of the seed, as for `derive_seed`.
    """
    with torch.random.fork_rng(devices=list(range(torch.cuda.device_count()))):
        seed = derive_seed(*parts)
        torch.manual_seed(seed)
        seed_generator(torch.default_generator, seed)
        yield
