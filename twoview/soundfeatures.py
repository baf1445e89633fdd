"""What two phones hear alike: the best channel, its cepstra for a coarse look, and its onsets for a fine one.

Sound is (N,) float32 at one rate; everything here depends on one file alone, so it is computed once per view.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy import fft, signal

Array = np.ndarray

HOP_S = 0.008  # between two cepstra
_FRAME_S = 0.032  # a cepstrum looks at this much sound
_BANDS, _BAND_HZ = 32, (150.0, 7000.0)
_CEPSTRA = 26
_MEAN_S = 2.0  # running mean that is taken off every cepstrum: gain control and steady noise go with it
_SILENT = 10 ** (-80 / 20)  # full scale = 1
_RUMBLE_HZ = 200.0  # wind and handling are below, hardly anything that tells a time is

_ONSET_FRAME, _ONSET_HOP = 256, 64  # samples: 16 ms and 4 ms at 16 kHz
_DECAY_S = 0.9  # a room's echo takes this long to fall by 60 dB
_SHARED = 2  # frames overlap: what a cell has in common with the ones just before is no echo
_OVER_FLOOR, _HIGHEST = 2.0, 4.0  # nepers of power: what counts as a rise, and what as the greatest
BAND_HZ = (250.0, 7200.0)
_BLOCK_S, _BLOCKS_KEPT = 10.0, 64


@dataclass(frozen=True, eq=False)
class Sound:
    """One view's sound, and what is computed from it alone when it is asked for.

    samples  (N,) float16: one channel without rumble, of unit size; 16 bits since takes last up to an hour
    """

    samples: Array
    rate: int
    silent: bool = False
    _onset_blocks: dict[int, Array] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, samples: Array, rate: int) -> Sound:
        """From samples (N,) or (N, channels)."""
        channel, silent = choose_channel(samples)
        return cls(high_pass(channel, rate), rate, silent)

    @property
    def seconds(self) -> float:
        """Length."""
        return len(self.samples) / self.rate

    @property
    def hop_s(self) -> float:
        """Seconds between two cepstra."""
        return HOP_S

    @cached_property
    def cepstra(self) -> Array:
        """(T, 26) float16 for the coarse stage."""
        return cepstra(self.samples, self.rate)

    def plain(self, start: int, length: int) -> Array:
        """Samples (length,) float32 from `start`; zero outside the recording."""
        out = np.zeros(length, np.float32)
        low, high = max(start, 0), min(start + length, len(self.samples))
        if high > low:
            out[low - start : high - start] = self.samples[low:high]
        return out

    def onset(self, start: int, length: int) -> Array:
        """The same with its onsets enhanced, computed in blocks that are kept for a while."""
        size, margin = round(_BLOCK_S * self.rate), self.rate
        out = np.zeros(length, np.float32)
        for number in range(max(start, 0) // size, min(start + length - 1, len(self.samples) - 1) // size + 1):
            if number not in self._onset_blocks:
                if len(self._onset_blocks) >= _BLOCKS_KEPT:
                    del self._onset_blocks[next(iter(self._onset_blocks))]
                block = enhance_onsets(self.plain(number * size - margin, size + 2 * margin), self.rate)
                self._onset_blocks[number] = block[margin : margin + size]
            low, high = max(start, number * size), min(start + length, (number + 1) * size)
            if high > low:
                out[low - start : high - start] = self._onset_blocks[number][low - number * size : high - number * size]
        return out


def choose_channel(samples: Array) -> tuple[Array, bool]:
    """The channel (N,) of samples (N, C) that tells most, and whether it is silent. NaN and infinity count as 0 for it.

    Dead channels are dropped; of the others, the first, unless another one has half as much rumble. Channels are
    never averaged: two microphones hear one event at different times.
    """
    samples = samples if samples.ndim == 2 else samples[:, None]
    levels, rumble = [], []
    for channel in samples.T:
        power = sum(float(np.sum(np.square(_finite(part)))) for part in _blocks(channel))
        steps = sum(float(np.sum(np.square(np.diff(_finite(part))))) for part in _blocks(channel))
        levels.append(np.sqrt(power / max(len(channel), 1)))
        rumble.append(power / (steps + 1e-20))  # high where slow movements of the air dominate
    if not levels or max(levels) < _SILENT:
        return np.zeros(len(samples), np.float32), True
    live = [c for c, level in enumerate(levels) if level > 0.03 * max(levels)]
    best = min(live, key=lambda c: rumble[c])
    first = live[0]
    return samples[:, best if rumble[best] < 0.5 * rumble[first] else first], False


def high_pass(sound: Array, rate: int) -> Array:
    """Without rumble, every frequency delayed alike (by nothing), of unit size: (N,) float16.

    In blocks that reach into their neighbours, since filtering an hour at once takes gigabytes.
    """
    out, size, margin = np.zeros(len(sound), np.float16), 1 << 20, rate // 2
    loudness = sum(float(np.sum(np.square(_finite(part)))) for part in _blocks(sound))
    if len(sound) <= 30 or not loudness:
        return out
    sections = signal.butter(2, _RUMBLE_HZ, "highpass", fs=rate, output="sos")
    scale, power = (loudness / len(sound)) ** -0.5, 0.0
    for start in range(0, len(sound), size):
        first = max(start - margin, 0)
        part = _finite(sound[first : start + size + margin]) * scale
        part = signal.sosfiltfilt(sections, part)[start - first : start - first + size]
        power += float(np.sum(np.square(part)))
        out[start : start + size] = part
    for block in _blocks(out):
        block[:] = block.astype(np.float32) / ((power / len(sound)) ** 0.5 + 1e-9)
    return out


def cepstra(sound: Array, rate: int) -> Array:
    """Cepstral coefficients (T, 26) float16, one row every 8 ms, each less its running mean, of unit variance."""
    hop, frame = round(HOP_S * rate), round(_FRAME_S * rate)
    if len(sound) < frame:
        return np.zeros((0, _CEPSTRA), np.float16)
    count = (len(sound) - frame) // hop + 1
    rows = np.lib.stride_tricks.sliding_window_view(sound, frame)[::hop]
    window = np.hanning(frame).astype(np.float32)
    bands = _mel_bands(frame, rate).T
    mel = np.empty((count, _BANDS), np.float32)
    for first in range(0, count, 4096):
        power = np.abs(fft.rfft(rows[first : first + 4096].astype(np.float32) * window, axis=1)) ** 2
        mel[first : first + 4096] = power @ bands
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
    spectrum = _stft(sound)
    level = np.log(np.abs(spectrum) ** 2 + 1e-12)  # (T, F)
    floor = np.percentile(level[::8], 40, axis=0)
    fall = np.float32(6 * np.log(10) / _DECAY_S * _ONSET_HOP / rate)  # of the echo, in log power a frame
    ramp = fall * np.arange(len(level), dtype=np.float32)[:, None]
    trace = np.maximum.accumulate(level + ramp, axis=0) - ramp
    past = np.full_like(level, -np.inf)
    past[_SHARED + 1 :] = trace[: -(_SHARED + 1)]
    rise = np.clip(level - np.maximum(past, floor + _OVER_FLOOR), 0.0, _HIGHEST)
    frequency = np.arange(level.shape[1]) * rate / _ONSET_FRAME
    rise *= (frequency >= BAND_HZ[0]) & (frequency <= BAND_HZ[1])
    return _inverse(spectrum * (rise * np.exp(-0.5 * level)), len(sound))


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


def _finite(sound: Array) -> Array:
    return np.nan_to_num(np.asarray(sound, np.float32), nan=0.0, posinf=0.0, neginf=0.0)


def _blocks(sound: Array) -> list[Array]:
    return [sound[i : i + (1 << 20)] for i in range(0, len(sound), 1 << 20)]
