"""What two phones hear alike: cepstra for a coarse look, and onsets for a fine one.

Sound is (N,) float32 at one rate, of unit size; everything here depends on one file alone.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import fft

Array = np.ndarray

HOP_S = 0.008  # between two cepstra
_FRAME_S = 0.032  # a cepstrum looks at this much sound
_BANDS, _BAND_HZ = 32, (150.0, 7000.0)
_CEPSTRA = 26
_MEAN_S = 2.0  # running mean that is taken off every cepstrum: gain control and steady noise go with it

_ONSET_FRAME, _ONSET_HOP = 256, 64  # samples: 16 ms and 4 ms at 16 kHz
_DECAY_S = 0.9  # a room's echo takes this long to fall by 60 dB
_SHARED = 2  # frames overlap: what a cell has in common with the ones just before is no echo
_OVER_FLOOR, _HIGHEST = 2.0, 4.0  # nepers of power: what counts as a rise, and what as the greatest
BAND_HZ = (250.0, 7200.0)


def cepstra(samples: Callable[[int, int], Array], length: int, rate: int) -> Array:
    """Cepstral coefficients (T, 26) float16, one row every 8 ms, each less its running mean, of unit variance.

    samples  gives those (n,) float32 from a start, n of them; length of all
    """
    hop, frame = round(HOP_S * rate), round(_FRAME_S * rate)
    if length < frame:
        return np.zeros((0, _CEPSTRA), np.float16)
    count = (length - frame) // hop + 1
    window = np.hanning(frame).astype(np.float32)
    bands = _mel_bands(frame, rate).T
    mel = np.empty((count, _BANDS), np.float32)
    for first in range(0, count, 4096):
        part = samples(first * hop, (min(4096, count - first) - 1) * hop + frame)
        rows = np.lib.stride_tricks.sliding_window_view(part, frame)[::hop]
        mel[first : first + 4096] = power_of(fft.rfft(rows * window, axis=1)) @ bands
    floor = np.percentile(mel[:: max(1, count // 4000)], 10, axis=0) + 1e-12
    values = np.empty((count, _CEPSTRA), np.float32)
    for first in range(0, count, 4096):
        part = np.log(mel[first : first + 4096] + floor)
        values[first : first + 4096] = fft.dct(part, axis=1, norm="ortho")[:, :_CEPSTRA]
    for column in values.T:  # one at a time, to save memory
        column -= _running_mean(column, round(_MEAN_S / HOP_S))
        column /= column.std() + 1e-6
    return values.astype(np.float16)


def enhance_onsets(sound: Array, rate: int) -> Array:
    """Sound (N,) in which every frequency is heard only while it rises above what went before.

    What arrives first came straight; a room's echoes come later and from wrong directions (the precedence effect).
    Each cell of a short-time spectrum keeps its phase; its size becomes how far it rises over the decaying trace of
    the past and over the steady floor, so that a quiet onset counts like a loud one.
    """
    frequency = np.arange(_ONSET_FRAME // 2 + 1) * rate / _ONSET_FRAME
    low, high = np.searchsorted(frequency, BAND_HZ[0]), np.searchsorted(frequency, BAND_HZ[1], side="right")
    spectrum = _stft(sound)
    level = np.log(power_of(spectrum[:, low:high]) + 1e-12)  # (T, F)
    floor = np.percentile(level[::8], 40, axis=0)
    fall = np.float32(6 * np.log(10) / _DECAY_S * _ONSET_HOP / rate)  # of the echo, in log power a frame
    ramp = fall * np.arange(len(level), dtype=np.float32)[:, None]
    trace = np.maximum.accumulate(level + ramp, axis=0) - ramp
    past = np.full_like(level, -np.inf)
    past[_SHARED + 1 :] = trace[: -(_SHARED + 1)]
    rise = np.clip(level - np.maximum(past, floor + _OVER_FLOOR), 0.0, _HIGHEST)
    spectrum[:, :low] = spectrum[:, high:] = 0
    spectrum[:, low:high] *= rise * np.exp(-0.5 * level)
    return _inverse(spectrum, len(sound))


def _stft(sound: Array) -> Array:
    padded = np.pad(sound, (_ONSET_FRAME, 2 * _ONSET_FRAME))
    rows = np.lib.stride_tricks.sliding_window_view(padded, _ONSET_FRAME)[::_ONSET_HOP]
    return fft.rfft(rows * np.hanning(_ONSET_FRAME).astype(np.float32), axis=1)


def _inverse(spectrum: Array, length: int) -> Array:
    rows = fft.irfft(spectrum, axis=1).astype(np.float32) * np.hanning(_ONSET_FRAME).astype(np.float32)
    parts = _ONSET_FRAME // _ONSET_HOP
    out = np.zeros((len(rows) + parts, _ONSET_HOP), np.float32)
    for part in range(parts):
        out[part : part + len(rows)] += rows[:, part * _ONSET_HOP : (part + 1) * _ONSET_HOP]
    return out.ravel()[_ONSET_FRAME : _ONSET_FRAME + length]


def _mel_bands(frame: int, rate: int) -> Array:
    """Triangles (bands, frequencies), evenly spaced in mel."""
    mel = lambda hz: 2595 * np.log10(1 + np.asarray(hz) / 700)  # noqa: E731
    edges = np.linspace(mel(_BAND_HZ[0]), mel(_BAND_HZ[1]), _BANDS + 2)
    at = mel(np.arange(frame // 2 + 1) * rate / frame)
    rising = (at - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - at) / (edges[2:] - edges[1:-1])[:, None]
    return np.clip(np.minimum(rising, falling), 0, None).astype(np.float32)


def _running_mean(values: Array, width: int) -> Array:
    """Mean over `width` values around each of (N,); at the ends, over those there are."""
    total = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    at = np.arange(len(values))
    low, high = np.maximum(at - width // 2, 0), np.minimum(at + width // 2 + 1, len(values))
    return ((total[high] - total[low]) / (high - low)).astype(np.float32)


def power_of(spectrum: Array) -> Array:
    """Squared sizes, without the roots that np.abs would take."""
    return spectrum.real**2 + spectrum.imag**2
