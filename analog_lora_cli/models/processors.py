"""What turns samples into a model's inputs: tokenizers of texts, image processors of images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

from analog_lora_cli.config.schema import Config
from analog_lora_cli.config.sections.task import Modality
from analog_lora_cli.errors import UsageError
from analog_lora_cli.models.families import family_of
from analog_lora_cli.models.loading import load_image_processor, load_tokenizer
from analog_lora_cli.tasks.image_classification.pixels import size_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from analog_lora_cli.tasks.base import Processor


class Processors(ABC):
    """A kind of processor."""

    @abstractmethod
    def load(self, source: str, revision: str | None = None) -> Processor:
        """The processor of a model.

        Raises:
            HubError: it cannot be fetched.
            UsageError: the folder or the repository does not hold it, or a package is missing.
        """

    @abstractmethod
    def prepare(self, processor: Processor, config: Config, source: str, model: PreTrainedModel) -> None:
        """Check that a processor suits a model, and set it up.

        Args:
            processor: result of `load`.
            config: configuration of the model and its task.
            source: folder or hub id of the model, for messages.
            model: the model with its head.

        Raises:
            UsageError: it does not suit the model, or the task asks for longer inputs than the model takes.
        """


class Tokenizers(Processors):
    """Tokenizers of texts."""

    def load(self, source: str, revision: str | None = None) -> Processor:
        return load_tokenizer(source, revision)

    def prepare(self, processor: Processor, config: Config, source: str, model: PreTrainedModel) -> None:
        longest, most = config.task.longest, getattr(model.config, "max_position_embeddings", None)
        if longest is not None and most is not None and longest > most:
            raise UsageError(f"task.max_length: {longest} is more than the {most} tokens that the model takes")
        vocabulary = model.get_input_embeddings().num_embeddings
        if len(processor) > vocabulary:
            raise UsageError(
                f"model.name: {source}: the tokenizer has {len(processor)} tokens, the model only {vocabulary}"
            )
        family_of(model.config).prepare_tokenizer(processor)


class ImageProcessors(Processors):
    """Image processors. They compute with Pillow, so that the pixels are the same with and without torchvision."""

    def load(self, source: str, revision: str | None = None) -> Processor:
        return load_image_processor(source, revision)

    def prepare(self, processor: Processor, config: Config, source: str, model: PreTrainedModel) -> None:
        size = getattr(model.config, "image_size", None)
        height, width = size_of(processor)
        if size is not None and (height, width) != ((size, size) if isinstance(size, int) else tuple(size)):
            raise UsageError(
                f"model.name: {source}: the image processor makes images of {height} x {width} pixels, the model takes "
                f"{size}: correct preprocessor_config.json, or use another model"
            )


PROCESSORS: Mapping[Modality, Processors] = {"text": Tokenizers(), "image": ImageProcessors()}


def processors_of(config: Config) -> Processors:
    """The kind of processor that a configuration's task needs."""
    return PROCESSORS[config.task.modality]


def load_processor(config: Config, source: str, revision: str | None = None) -> Processor:
    """The processor that a configuration's task needs; errors as for `Processors.load`."""
    return processors_of(config).load(source, revision)
