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

_last = threading.local()
"""`entry`: the last conversion of a thread, (weak reference to the tensor, key, `ConvertedInputs`), or None."""


def convert_inputs(x: Tensor, x_TI: Tensor, tiles: TileArray) -> ConvertedInputs:
    """The inputs of a layer after the DAC, the last ones again if tensor and converters are the same.

    A tensor that was changed in place since is noticed as autograd notices it, by its version. Tensors of inference
    mode have none, so they are always converted. The result is dropped when the tensor is.

    Args:
        x: tensor that the layer was called with.
        x_TI: the same, (tokens, in_features), in float32.
        tiles: tiles of the layer.
    """
    constants_R = tiles.input_scale.constants(len(tiles.grid.rows)).numpy()
    if x.is_inference():
        return _convert(x_TI, tiles, constants_R)
    key = (
        x._version,
        x.data_ptr(),
        x.shape,
        x.stride(),
        tiles.grid.edges.tobytes(),
        tiles.converters.dac_step,
        constants_R.tobytes(),
    )
    entry: tuple[weakref.ref[Tensor], _Key, ConvertedInputs] | None = getattr(_last, "entry", None)
    if entry is not None and entry[0]() is x and entry[1] == key:
        return entry[2]
    _last.entry = None  # Free before the next ones are made.
    converted = _convert(x_TI, tiles, constants_R)
    _last.entry = (weakref.ref(x, _drop), key, converted)
    return converted


def _drop(dead: weakref.ref[Tensor]) -> None:
    entry = getattr(_last, "entry", None)
    if entry is not None and entry[0] is dead:
        _last.entry = None


def _convert(x_TI: Tensor, tiles: TileArray, constants_R: kernels.Floats) -> ConvertedInputs:
    x_TI = x_TI.detach().contiguous()
    levels_TI, scale_RT = torch.empty_like(x_TI), x_TI.new_empty(len(tiles.grid.rows), len(x_TI))
    step = np.float32(tiles.converters.dac_step)
    kernels.convert_inputs(x_TI.numpy(), tiles.grid.edges, step, constants_R, levels_TI.numpy(), scale_RT.numpy())
    return ConvertedInputs(levels_TI, scale_RT)
