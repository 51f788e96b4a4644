"""Images and their labels: a folder with a subfolder for each class, or a table with the images' files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from analog_lora_cli.config.sections.image_classification import ImageClassificationSection
from analog_lora_cli.errors import DataError, UsageError
from analog_lora_cli.runtime.package_files import is_package_path
from analog_lora_cli.storage.files import file_sha256
from analog_lora_cli.tasks.data.files import Row, locate, read_table, shorten, text_value
from analog_lora_cli.tasks.data.source import SplitSource
from analog_lora_cli.tasks.image_classification.pixels import check_image, image_suffixes


@dataclass(frozen=True)
class _Image:
    """A row of an image set."""

    where: str
    """Its position, for messages, and as the identity of the data has it."""
    path: Path
    label: object


@dataclass(frozen=True)
class ImageSource(SplitSource):
    """Rows of images, each with the path of its file in `task.image_column` and its label in `task.label_column`."""

    config: ImageClassificationSection
    _images: dict[str, list[_Image]] = field(default_factory=dict)

    def locate(self, name: str, key: str) -> Path:
        """As `files.locate`, or a folder."""
        folder = Path(name).expanduser()
        return folder if not is_package_path(name) and folder.is_dir() else locate(name, key)

    def name(self, role: str) -> str:
        return str(self._place(role))

    def rows(self, role: str, columns: Sequence[str]) -> Iterator[Row]:
        image, label = self.config.image_column, self.config.label_column
        for one in self._read(role):
            yield Row(one.where, {image: str(one.path), label: one.label})

    def sha256(self, role: str) -> str:
        """Hash of all images of a role with their labels, wherever they lie."""
        content = hashlib.sha256()
        for one in self._read(role):
            content.update(f"{one.where}\0{one.label}\0{file_sha256(one.path)}\n".encode())
        return content.hexdigest()

    def _place(self, role: str) -> Path:
        role = self.file_role(role)
        name = self.config.validation_file if role == "validation" else self.config.train_file
        if name is None:
            raise UsageError(
                f"task.{role}_file: task {self.config.name} has no data set of its own: name a folder with a subfolder "
                "for each class, or a table with the images' files"
            )
        return self.locate(name, f"task.{role}_file")

    def _read(self, role: str) -> list[_Image]:
        role = self.file_role(role)
        if role not in self._images:
            place = self._place(role)
            self._images[role] = list(_in_folder(place) if place.is_dir() else self._in_table(place))
        return self._images[role]

    def _in_table(self, table: Path) -> Iterator[_Image]:
        """The images of a table; paths are relative to its folder."""
        column = self.config.image_column
        for row in read_table(table, [column, self.config.label_column]):
            what = f"{table}, {row.where}: column {column!r}"
            path = table.parent / Path(text_value(row.values[column], what).strip()).expanduser()
            if not path.is_file():
                raise DataError(f"{what}: there is no file {path}; paths are relative to the folder of the table")
            check_image(path, f"{what}: ")
            yield _Image(row.where, path, row.values[self.config.label_column])


def _in_folder(folder: Path) -> Iterator[_Image]:
    """The images of a folder: by class, then by name."""
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    suffixes = image_suffixes()
    beside = [path.name for path in entries if path.is_file() and path.suffix.lower() in suffixes]
    classes = [path for path in entries if path.is_dir()]
    if beside or not classes:
        why = f"the image {shorten(beside[0])} lies in no class" if beside else "there is no subfolder"
        raise DataError(f"{folder}: {why}; expected a subfolder for each class, with its images in it, or name a table")
    for one in classes:
        images = sorted(path for path in one.iterdir() if path.suffix.lower() in suffixes and path.is_file())
        if not images:
            raise DataError(f"{one}: there is no image in this folder of a class; remove it, or add images")
        for path in images:
            check_image(path)
            yield _Image(f"{one.name}/{path.name}", path, one.name)
