"""Smoothing over time of the positions of one joint, in 2D or 3D: low-pass filters for true, also uneven, times."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy import ndarray as Array

_UNEVEN = 0.02  # frame intervals by which times may differ from an even grid
_FINEST = 4  # an even grid for uneven times has at most so many points per median frame interval


def curve(time: Array, values: Array) -> Callable[[Array], Array]:
    """A smooth curve through values (T, C) at times (T,) s, T of at least 2, which hardly swings beyond them."""
    from scipy.interpolate import Akima1DInterpolator

    if len(time) < 3:
        return lambda at: np.stack([np.interp(at, time, column) for column in values.T], axis=-1)
    return Akima1DInterpolator(time, values, axis=0, method="makima")  # type: ignore[no-any-return]


def butterworth(time: Array, values: Array, *, cutoff_hz: float, order: int = 4) -> Array:
    """Values (T, C) at times (T,) s without what is faster than the cutoff, and without lag.

    Forwards and backwards, `order` in all, so that of the cutoff frequency 71 % (-3 dB) are left. Uneven times: the
    curve through the values is filtered on a fine even grid and read at the same times. Values of a constant speed
    stay as they are. Raises ValueError where the cutoff is not below half the frame rate.
    """
    from scipy.signal import butter, sosfiltfilt

    if len(time) < 3:
        return values.copy()
    steps = np.diff(time)
    step = float(np.median(steps))
    if not cutoff_hz * step < 0.5:
        raise ValueError(f"butterworth: a cutoff below {0.5 / step:.4g} Hz was expected, got {cutoff_hz:g}")
    grid, gridded = time, values
    if not is_even(time):
        step = max(float(np.percentile(steps, 10)), step / _FINEST)
        grid = np.linspace(time[0], time[-1], int(np.ceil((time[-1] - time[0]) / step)) + 1)
        gridded, step = curve(time, values)(grid), float(grid[1] - grid[0])
    each = order // 2
    # Two passes square the response: each is widened so that both together leave 1/sqrt(2) at the cutoff.
    widened = np.arctan(np.tan(np.pi * cutoff_hz * step) / (np.sqrt(2) - 1) ** (0.5 / each)) / np.pi
    sections = butter(each, widened, fs=1.0, output="sos")
    pad = min(len(grid) - 1, max(15, round(1 / (cutoff_hz * step))))
    filtered: Array = sosfiltfilt(sections, gridded, axis=0, padlen=pad)
    return filtered if grid is time else np.asarray(curve(grid, filtered)(time))


def is_even(time: Array) -> bool:
    """Whether times (T,), T of at least 2, differ from an even grid by less than 2 % of a step."""
    grid = np.linspace(time[0], time[-1], len(time))
    return bool(np.abs(time - grid).max() <= _UNEVEN * (grid[1] - grid[0]))


def one_euro(time: Array, values: Array, *, cutoff_hz: float, rise: float) -> Array:
    """Values (T, C) at times (T,) s by the 1-euro filter (Casiez et al. 2012); lags a little.

    cutoff_hz  for a joint at rest
    rise       Hz by which the cutoff rises per unit of speed
    """
    out, speed = values.copy(), np.zeros(values.shape[1])
    for t in range(1, len(time)):
        step = time[t] - time[t - 1]
        speed += _weight(1.0, step) * ((values[t] - values[t - 1]) / step - speed)
        weight = _weight(cutoff_hz + rise * float(np.linalg.norm(speed)), step)
        out[t] = out[t - 1] + weight * (values[t] - out[t - 1])
    return out


def _weight(cutoff_hz: float, step: float) -> float:
    """Weight of a new value in a first-order low-pass."""
    return 1.0 / (1.0 + 1.0 / (2 * np.pi * cutoff_hz * step))
