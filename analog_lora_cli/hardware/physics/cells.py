"""Cells of a tile as a chip simulates them: what they were programmed to, and what a read finds at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

from analog_lora_cli.hardware.physics.conductances import TileConductances
from analog_lora_cli.hardware.seeds import derive_seed

if TYPE_CHECKING:
    from aihwkit.inference.converter.base import BaseConductanceConverter


@dataclass(frozen=True)
class TileKey:
    """Identity of a tile: all that its random numbers depend on, besides their purpose."""

    chip: int
    """Seed of the chip."""
    layer: str
    row: int
    column: int

    def seed(self, *purpose: object) -> int:
        """Seed of the numbers for a purpose, such as `"read", 3600.0, 0`."""
        return derive_seed(self.chip, self.layer, self.row, self.column, *purpose)

    def of_pairs(self, count: int, purpose: str, *more: object) -> list[int]:
        """Seeds of the numbers of each pair of devices for a purpose."""
        return [self.seed(purpose, pair, *more) for pair in range(count)]


class ProgrammedTile(Protocol):
    """One tile after programming, as if no device were stuck; reference columns come last among its columns."""

    @property
    def weight(self) -> Tensor:
        """(columns, rows) in tile units: before any read."""

    @property
    def scale(self) -> float:
        """uS for each tile unit of weight."""

    @property
    def offset(self) -> float:
        """Single device: weight at g_min, in tile units. Pairs: 0."""

    def read(self, seconds: float, number: int) -> Tensor:
        """What a read finds, (columns, rows) in tile units.

        Args:
            seconds: time after programming, in seconds.
            number: number of the reading; another one has other read noise.
        """

    def devices(self, seconds: float, number: int) -> TileConductances:
        """The conductances behind `read`, on the scale of the programming, see `on_scale_of`."""


class CellModel(Protocol):
    """A memory device with its conversion between weights and conductances."""

    @property
    def converter(self) -> BaseConductanceConverter:
        """aihwkit's converter between weights and conductances."""

    def program(self, key: TileKey, target: Tensor) -> ProgrammedTile:
        """Program one tile; the result depends on the arguments alone.

        Args:
            key: the tile.
            target: (columns, rows), in tile units.
        """
