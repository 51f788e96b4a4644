"""Measured conductances of memory devices, from CSV."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from analog_lora_cli.errors import DataError

COLUMNS = ("device", "target_uS", "time_s", "measured_uS")
LEVELS, DEVICES, TIMES, DECADES = 4, 20, 3, 1.0
"""Least data of a fit: levels above 0 uS, devices of each level, reads of each device at different times, and the
decades of time that they span."""

_SHOWN = 8
"""Problems that one report lists."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Measurements:
    """Reads of devices; arrays of a row per device are padded to the largest number of reads."""

    names: list[str]
    target: Floats
    """(devices,): target conductance in uS."""
    time: Floats
    """(devices, reads): seconds after programming; 1 where there is no read."""
    measured: Floats
    """(devices, reads): conductance in uS; 0 where there is no read."""
    read: NDArray[np.bool_]
    """(devices, reads): whether there is one."""
    unused: list[str]
    """Columns of the file that a fit does not use."""

    @property
    def rows(self) -> int:
        """Number of reads of all devices."""
        return int(self.read.sum())

    @property
    def first_read(self) -> float:
        """Smallest time, in seconds after programming."""
        return float(self.time[self.read].min())

    @property
    def levels(self) -> Floats:
        """The different targets in uS, ascending."""
        return np.unique(self.target)


@dataclass
class _Device:
    line: int
    target: float
    times: list[float]
    measured: list[float]


def read_measurements(path: Path) -> Measurements:
    """Read a CSV file with the columns `COLUMNS`, in any order; blank lines and lines that begin with # are skipped.

    Raises:
        DataError: it cannot be read, or has wrong rows (with line, column and value), or too few data for a fit.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (byte {error.start}); save it as CSV in UTF-8") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    rows = _rows(path, text)
    _, header = next(rows, (0, []))
    places = _places(path, header)
    devices: dict[str, _Device] = {}
    problems: list[str] = []
    for line, row in rows:
        if len(row) != len(header):
            problems.append(f"line {line}: {len(row)} values, expected {len(header)} as in the header")
        else:
            problems += _add(devices, line, [row[place].strip() for place in places])
    if problems:
        more = [f"and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
        raise DataError("\n  - ".join([f"{path}: bad rows:", *problems[:_SHOWN], *more]))
    _check_enough(path, devices)
    unused = [name for place, name in enumerate(header) if place not in places]
    return _padded(devices, unused)


def _rows(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Each row with the number of its line."""
    # Comments become blank lines, so that line numbers stay those of the file.
    lines = ("" if line.lstrip().startswith("#") else line for line in text.splitlines())
    reader = csv.reader(lines)
    try:
        for row in reader:
            if any(value.strip() for value in row):
                yield reader.line_num, row
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num}: not CSV: {error}") from None


def _places(path: Path, header: list[str]) -> list[int]:
    """Position of each of `COLUMNS`."""
    names = [name.strip().lower() for name in header]
    if not names:
        raise DataError(f"{path}: is empty; expected the columns {','.join(COLUMNS)}")
    if len(names) == 1 and any(mark in names[0] for mark in ";\t"):
        raise DataError(f"{path}: columns are not separated by commas; save it as CSV with commas")
    for column in COLUMNS:
        count = names.count(column.lower())
        if count > 1:
            raise DataError(f"{path}: column {column} stands {count} times in the header")
        if not count:
            near = get_close_matches(column.lower(), names, n=1)
            hint = f"; is it what the file calls {header[names.index(near[0])].strip()}?" if near else ""
            raise DataError(
                f"{path}: no column {column}{hint}; the first line must name the columns {','.join(COLUMNS)}"
            )
    return [names.index(column.lower()) for column in COLUMNS]


def _add(devices: dict[str, _Device], line: int, values: list[str]) -> list[str]:
    """Add one row; the problems that it has."""
    name, *texts = values
    problems = [] if name else [f"line {line}, column device: is empty"]
    numbers: list[float] = []
    for column, text in zip(COLUMNS[1:], texts, strict=True):
        lowest = "above 0" if column == "time_s" else "of 0 or more"
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number) or number < 0 or (number == 0 and column == "time_s"):
            problems.append(f"line {line}, column {column}: expected a number {lowest}, got {text!r}")
        numbers.append(number)
    if problems:
        return problems
    target, time, measured = numbers
    device = devices.setdefault(name, _Device(line, target, [], []))
    if device.target != target:
        return [
            f"line {line}, column target_uS: device {name} has {target:g} uS here, {device.target:g} uS in line "
            f"{device.line}; give a device that was programmed anew another name"
        ]
    device.times.append(time)
    device.measured.append(measured)
    return []


def _check_enough(path: Path, devices: dict[str, _Device]) -> None:
    missing: list[str] = []
    counts: dict[float, int] = {}
    for device in devices.values():
        counts[device.target] = counts.get(device.target, 0) + 1
    above = [level for level in counts if level > 0]
    if len(above) < LEVELS:
        missing.append(f"target_uS: {len(above)} levels above 0 uS, {LEVELS} are needed")
    rare = [f"{level:g} uS ({counts[level]})" for level in sorted(counts) if counts[level] < DEVICES]
    if rare:
        missing.append(f"device: {DEVICES} devices are needed at each level; too few at {_listed(rare)}")
    short = [f"{name} ({len(set(d.times))})" for name, d in devices.items() if len(set(d.times)) < TIMES]
    if short:
        missing.append(f"time_s: {TIMES} different times are needed for each device; too few of {_listed(short)}")
    narrow = [name for name, d in devices.items() if max(d.times) < min(d.times) * 10**DECADES * (1 - 1e-9)]
    if narrow and not short:
        missing.append(
            f"time_s: a device's last read must be {10**DECADES:g} times later than its first, or drift cannot be told "
            f"from read noise; too early for {_listed(narrow)}"
        )
    if missing:
        raise DataError("\n  - ".join([f"{path}: too few measurements for a fit:", *missing]))


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _padded(devices: dict[str, _Device], unused: list[str]) -> Measurements:
    shape = (len(devices), max(len(device.times) for device in devices.values()))
    time, measured, read = np.ones(shape), np.zeros(shape), np.zeros(shape, dtype=bool)
    for index, device in enumerate(devices.values()):
        reads = len(device.times)
        time[index, :reads], measured[index, :reads], read[index, :reads] = device.times, device.measured, True
    target = np.array([device.target for device in devices.values()])
    return Measurements(list(devices), target, time, measured, read, unused)
