"""Normal random numbers as functions of a key and an index: any of them can be computed alone, on any device.

Number `i` of a key comes from the 64 bits

    b(i) = finalizer(key + i * GAMMA)        modulo 2^64

of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), which make one pair of standard normals (Box and Muller, 1958):

    u = (h + 1/2) / 2^31, v = l / 2^31 - 1/2       h, l: the upper 31 bits of b's halves
    z_1 = sqrt(-2 ln u) cos(2 pi v), z_2 = sqrt(-2 ln u) sin(2 pi v)

in single precision, so that |z| is 6.7 at most. `kernels.cpu_chips` computes the same in compiled loops; both agree to
a few units of the last place, because logarithm, sine and cosine are approximated there by other polynomials.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from analog_lora_cli.hardware.kernels.random import GAMMA, MIX_1, MIX_2

VECTOR = 16
"""Numbers in a processor's widest vectors, of 512 bits."""


def normal_pairs(key: int, shape: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """The pairs of normals of the indices 0, 1, ... of a key, in float32.

    Args:
        key: 0 .. 2^64 - 1.
        shape: shape of both results; the last dimension counts fastest.
        device: device that computes them; another one gives the same numbers up to the last bits.
    """
    index = torch.arange(math.prod(shape), dtype=torch.int64, device=device).view(shape)
    bits = _mix(index * signed(GAMMA) + signed(key))
    u = (_right(bits, 33).float() + 0.5) * 2.0**-31
    turns = _right(bits & 0xFFFFFFFF, 1).float() * 2.0**-31 - 0.5
    radius, angle = torch.sqrt(-2.0 * torch.log(u)), turns * (2.0 * math.pi)
    return radius * torch.cos(angle), radius * torch.sin(angle)


def cell_normals(key: int, columns: int, rows: int, device: torch.device) -> Tensor:
    """One normal for each cell of a tile, (columns, rows) in float32.

    A pair serves two cells of a column: the first `pairs_of_column(rows)` rows take the first numbers of the pairs, the
    others the second ones. Column `c` begins with the pair of index `c * pairs_of_column(rows)`.

    Args:
        key: as for `normal_pairs`.
        columns: columns of the tile.
        rows: rows of the tile.
        device: device that computes them.
    """
    pairs = pairs_of_column(rows)
    return torch.cat(normal_pairs(key, (columns, pairs), device), dim=1)[:, :rows]


def pairs_of_column(rows: int) -> int:
    """Pairs of normals for a column of cells: half of them, in whole vectors for the sake of compiled loops."""
    return -(-rows // (2 * VECTOR)) * VECTOR


def _mix(counter: Tensor) -> Tensor:
    """SplitMix64's finalizer on int64, whose products wrap as those of unsigned numbers do."""
    counter = (counter ^ _right(counter, 30)) * signed(MIX_1)
    counter = (counter ^ _right(counter, 27)) * signed(MIX_2)
    return counter ^ _right(counter, 31)


def _right(bits: Tensor, count: int) -> Tensor:
    """Shift to the right without the sign."""
    return (bits >> count) & ((1 << (64 - count)) - 1)


def signed(number: int) -> int:
    """The int64 with the bits of an unsigned number, 0 .. 2^64 - 1."""
    return number - 2**64 if number >= 2**63 else number
