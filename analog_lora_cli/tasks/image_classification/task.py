"""Classification of images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from analog_lora_cli.config.sections.image_classification import ImageClassificationSection
from analog_lora_cli.tasks.base import Example, Processor
from analog_lora_cli.tasks.classification.labelled import Rows, at_rows
from analog_lora_cli.tasks.classification.own_labels import OwnClasses
from analog_lora_cli.tasks.data.features import FeatureValue
from analog_lora_cli.tasks.image_classification.pixels import IMAGE, ImageCollator, tokens_of
from analog_lora_cli.tasks.image_classification.source import ImageSource


@dataclass(frozen=True)
class ImageExample(Example):
    """An image."""

    processor_class: ClassVar[str] = "AutoImageProcessor"

    def loading(self) -> str:
        """Python line that makes `processor`, from a folder `folder`."""
        return f'processor = {self.processor_class}.from_pretrained(folder, backend="pil")'

    def inputs(self) -> str:
        """Python lines that make `inputs` with `processor`."""
        return """\
from PIL import Image
image = Image.new("RGB", (64, 48), "gray")  # or Image.open("image.png").convert("RGB")
inputs = processor(image, return_tensors="pt")"""


class ImageClassification(OwnClasses):
    """One of several classes of an image. Images are read when their batch is made, and never all in memory."""

    section = ImageClassificationSection
    config: ImageClassificationSection
    source: ImageSource
    auto_class_name = "AutoModelForImageClassification"
    pipeline_tag = "image-classification"

    def __init__(self, config: ImageClassificationSection, seed: int) -> None:
        super().__init__(config, seed)
        self.source = ImageSource(config)

    @property
    def example(self) -> Example:
        return ImageExample((), self.answers.expression)

    def inputs(self, split: str, rows: Rows, processor: Processor) -> Iterator[Mapping[str, FeatureValue]]:
        length, column = tokens_of(processor), self.config.image_column
        for row in at_rows(self.source.rows(split, [column]), self.indices(split)[rows]):
            yield {IMAGE: str(row.values[column]), "length": length}

    def content_sha256(self, role: str, path: Path) -> str:
        """Hash of the images and their labels."""
        return self.source.sha256(role)

    def collator(self, processor: Processor) -> ImageCollator:
        return ImageCollator(processor)
