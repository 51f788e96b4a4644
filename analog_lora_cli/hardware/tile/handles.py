"""Numbers for layers: an operator of torch takes numbers and tensors only."""

from __future__ import annotations

import itertools
from weakref import WeakValueDictionary

from analog_lora_cli.hardware.tile.state import TileLayer

_layers: WeakValueDictionary[int, TileLayer] = WeakValueDictionary()
_numbers = itertools.count()


def register_layer(layer: TileLayer) -> int:
    """Number under which `layer_of` returns the layer as long as it lives."""
    handle = next(_numbers)
    _layers[handle] = layer
    return handle


def layer_of(handle: int) -> TileLayer:
    """Layer of a number.

    Raises:
        KeyError: the layer does not live any more.
    """
    return _layers[handle]
