"""Fit of a device's programming noise, drift and read noise to measured conductances.

The model is aihwkit's `PCMLikeNoiseModel`: a device read at time t shows

    G(t) = g (t / t_0)^-nu (1 + Q(g) L(t) e),    L(t) = sqrt(ln((t + t_read) / (2 t_read))),  e normal

with g, the conductance that programming left, normal around the target, nu normal among devices of one target. The
three noises are told apart device by device: the straight line through a device's reads over ln(t) gives nu, the
scatter around the line the read noise. What the scatter adds to the variance of nu and of g is subtracted.

    1. each device: gamma regression of G on ln(t / t_0) with a logarithmic link, so that relative noise of any size
       biases nothing; nu, and Q^2 from the residuals
    2. each level: mean of nu, and its variance among devices less that of the regression
    3. levels whose reads scatter too much say nothing about drift; the laws stay constant beyond the others
    4. g of each device at t_0 by generalized least squares, nu known from 2 up to its spread; variance around the
       target. Near 0 uS, where conductances cannot fall below 0, from the devices above their target alone

Intervals come from resampling the devices of each level.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analog_lora_cli.config.device_file import ClippedLaw, DeviceConstants, ReadNoise
from analog_lora_cli.errors import DataError
from analog_lora_cli.hardware.physics.clipped_law import fit_clipped_line
from analog_lora_cli.hardware.physics.device_laws import flat_constants, law_values, relative_read_noise
from analog_lora_cli.hardware.physics.device_measurements import LEVELS, Measurements

Floats = NDArray[np.float64]
RESAMPLINGS = 200
MOST_SCATTER = 0.35
"""Relative read noise up to which a level says something about drift."""

_ITERATIONS = 30
_GROUP = 40
"""Devices of like conductance whose read noise is averaged."""
_SIDED = 3.0
"""Targets below so many standard deviations are near 0 uS."""
_TINY = 1e-9


@dataclass(frozen=True)
class Points:
    """Estimates with their standard errors against the conductance."""

    g_uS: Floats
    value: Floats
    error: Floats


@dataclass(frozen=True)
class DeviceFit:
    """A device's constants, and what they were fitted to."""

    constants: DeviceConstants
    intervals: dict[str, tuple[float, float]]
    """95 % interval of each constant by its dotted key; a coefficient's ends in `[i]`."""
    programming: Points
    """Standard deviation of the programming error in uS."""
    drift_mean: Points
    drift_spread: Points
    read_noise: Points
    """Standard deviation relative to the conductance, without the factor of time."""


@dataclass(frozen=True)
class _Lines:
    """The regression of each device over x = ln(t / t_0)."""

    target: Floats
    x: Floats
    weight: Floats
    """(devices, reads): 1 / L(t)^2; 0 where there is no read."""
    measured: Floats
    exponent: Floats
    read_variance: Floats
    """Q^2."""
    exponent_variance: Floats
    """Variance of the exponent for each unit of Q^2."""

    def of(self, index: NDArray[np.int64]) -> _Lines:
        return _Lines(**{name: values[index] for name, values in vars(self).items()})


def fit_device(measurements: Measurements, t_read: float = 250e-9, source: str = "", seed: int = 0) -> DeviceFit:
    """Fit the constants of a device.

    Args:
        measurements: reads of devices.
        t_read: duration of one read, in seconds; read noise accumulates from there on.
        source: file of the measurements, for messages.
        seed: of the resampling.

    Raises:
        DataError: too few levels can be read well enough, or the reads begin before one read is over.
    """
    scale = float(measurements.target.max()), measurements.first_read, t_read
    try:
        lines = _regress(measurements, t_read)
        constants, *points = _constants(lines, scale)
    except DataError as error:
        raise DataError(f"{source}: {error}" if source else str(error)) from None
    drawn: dict[str, list[float]] = {}
    random = np.random.default_rng(seed)
    members = [np.flatnonzero(measurements.target == level) for level in measurements.levels]
    for _ in range(RESAMPLINGS):
        index = np.concatenate([random.choice(group, len(group)) for group in members])
        try:
            resampled, *_ = _constants(lines.of(index), scale)
        except DataError:  # A level at the limit of what can be used fell out.
            continue
        for key, value in flat_constants(resampled).items():
            drawn.setdefault(key, []).append(value)
    intervals = {}
    for key, value in flat_constants(constants).items():
        low, high = np.percentile(drawn.get(key, [value]), [2.5, 97.5])
        intervals[key] = (float(low), float(high))
    return DeviceFit(constants, intervals, *points)


def _regress(data: Measurements, t_read: float) -> _Lines:
    if data.first_read < t_read:
        raise DataError(
            f"column time_s: the first read ({data.first_read:g} s) is before one read is over ({t_read:g} s): "
            "expected seconds after programming"
        )
    x = np.log(data.time / data.first_read) * data.read
    weight = np.where(data.read, 1.0 / np.log((data.time + t_read) / (2 * t_read)), 0.0)
    a, b, c = weight.sum(1), (weight * x).sum(1), (weight * x * x).sum(1)
    determinant = a * c - b * b
    floor = _TINY * float(data.target.max())
    eta = np.log(np.maximum((weight * data.measured).sum(1) / a, floor))[:, None] + np.zeros_like(x)
    for _ in range(_ITERATIONS):
        working = eta + np.clip(data.measured / np.exp(eta) - 1.0, -2.0, 2.0)
        p, q = (weight * working).sum(1), (weight * x * working).sum(1)
        slope = np.clip((a * q - b * p) / determinant, -3.0, 3.0)
        eta = ((p - b * slope) / a)[:, None] + slope[:, None] * x
    residual = data.measured / np.exp(eta) - 1.0
    variance = (weight * residual**2).sum(1) / (data.read.sum(1) - 2)
    return _Lines(data.target, x, weight, data.measured, -slope, variance, a / determinant)


def _constants(
    lines: _Lines, scale: tuple[float, float, float]
) -> tuple[DeviceConstants, Points, Points, Points, Points]:
    g_max, t_0, t_read = scale
    levels = np.unique(lines.target)
    used = _readable(lines, levels)
    mean_points, spread_points = _exponents(lines, used)
    mean, spread = _law(mean_points, g_max), _law(spread_points, g_max)
    read_points = _read_noise(lines, used, g_max)
    read_noise = _read_law(read_points, g_max)
    known = DeviceConstants(
        g_max_uS=g_max,
        t_0_s=t_0,
        t_read_s=t_read,
        programming_noise_uS=[0.0],
        drift_mean=mean,
        drift_spread=spread,
        read_noise=read_noise,
    )
    programming = _programming(lines, levels, float(used.min()), known)
    constants = known.model_copy(update={"programming_noise_uS": _polynomial(programming, g_max)})
    return constants, programming, mean_points, spread_points, read_points


def _readable(lines: _Lines, levels: Floats) -> Floats:
    """Levels whose reads scatter little enough around the devices' lines."""
    time = 1.0 / np.mean(lines.weight[lines.weight > 0])
    used = []
    for level in levels[levels > 0]:
        variance = float(np.mean(lines.read_variance[lines.target == level])) * time
        if variance <= MOST_SCATTER**2:
            used.append(level)
    if len(used) < LEVELS:
        raise DataError(
            f"only {len(used)} levels have reads that scatter less than {MOST_SCATTER:.0%} around their devices' "
            f"drift; {LEVELS} are needed: add levels at larger target_uS, or average several reads"
        )
    return np.array(used, dtype=np.float64)


def _exponents(lines: _Lines, used: Floats) -> tuple[Points, Points]:
    """Mean and spread of the drift exponent at each level."""
    rows = []
    for level in used:
        at = lines.target == level
        exponent, count = lines.exponent[at], int(at.sum())
        total = float(np.var(exponent, ddof=1))
        of_reads = float(np.mean(lines.read_variance[at]) * np.mean(lines.exponent_variance[at]))
        spread = float(np.sqrt(max(total - of_reads, 0.0)))
        # Standard error of a standard deviation, with a floor where nearly all variance is the reads'.
        error = total * np.sqrt(2.0 / count) / (2 * max(spread, 0.3 * np.sqrt(total), _TINY))
        rows.append((float(exponent.mean()), max(np.sqrt(total / count), _TINY), spread, max(error, _TINY)))
    mean, mean_error, spreads, spread_error = np.array(rows).T
    return Points(used, mean, mean_error), Points(used, spreads, spread_error)


def _law(points: Points, g_max: float) -> ClippedLaw:
    slope, intercept, first, last = fit_clipped_line(np.log(points.g_uS / g_max), points.value, points.error)
    low, high = sorted(max(slope * at + intercept, 0.0) for at in (first, last))
    return ClippedLaw(slope=slope, intercept=intercept, min=low, max=high)


def _read_noise(lines: _Lines, used: Floats, g_max: float) -> Points:
    """Root mean square of Q over groups of devices of like conductance."""
    at = np.isin(lines.target, used)
    weight, x, exponent = lines.weight[at], lines.x[at], lines.exponent[at]
    first = (weight * lines.measured[at] * np.exp(exponent[:, None] * x)).sum(1) / weight.sum(1)
    order = np.argsort(first)
    order = order[first[order] > 1e-3 * g_max]
    rows = []
    for group in np.array_split(order, max(LEVELS, len(order) // _GROUP)):
        q = max(float(np.sqrt(np.mean(lines.read_variance[at][group]))), _TINY)
        reads = float(np.sum((weight[group] > 0).sum(1) - 2))
        rows.append((float(np.exp(np.mean(np.log(first[group])))), q, q / np.sqrt(2 * reads)))
    return Points(*np.array(rows).T)


def _read_law(points: Points, g_max: float) -> ReadNoise:
    slope, intercept, first, last = fit_clipped_line(
        np.log(points.g_uS / g_max), np.log(points.value), points.error / points.value, upper=False
    )
    exponent = float(np.clip(-slope, -2.0, 2.0))
    largest = max(float(np.exp(intercept + slope * at)) for at in (first, last))
    return ReadNoise(factor=float(np.exp(intercept)), exponent=exponent, max=largest)


def _programming(lines: _Lines, levels: Floats, lowest: float, known: DeviceConstants) -> Points:
    """Standard deviation of the programming error at each level, in uS."""
    rows = []
    for level in levels:
        at = lines.target == level
        x, weight, measured = lines.x[at], lines.weight[at], lines.measured[at]
        relative = np.array([max(level, float(np.median(measured[weight > 0]))) / known.g_max_uS])
        mean, spread = (float(law_values(law, relative)[0]) for law in (known.drift_mean, known.drift_spread))
        q = max(float(relative_read_noise(known, relative)[0]), 1e-6)
        # Below the levels whose drift was fitted its mean is uncertain too: early reads count more.
        unknown = spread if level >= lowest else float(np.hypot(spread, mean / 2))
        # Inverse of Q^2 L(t)^2 + unknown^2 x x': noise of the reads, and the exponent.
        inverse = weight / q**2
        b, c = (inverse * x).sum(1), (inverse * x * x).sum(1)
        solved = inverse - inverse * x * (unknown**2 * b / (1 + unknown**2 * c))[:, None]
        precision = solved.sum(1)
        at_first = measured * np.exp(mean * x - 0.5 * (spread * x) ** 2)
        programmed = (solved * at_first).sum(1) / precision
        noise = float(np.mean(1.0 / precision))
        rows.append(_level_spread(level, programmed, noise))
    sigma, error = np.array(rows).T
    return Points(levels, sigma, error)


def _level_spread(level: float, programmed: Floats, noise: float) -> tuple[float, float]:
    """Standard deviation of the programming error at one level and its standard error, in uS.

    Args:
        level: target in uS.
        programmed: (devices,): estimates of the conductance that programming left, in uS.
        noise: their relative variance by read noise and drift.
    """

    def spread(values: Floats) -> float:
        of_reads = noise / (1 + noise) * float(np.mean(values**2))
        return float(np.sqrt(max(float(np.mean((values - level) ** 2)) - of_reads, 0.0)))

    used = programmed
    if level < _SIDED * spread(used) or level == 0:
        above = programmed[programmed > level]
        used = above if len(above) > 1 else used
    sigma = spread(used)
    total = float(np.sqrt(np.mean((used - level) ** 2)))
    return sigma, max(total**2 / max(sigma, 0.3 * total, _TINY), _TINY) / np.sqrt(2 * len(used))


def _polynomial(points: Points, g_max: float) -> list[float]:
    """Coefficients of the programming noise, of the highest degree up to 2 that is nowhere below 0."""
    g = points.g_uS / g_max
    for degree in (2, 1, 0):
        coefficients = np.polynomial.polynomial.polyfit(g, points.value, degree, w=1.0 / points.error)
        if (np.polynomial.polynomial.polyval(np.linspace(0, 1, 101), coefficients) >= 0).all():
            break
    return [float(value) for value in [*coefficients, 0.0, 0.0][:3]]
