"""The labels of all rows of a file, found in one pass and without the texts."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analog_lora_cli.tasks.scores import Column

Numbers = npt.NDArray[np.int32]


@dataclass(frozen=True)
class LabelScan:
    """Names of the classes of all rows, each row with any number of them."""

    rows: int
    """Number of rows."""
    row: Numbers
    """(L,) row of each label, ascending."""
    code: Numbers
    """(L,) index into `names` of each label."""
    names: Sequence[str]
    """Names in the order of their first rows."""
    places: Sequence[str]
    """Position of the first row of each."""

    @classmethod
    def of(cls, labels: Iterator[tuple[str, Sequence[str]]]) -> LabelScan:
        """The scan of the position and the labels of each row."""
        number_of: dict[str, int] = {}
        places: list[str] = []
        rows, codes = array("i"), array("i")
        row = -1
        for row, (place, names) in enumerate(labels):
            for name in names:
                if name not in number_of:
                    number_of[name] = len(number_of)
                    places.append(place)
                rows.append(row)
                codes.append(number_of[name])
        row_of, code_of = np.array(rows, dtype=np.int32), np.array(codes, dtype=np.int32)
        return cls(row + 1, row_of, code_of, list(number_of), places)

    def names_in(self, rows: npt.NDArray[np.intp]) -> list[str]:
        """Names that some rows have."""
        return [self.names[code] for code in np.unique(self.code[self._mask(rows)[self.row]])]

    def place(self, name: str) -> str:
        """Position of the first row with a name."""
        return self.places[self.names.index(name)]

    def classes(self, rows: npt.NDArray[np.intp], names: Sequence[str]) -> Column:
        """Index into `names` of the label of some rows that have one each, among `names`, (N,)."""
        classes: Column = self._number_of(names)[self.code[rows]]
        return classes

    def sets(self, rows: npt.NDArray[np.intp], names: Sequence[str]) -> Column:
        """Whether some rows, whose labels are among `names`, have each of them: 0 or 1, (N, C)."""
        chosen = self._mask(rows)[self.row]
        position = np.zeros(self.rows, dtype=np.intp)
        position[rows] = np.arange(len(rows))
        members: Column = np.zeros((len(rows), len(names)), dtype=np.int8)
        members[position[self.row[chosen]], self._number_of(names)[self.code[chosen]]] = 1
        return members

    def _number_of(self, names: Sequence[str]) -> Numbers:
        """Index into `names` of each name of the file; -1: none."""
        number_of = {name: number for number, name in enumerate(names)}
        return np.array([number_of.get(name, -1) for name in self.names], dtype=np.int32)

    def _mask(self, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
        mask = np.zeros(self.rows, dtype=bool)
        mask[rows] = True
        return mask
