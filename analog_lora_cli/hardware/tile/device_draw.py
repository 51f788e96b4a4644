"""Weights drawn from the moments of a device: one normal number for each, whose size depends on the weight.

Axes of tensors by suffix: I inputs, O outputs, R rows of tiles, K knots.
"""

from __future__ import annotations

import torch
from torch import Tensor

from analog_lora_cli.hardware.kernels.random import PooledNormal
from analog_lora_cli.hardware.tile.array import TileArray


def device_draw(tiles: TileArray, moments_2K: Tensor) -> Tensor:
    """The weights that devices hold, (out_features, in_features): with w / s the target in tile units,

        w' = w kept(|w / s|) + strength s deviation(|w / s|) xi

    Both by the nearest knot. xi has the numbers of the Gaussian training noise.

    Args:
        tiles: tiles of a layer; their weight is the target.
        moments_2K: see `TileState`.
    """
    target_OI, noise, last = tiles.weight, tiles.noise, moments_2K.shape[1] - 1
    moments_2K = moments_2K.to(target_OI.dtype)
    held_OI = torch.empty_like(target_OI)
    normal_OI = None
    if noise.strength:
        normal_OI = PooledNormal(noise.weight_seed, target_OI.device).draw(*target_OI.shape, dtype=target_OI.dtype)
    for row, (start, stop) in enumerate(tiles.grid.rows):
        scale_O1, target_part_OI = tiles.column_scale[row, :, None], target_OI[:, start:stop]
        per_knot_O1 = torch.where(scale_O1 > 0, last / scale_O1, 0.0)
        knot_OI = (target_part_OI.abs() * per_knot_O1 + 0.5).to(torch.int32).clamp(max=last)
        held_part_OI = target_part_OI * moments_2K[0][knot_OI]
        if normal_OI is not None:
            spread_OI = moments_2K[1][knot_OI] * (noise.strength * scale_O1)
            held_part_OI += spread_OI * normal_OI[:, start:stop]
        held_OI[:, start:stop] = held_part_OI
    return held_OI
