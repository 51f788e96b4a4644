"""Log of finished measurements, so that an interrupted evaluation goes on where it stopped."""

from __future__ import annotations

import base64
import binascii
import errno
import json
import os
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from analog_lora_cli.config.flat import flatten
from analog_lora_cli.errors import UsageError
from analog_lora_cli.evaluation.measurement import CalibrationCost, Measurement
from analog_lora_cli.storage.files import saving, write_text
from analog_lora_cli.tasks.scores import Column, Columns, Scores

Metrics = dict[str, float]
CHECK = "crc32"
"""Key of a line's checksum, over the rest of the line."""


@dataclass
class Measurements:
    """Finished measurements of one adapter under the same conditions."""

    scores: dict[Measurement, Scores] = field(default_factory=dict)
    truth: Columns | None = None
    """Columns that all measurements share, by set and name: `validation.label`; None: not known yet."""
    calibrations: dict[Measurement, CalibrationCost] = field(default_factory=dict)
    """Costs of the recalibrations, by the measurements after them."""


class MeasurementLog:
    """Finished measurements on disk, one JSON line each, so that an interrupted evaluation can go on.

    The first line is the key, the second one the columns that all measurements share. Columns are float32, little
    endian, compressed with zlib, as base64.

    Args:
        path: path of the file.
        key: all that the measurements depend on; those of another key are never used.
    """

    def __init__(self, path: Path, key: dict[str, object]) -> None:
        self.path = path
        self.key = key

    def read(self) -> Measurements:
        """All finished measurements; a line cut off by a kill, or damaged since, is left out.

        Raises:
            UsageError: the file holds measurements of another key.
        """
        self.check()
        results = Measurements()
        if not self.path.is_file():
            return results
        for line in self.path.read_bytes().split(b"\n")[1:]:
            entry = _parse(line)
            if not isinstance(entry, dict) or entry.pop(CHECK, None) != _checksum(entry):
                continue
            samples = {name: _decoded(text) for name, text in entry["samples"].items()}
            if "measurement" in entry:
                measurement = Measurement.parse(entry["measurement"])
                results.scores[measurement] = Scores(entry["metrics"], samples)
                if "calibration" in entry:
                    results.calibrations[measurement] = CalibrationCost(**entry["calibration"])
            else:
                results.truth = samples
        return results

    def check(self) -> None:
        """Check that the file, if there is one, holds measurements of this key.

        Raises:
            UsageError: it holds those of another.
        """
        if not self.path.is_file():
            return
        with self.path.open("rb") as file:
            key = _parse(file.readline().rstrip(b"\n"))
        if key != self.key:
            raise UsageError(
                f"{self.path.parent}: holds measurements of another configuration "
                f"({_difference(key, self.key)}); use --overwrite or another folder"
            )

    def start(self, truth: Columns) -> None:
        """Make the file ready for `append`: once, by one process, before any of them appends.

        Args:
            truth: the columns that all measurements share.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        whole = self.path.read_bytes() if self.path.is_file() else b""
        if not whole:
            write_text(self.path, json.dumps(self.key) + "\n")
        elif not whole.endswith(b"\n"):
            self._write("")
        if self.read().truth is None:
            self._add({"samples": _encoded(truth)})

    def append(self, measurement: Measurement, scores: Scores, calibration: CalibrationCost | None = None) -> None:
        """Add one measurement; it is on disk when this returns. Several processes may do so.

        Args:
            measurement: the measurement.
            scores: its result.
            calibration: cost of the recalibration before it; None without one.
        """
        cost = {} if calibration is None else {"calibration": asdict(calibration)}
        samples = _encoded(scores.samples)
        self._add({"measurement": measurement.key(), "metrics": scores.metrics, "samples": samples, **cost})

    def _add(self, entry: dict[str, object]) -> None:
        self._write(json.dumps(entry | {CHECK: _checksum(entry)}))

    def _write(self, line: str) -> None:
        content = line.encode() + b"\n"
        with saving(self.path):
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                # One call a line: appends of several processes do not mix.
                if os.write(descriptor, content) < len(content):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _parse(line: bytes) -> object:
    try:
        content: object = json.loads(line)
        return content
    except (ValueError, RecursionError):
        return None


def _encoded(columns: Columns) -> dict[str, str]:
    return {
        name: base64.b64encode(zlib.compress(np.asarray(values, dtype="<f4").tobytes())).decode()
        for name, values in columns.items()
    }


def _decoded(text: str) -> Column:
    return np.frombuffer(zlib.decompress(binascii.a2b_base64(text)), dtype="<f4")


def _checksum(entry: Mapping[str, object]) -> int:
    return zlib.crc32(json.dumps(entry, sort_keys=True).encode())


def _difference(old: object, new: dict[str, object]) -> str:
    if not isinstance(old, dict):
        return "its first line is damaged"
    if old.get("format") != new.get("format"):
        return "another version of analora measured them, whose chips are other draws"
    flat_old, flat_new = flatten(old), flatten(new)
    keys = [key for key in flat_old.keys() | flat_new.keys() if flat_old.get(key) != flat_new.get(key)]
    shown = sorted(keys)[:3]
    return "; ".join(f"{key}: {flat_old.get(key)!r} there, {flat_new.get(key)!r} here" for key in shown)
