"""The `model` section."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from analog_lora_cli.config.effects import Affects
from analog_lora_cli.config.section import Section


class ModelConfig(Section):
    """The pretrained model whose linear layers are put onto analog tiles."""

    name: Annotated[str, Affects("mapping", "programming", "training")] = Field(
        default="google/mobilebert-uncased", min_length=1
    )
    """Hub id, local folder, or `package:PACKAGE/FOLDER` for a folder inside an installed Python package. A `.gguf` file
    (a path, `package:PACKAGE/FILE.gguf`, or `USER/NAME/FILE.gguf` on the hub) is dequantized, once, into the cache
    folder; needs `pip install gguf`. "Digital" is then the dequantized model."""

    revision: Annotated[str | None, Affects("mapping", "programming", "training")] = None
    """Branch, tag or commit on the hub; null takes the default branch. Only for what lies on the hub."""

    dtype: Annotated[Literal["float32", "bfloat16"], Affects("mapping", "programming", "architecture", "training")] = (
        "float32"
    )
    """Type that the pretrained weights are kept and computed with outside the tiles: `bfloat16` takes half the memory.
    Adapters, the task's head, and everything on the tiles are in float32 all the same: DACs, products, noise, ADCs and
    sums over tiles. With `method: full` and aihwkit's own tiles float32 only."""
