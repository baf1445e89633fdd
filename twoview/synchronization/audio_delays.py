"""The coarse delays of two recordings: the cepstra of both, correlated over all delays at once.

A lag is how much later a moment of b is in a, seconds from the first sample of each.
"""

from __future__ import annotations

import numpy as np
from numpy import ndarray as Array
from scipy import fft

from twoview.config import SyncConfig
from twoview.synchronization.audio_features import HOP_S, Sound, power_spectrum
from twoview.timeline import ClockMap

_SEGMENT_S = 120.0  # cepstra are compared in segments of this length: over longer ones, drift smears the peak
_PEAKS, _APART_S, _LEAST_SHARE = 4, 0.06, 0.6  # coarse peaks kept; least distance; least height, of the highest
_EXTRA_OVERLAP_S = 4.0  # added to the overlap when sums are compared: few seconds agree by chance more easily
_REPEATS, _LEAST_LOOP_S = 0.25, 2.0  # likeness to itself of a sound that repeats itself; least overlap that shows it


def coarse_peaks(a: Sound, b: Sound, config: SyncConfig) -> tuple[list[tuple[ClockMap, float]], Array, Array]:
    """The highest peaks and their heights, and the curve they are in: lags (L,) s, heights (L,) standard deviations."""
    lags = np.arange(-(len(b.cepstra) - 1), len(a.cepstra))
    common = np.minimum(np.minimum(len(b.cepstra), len(a.cepstra) - lags), np.minimum(len(b.cepstra) + lags,
                        len(a.cepstra))) * HOP_S  # fmt: skip
    total, drift = _sum_over_drift(*_segment_curves(a.cepstra, b.cepstra, round(_SEGMENT_S / HOP_S)), config)
    total /= np.sqrt(np.maximum(common, 0) + _EXTRA_OVERLAP_S)
    valid = common >= 0.9 * config.min_overlap_s
    center = np.median(total[valid])
    spread = 1.4826 * np.median(np.abs(total[valid] - center)) + 1e-9
    heights = np.where(valid, (total - center) / spread, 0.0)
    peaks: list[tuple[ClockMap, float]] = []
    left, apart = heights.copy(), round(_APART_S / HOP_S)
    while len(peaks) < _PEAKS:
        at = int(np.argmax(left))
        if left[at] <= 0 or (peaks and left[at] < _LEAST_SHARE * peaks[0][1]):
            break
        lag = (lags[at] + peak_shift(heights[max(at - 1, 0) : at + 2])) * HOP_S
        peaks.append((ClockMap(lag, 1 + drift[at]), float(left[at])))
        left[max(0, at - apart) : at + apart + 1] = -np.inf
    return peaks, lags * HOP_S, heights


def find_periods(sound: Sound) -> list[float]:
    """Delays in seconds at which a sound is most like itself, at most four; none where it does not repeat itself."""
    cepstra = sound.cepstra[: round(_SEGMENT_S / HOP_S)].astype(np.float32)
    size, count = fft.next_fast_len(2 * len(cepstra), real=True), len(cepstra)
    power = np.zeros(size // 2 + 1, np.float32)
    for column in cepstra.T:
        power += power_spectrum(fft.rfft(column, size))
    apart = round(_APART_S / HOP_S)
    lags = np.arange(apart, min(count // 2, count - round(_LEAST_LOOP_S / HOP_S)))
    curve = fft.irfft(power, size)
    alike = curve[lags] / max(float(curve[0]), 1e-9) / (1 - lags / count)
    found: list[float] = []
    while len(alike) and len(found) < 4 and alike[at := int(np.argmax(alike))] > _REPEATS:
        found.append(float(lags[at]) * HOP_S)
        alike[max(0, at - apart) : at + apart + 1] = 0.0
    return found


def _segment_curves(a: Array, b: Array, length: int) -> tuple[Array, Array]:
    """Correlation of each segment of b with all of a, (K, lags of b against a), and the segments' middles (K,)."""
    count = max(1, round(len(b) / length))
    edges = np.linspace(0, len(b), count + 1).astype(int)
    size = fft.next_fast_len(len(a) + int(np.diff(edges).max()), real=True)
    cross = np.zeros((count, size // 2 + 1), np.complex64)
    for c in range(a.shape[1]):
        spectrum = fft.rfft(a[:, c].astype(np.float32), size)
        for k in range(count):
            cross[k] += spectrum * np.conj(fft.rfft(b[edges[k] : edges[k + 1], c].astype(np.float32), size))
    curves = np.zeros((count, len(a) + len(b) - 1), np.float32)
    for k in range(count):
        length = edges[k + 1] - edges[k]
        own = np.arange(-(length - 1), len(a))
        first = len(b) - length - edges[k]  # where the first lag of the segment is among all lags
        curves[k, first : first + len(own)] = fft.irfft(cross[k], size)[own]
    return curves, 0.5 * (edges[1:] + edges[:-1])


def _sum_over_drift(curves: Array, middles: Array, config: SyncConfig) -> tuple[Array, Array]:
    """Sum (L,) of the segments' curves along the best line through each lag at b = 0; drift (L,) of that line."""
    if len(curves) == 1:
        return curves[0].astype(np.float64), np.zeros(curves.shape[1])
    step = 1.5 / (middles[-1] - middles[0])
    reach = int(np.ceil(config.max_drift_ppm * 1e-6 / step))
    best = np.full(curves.shape[1], -np.inf, np.float32)
    which = np.zeros(curves.shape[1])
    for drift in step * np.arange(-reach, reach + 1):
        total = np.zeros_like(best)
        for curve, middle in zip(curves, middles, strict=True):
            total += np.roll(curve, -round(drift * middle))
        which[total > best] = drift
        np.maximum(best, total, out=best)
    return best.astype(np.float64), which


def peak_shift(three: Array) -> float:
    """Where, between -0.5 and 0.5, the parabola through three values around a maximum has its top."""
    if len(three) < 3:
        return 0.0
    bend = three[0] - 2 * three[1] + three[2]
    return float(np.clip(0.5 * (three[0] - three[2]) / bend, -0.5, 0.5)) if bend < 0 else 0.0
