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

        w' = sign(w) s mean(|w / s|) + strength s deviation(|w / s|) xi

    Both moments are linear between the knots. xi has the numbers of the Gaussian training noise.

    Args:
        tiles: tiles of a layer; their weight is the target.
        moments_2K: mean and standard deviation, see `TileState`.
    """
    target_OI, noise, last = tiles.weight, tiles.noise, moments_2K.shape[1] - 1
    moments_2K = moments_2K.to(target_OI.dtype)
    held_OI = torch.empty_like(target_OI)
    normal_OI = None
    if noise.strength:
        normal_OI = PooledNormal(noise.weight_seed, target_OI.device).draw(*target_OI.shape, dtype=target_OI.dtype)
    for row, (start, stop) in enumerate(tiles.grid.rows):
        scale_O1, part_OI = tiles.column_scale[row, :, None], target_OI[:, start:stop]
        place_OI = (part_OI.abs() / torch.where(scale_O1 > 0, scale_O1, 1.0)).clamp(max=1.0) * last
        knot_OI = place_OI.to(torch.int32).clamp(max=last - 1)
        share_OI = place_OI - knot_OI
        mean_OI, deviation_OI = (torch.lerp(one[knot_OI], one[knot_OI + 1], share_OI) for one in moments_2K)
        held_I = mean_OI * part_OI.sign()
        if normal_OI is not None:
            held_I.addcmul_(deviation_OI, normal_OI[:, start:stop], value=noise.strength)
        held_OI[:, start:stop] = held_I * scale_O1
    return held_OI
