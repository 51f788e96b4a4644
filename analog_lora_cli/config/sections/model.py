"""The `model` section."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from analog_lora_cli.config.effects import Affects
from analog_lora_cli.config.section import Section


class ModelConfig(Section):
    """The pretrained model whose linear layers are put onto analog tiles."""

    name: Annotated[str, Affects("mapping", "programming", "training")] = Field(
        default="google/mobilebert-uncased", min_length=1
    )
    """Hub id, local folder, or `package:PACKAGE/FOLDER` for a folder inside an installed Python package."""

    revision: Annotated[str | None, Affects("mapping", "programming", "training")] = None
    """Branch, tag or commit on the hub; null takes the default branch. Only for hub ids."""
