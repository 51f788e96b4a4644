"""Inputs converted for the tiles on a CPU, once for all layers that share them.

Query, key and value of an attention layer convert the very same tensor. Axes by suffix: T tokens, I inputs, R rows of
tiles.
"""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from analog_lora_cli.hardware.kernels import cpu as kernels
from analog_lora_cli.hardware.kernels.arrays import as_array
from analog_lora_cli.hardware.tile.array import TileArray


@dataclass(frozen=True)
class ConvertedInputs:
    """Inputs of all rows of tiles after the DAC; never changed."""

    levels_TI: Tensor
    """In steps of the DAC."""
    scale_RT: Tensor
    """Scale of each token on each row of tiles."""


_Key = tuple[int, int, torch.Size, tuple[int, ...], bytes, float, bytes]
"""Version, address, shape and strides of the tensor; rows of tiles; step of the DAC; input ranges."""


@dataclass(frozen=True)
class _Conversion:
    """A conversion that the next layer may share."""

    source: weakref.ref[Tensor]
    key: _Key
    layer: str
    converted: ConvertedInputs | None
    """None: not kept, because no other layer shared it so far."""


_last = threading.local()
"""`conversion`: the last one of a thread, or None."""

_sharing: set[str] = set()
"""Names of layers whose next one takes the same inputs, as seen so far: only what they convert is worth keeping. A name
too many or too few costs memory or time and changes no number."""


def convert_inputs(x: Tensor, tiles: TileArray) -> ConvertedInputs:
    """The inputs of a layer after the DAC, the last ones again if tensor and converters are the same.

    A tensor that was changed in place since is noticed as autograd notices it, by its version. Tensors of inference
    mode have none, so they are always converted. The result is dropped when the tensor is, and kept at all only
    where an earlier forward pass has shown that the next layer takes it too.

    Args:
        x: (..., in_features), the tensor that the layer was called with.
        tiles: tiles of the layer.
    """
    constants_R = tiles.input_scale.constants(len(tiles.grid.rows)).numpy()
    if x.is_inference():
        return _convert(x, tiles, constants_R)
    key = (
        x._version,
        x.data_ptr(),
        x.shape,
        x.stride(),
        tiles.grid.edges.tobytes(),
        tiles.converters.dac_step,
        constants_R.tobytes(),
    )
    last: _Conversion | None = getattr(_last, "conversion", None)
    shared = last is not None and last.source() is x and last.key == key
    if last is not None and shared:
        _sharing.add(last.layer)
        if last.converted is not None:
            return last.converted
    _last.conversion = last = None  # Free before the next ones are made.
    converted = _convert(x, tiles, constants_R)
    kept = converted if shared or tiles.name in _sharing else None
    _last.conversion = _Conversion(weakref.ref(x, _drop), key, tiles.name, kept)
    return converted


def _drop(dead: weakref.ref[Tensor]) -> None:
    last: _Conversion | None = getattr(_last, "conversion", None)
    if last is not None and last.source is dead:
        _last.conversion = None


def _convert(x: Tensor, tiles: TileArray, constants_R: kernels.Floats) -> ConvertedInputs:
    x = x.to(torch.float32).contiguous()
    x_TI = as_array(x).reshape(-1, x.shape[-1])
    levels_TI, scale_RT = torch.empty(x_TI.shape), torch.empty(len(tiles.grid.rows), len(x_TI))
    step = np.float32(tiles.converters.dac_step)
    kernels.convert_inputs(x_TI, tiles.grid.edges, step, constants_R, levels_TI.numpy(), scale_RT.numpy())
    return ConvertedInputs(levels_TI, scale_RT)
