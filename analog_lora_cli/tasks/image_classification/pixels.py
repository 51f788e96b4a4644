"""Image files as a model's inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from analog_lora_cli.errors import DataError
from analog_lora_cli.tasks.data.features import FeatureValue

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image
    from transformers import BaseImageProcessor

IMAGE = "image"
"""Feature with the path of an image."""
_PATCH = 16
"""Edge of a patch in most vision transformers, in pixels."""


def image_suffixes() -> set[str]:
    """Ends of names of files that Pillow can read, in lower case."""
    from PIL import Image

    return {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}


def check_image(path: Path, what: str = "") -> None:
    """Check that a file begins like an image; its pixels are not read.

    Args:
        path: the file.
        what: where it is named, with which the message begins.

    Raises:
        DataError: it does not, or cannot be read.
    """
    with _opened(path, what):
        pass


def pixels(path: str) -> Image:
    """An image with three colours, turned as its camera was held.

    Raises:
        DataError: the file is damaged.
    """
    from PIL import ImageOps

    with _opened(Path(path)) as image:
        return ImageOps.exif_transpose(image).convert("RGB")


@contextmanager
def _opened(path: Path, what: str = "") -> Iterator[Image]:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            yield image
    except UnidentifiedImageError as error:
        raise DataError(f"{what}{path}: no image that Pillow can read; leave it out, or convert it") from error
    # Damaged files raise whatever the reader of their format stumbles over.
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise DataError(f"{what}{path}: the image cannot be read: {error}") from error


class ImageCollator:
    """Turns features into one batch of pixels: images are read when their batch is made.

    Args:
        processor: image processor of the model.
    """

    def __init__(self, processor: BaseImageProcessor) -> None:
        self.processor = processor

    def __call__(self, features: Sequence[Mapping[str, FeatureValue]]) -> dict[str, torch.Tensor]:
        """`pixel_values`, (features, colours, height, width); numbers of features, such as their classes, (features,).

        Raises:
            DataError: an image is damaged.
        """
        import torch

        images = [pixels(str(row[IMAGE])) for row in features]
        batch: dict[str, torch.Tensor] = {"pixel_values": self.processor(images, return_tensors="pt")["pixel_values"]}
        for name in features[0]:
            if name not in (IMAGE, "length"):
                batch[name] = torch.tensor([row[name] for row in features])
        return batch


def tokens_of(processor: BaseImageProcessor) -> int:
    """About how many tokens an image is to a model, whatever its size in the file."""
    height, width = size_of(processor)
    return 1 + height * width // _PATCH**2


def size_of(processor: BaseImageProcessor) -> tuple[int, int]:
    """Height and width, in pixels, of what a processor makes of any image."""
    from PIL import Image

    height, width = processor(Image.new("RGB", (64, 48)), return_tensors="pt")["pixel_values"].shape[-2:]
    return int(height), int(width)
