"""The `task` section of classification of images."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from analog_lora_cli.config.effects import Affects
from analog_lora_cli.config.registry import TASKS
from analog_lora_cli.config.sections.labelled import ClassesSection
from analog_lora_cli.config.sections.own_data import SplitSection
from analog_lora_cli.config.sections.task import Modality


class ImageClassificationSection(ClassesSection, SplitSection):
    """One of several classes for an image."""

    modality: ClassVar[Modality] = "image"
    input_key: ClassVar[str] = "image_column"

    name: Annotated[Literal["image_classification"], Affects("architecture", "score", "training")] = (
        "image_classification"
    )
    """Classes of images. Data are a folder with a subfolder for each class, or a table (CSV, TSV, JSON, JSONL, Parquet
    or Arrow) with the images' files. Images that are measured stay in memory, at the size that the model takes."""

    image_column: Annotated[str, Affects("score", "training")] = "image"
    """Column of the image's file in a table, relative to the table's folder."""

    @property
    def input_columns(self) -> list[str]:
        """See `LabelledSection`."""
        return [self.image_column]


TASKS.register(["image_classification"], ImageClassificationSection)
