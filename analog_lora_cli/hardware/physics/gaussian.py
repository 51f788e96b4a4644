"""Static Gaussian weight noise in place of a device, as the language-model literature evaluates analog hardware."""

from __future__ import annotations

import torch

from analog_lora_cli.hardware.kernels.counter import cell_normals
from analog_lora_cli.hardware.physics.cells import TileKey
from analog_lora_cli.hardware.tile.state import MappedLayer, TileState


@torch.no_grad()
def gaussian_state(seed: int, level: float, name: str, layer: MappedLayer) -> TileState:
    """The state of a layer whose weights carry Gaussian noise: no programming, drift or compensation.

    With s the column scale (see `mapping`) and xi a standard normal number of each weight:

        w' = w + level * s * xi

    as the weight noise of a training. xi is a function of seed, layer and tile alone, so that a seed draws the same
    noise at every level, larger or smaller.

    Args:
        seed: seed of the draw.
        level: standard deviation, relative to the largest weight of each column of a tile.
        name: name of the layer.
        layer: the layer.
    """
    scales = layer.column_scale
    weight_OI = layer.weight.detach().to(scales.dtype, copy=True)
    for place in layer.grid:
        rows, columns = place.size
        key = TileKey(seed, name, place.row, place.column).seed("gaussian")
        noise_OI = cell_normals(key, columns, rows, weight_OI.device).to(scales.dtype)
        weight_OI[place.weights].addcmul_(noise_OI, level * scales[place.columns][:, None])
    return TileState(weight_OI, torch.ones_like(scales))
