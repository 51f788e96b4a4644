"""Seeds: all of their bits count."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from analog_lora_cli.hardware.seeds import seed_generator


def normals(seed: int) -> Tensor:
    generator = torch.Generator()
    seed_generator(generator, seed)
    return torch.randn(2000, generator=generator)


@pytest.mark.parametrize("bit", [32, 33, 47, 62])
def test_upper_bits_count(bit: int) -> None:
    one, other = normals(5), normals(5 + 2**bit)
    assert torch.equal(one, torch.randn(2000, generator=torch.Generator().manual_seed(5)))
    assert abs(float(torch.corrcoef(torch.stack([one, other]))[0, 1])) < 0.1
    assert torch.equal(other, normals(5 + 2**bit))
    assert abs(float(other.mean())) < 0.1 and abs(float(other.std()) - 1) < 0.1


def test_words_lie_where_torch_keeps_them() -> None:
    """The numbers of a large seed are those of numpy's Mersenne Twister with the same words."""
    seed = 2**40 + 3
    words = np.random.SeedSequence(seed).generate_state(624)
    words[0] |= np.uint32(1 << 31)
    twister = np.random.MT19937()
    twister.state = {"bit_generator": "MT19937", "state": {"key": words, "pos": 624}}
    generator = torch.Generator()
    seed_generator(generator, seed)
    assert generator.initial_seed() == seed
    found = torch.randint(0, 2**20, (4,), generator=generator).tolist()
    assert found == [int(word) % 2**20 for word in twister.random_raw(4)]
