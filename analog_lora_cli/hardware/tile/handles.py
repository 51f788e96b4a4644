"""Numbers for layers: an operator of torch takes numbers and tensors only."""

from __future__ import annotations

import itertools
from weakref import WeakValueDictionary

from analog_lora_cli.hardware.tile.state import TileLayer

_layers: WeakValueDictionary[int, TileLayer] = WeakValueDictionary()
_numbers = itertools.count()


def register_layer(layer: TileLayer) -> int:
    """A new number under which `layer_of` finds the layer as long as it lives."""
    handle = next(_numbers)
    _layers[handle] = layer
    return handle


def layer_of(handle: int) -> TileLayer:
    """The layer that has a number."""
    return _layers[handle]
