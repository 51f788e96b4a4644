"""Calibration of input ranges: a layer's inputs are counted, and a rule turns the counts into ranges."""

from __future__ import annotations

import torch
from torch import Tensor

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.errors import AnaloraError
from analog_lora_cli.hardware.tile.converters import Converters
from analog_lora_cli.hardware.tile.grid import TileGrid

_DROPPED_BITS = 16
_BINS = 1 << (31 - _DROPPED_BITS)
_INFINITY = 0x7F800000 >> _DROPPED_BITS
SMALLEST_SHARE = 64
"""Rule `mse` looks for the best range down to the largest input divided by this."""


class InputStatistics:
    """Counts of the magnitudes of inputs in bins 1/128 wide relative to their magnitude, and the first two moments.

    Whatever the order in which inputs come, and however they are cut into batches, the counts are the same.
    """

    def __init__(self) -> None:
        self.counts = torch.zeros(_BINS, dtype=torch.int64)
        self.largest = 0.0
        self._sum = 0.0
        self._squares = 0.0

    def add(self, x: Tensor) -> None:
        """Count inputs of any shape.

        Raises:
            AnaloraError: one is not finite.
        """
        values = x.detach().float().reshape(-1)
        # The upper bits of a float32 without its sign: the exponent and the first seven bits of the mantissa.
        bins = values.abs().view(torch.int32) >> _DROPPED_BITS
        counts = torch.bincount(bins, minlength=_BINS).cpu()
        if int(counts[_INFINITY:].sum()):
            raise AnaloraError("an input of an analog layer is not finite, so that its range cannot be calibrated")
        self.counts += counts
        if len(values):
            self.largest = max(self.largest, float(values.abs().max()))
            self._sum += float(values.double().sum())
            self._squares += float(values.double().square().sum())

    @property
    def number(self) -> int:
        """Number of inputs."""
        return int(self.counts.sum())

    def std(self) -> float:
        """Standard deviation of the inputs."""
        mean = self._sum / max(self.number, 1)
        return float(max(self._squares / max(self.number, 1) - mean * mean, 0.0) ** 0.5)

    def percentile(self, percent: float) -> float:
        """The magnitude that this share of the inputs do not exceed."""
        if percent >= 100:
            return self.largest
        cumulative = self.counts.cumsum(0).double()
        target = percent / 100 * self.number
        index = min(int(torch.searchsorted(cumulative, torch.tensor(target, dtype=torch.float64))), _BINS - 1)
        if index == 0:  # Zeros, and what float32 can hardly tell from them.
            return 0.0
        before = float(cumulative[index] - self.counts[index])
        share = (target - before) / max(int(self.counts[index]), 1)
        low, high = _magnitudes(torch.tensor([index, index + 1]), 0).tolist()
        return float(min(low + share * (high - low), self.largest))

    def least_error(self, dac_step: float) -> float:
        """The range with the least squared error of the DAC's output.

        An input x and a range r with steps d = r dac_step: beyond r the error is |x| - r, below half a step it is |x|,
        between them it is uniform, d^2 / 12 in the mean.

        Args:
            dac_step: distance of two levels, relative to the range; 0: an ideal DAC, so that nothing is clipped.
        """
        if dac_step == 0 or self.largest == 0:
            return self.largest
        occupied = self.counts.nonzero()[:, 0]
        magnitude, count = _magnitudes(occupied, 1 << (_DROPPED_BITS - 1)).double(), self.counts[occupied].double()
        smallest = torch.tensor(self.largest / SMALLEST_SHARE).view(torch.int32) >> _DROPPED_BITS
        candidates = _magnitudes(torch.arange(int(smallest), int(occupied[-1]) + 1), 0).double()
        candidates = torch.cat([candidates, torch.tensor([self.largest], dtype=torch.float64)])
        errors = []
        for limit in candidates:
            step = limit * dac_step
            error = torch.where(magnitude < step / 2, magnitude**2, step**2 / 12)
            errors.append((torch.where(magnitude > limit, (magnitude - limit) ** 2, error) * count).sum())
        return float(candidates[torch.stack(errors).argmin()])


def _magnitudes(bins: Tensor, offset: int) -> Tensor:
    """The magnitudes at an offset, in units of a float32's last bit, from the beginnings of bins."""
    return ((bins << _DROPPED_BITS) + offset).to(torch.int32).view(torch.float32)


class LayerInputs:
    """Statistics of the inputs of each row of tiles of a layer."""

    def __init__(self, grid: TileGrid, hardware: HardwareConfig) -> None:
        self.grid = grid
        self.hardware = hardware
        self.rows = [InputStatistics() for _ in grid.rows]

    def add(self, x: Tensor) -> None:
        """Count inputs (..., in_features).

        Raises:
            AnaloraError: one is not finite.
        """
        for statistics, (start, stop) in zip(self.rows, self.grid.rows, strict=True):
            statistics.add(x[..., start:stop])

    def ranges(self) -> Tensor:
        """(rows of tiles,): the ranges by `hardware.input_range_rule`, positive.

        Where the rule gives 0, because nearly all inputs are 0, it is the largest input; 1 where all are 0.
        """
        return torch.tensor([self._range(statistics) or statistics.largest or 1.0 for statistics in self.rows])

    def _range(self, statistics: InputStatistics) -> float:
        parameter = self.hardware.range_parameter
        match self.hardware.input_range_rule:
            case "percentile":
                return statistics.percentile(parameter)
            case "std":
                return parameter * statistics.std()
            case "mse":
                return statistics.least_error(Converters.of(self.hardware).dac_step)
