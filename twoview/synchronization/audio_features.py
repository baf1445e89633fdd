"""What two phones hear alike: cepstra for a coarse look, and onsets for a fine one.

Sound is (N,) float32 at one rate, of unit size; everything here depends on one file alone.

One view's sound as two recordings are compared by: one channel without rumble, and what is computed from it alone.

Samples of an hour are kept in a file that vanishes with the object, since all are looked at once and then few are.
"""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from itertools import chain
from typing import IO

import numpy as np
from numpy import ndarray as Array
from scipy import fft

from twoview.errors import StorageError

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


_SILENT = 10 ** (-80 / 20)  # full scale = 1
_RUMBLE_HZ = 200.0  # wind and handling are below, hardly anything that tells a time is
_MARGIN_S = 0.05  # the filter has forgotten what was longer ago
_IN_MEMORY = 1 << 25  # bytes: a quarter of an hour of one channel
_LIFT = 32.0  # of what is kept as 16 bits, so that the quietest recordings keep their precision too
_BLOCK_S, _BLOCKS_KEPT = 10.0, 64


class Sound:
    """One channel without rumble, of unit size.

    rate    samples a second; length their number
    silent  whether nothing was recorded
    """

    def __init__(self, blocks: Iterable[Array], rate: int) -> None:
        """From samples (N, channels) in blocks, one right after the other.

        Raises StorageError where an hour of sound finds no room on the disk.
        """
        self.rate, self.length = rate, 0
        self._onset_blocks: dict[int, Array] = {}
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115
        weakref.finalize(self, self._file.close)
        levels, power = _Levels(), 0.0
        try:
            for block in high_passed(levels.of(blocks), rate):
                power = power + np.sum(np.square(block), axis=0)
                self._file.write(np.clip(block * _LIFT, -6e4, 6e4).astype(np.float16).tobytes())
                self.length += len(block)
        except OSError as error:
            minutes, folder = self.seconds / 60, tempfile.gettempdir()
            raise StorageError(
                f"no room in {folder} for {minutes:.0f} minutes of sound and more: {error.strerror}",
                hint="free some space, or name another folder: TMPDIR=/folder twoview sync ...",
            ) from error
        self._channels, self._channel, self.silent = levels.channels, *levels.chosen(self.length)
        size = np.sqrt(np.atleast_1d(power)[self._channel] / max(self.length, 1)) if levels.channels else 0.0
        self._scale = np.float32(0.0 if self.silent else 1 / (_LIFT * float(size) + 1e-9))

    @classmethod
    def of(cls, samples: Array, rate: int) -> Sound:
        """From samples (N,) or (N, channels)."""
        samples = samples if samples.ndim == 2 else samples[:, None]
        return cls((samples[i : i + (1 << 18)] for i in range(0, len(samples), 1 << 18)), rate)

    @property
    def seconds(self) -> float:
        """Length."""
        return self.length / self.rate

    @property
    def hop_s(self) -> float:
        """Seconds between two cepstra."""
        return HOP_S

    @cached_property
    def cepstra(self) -> Array:
        """(T, 26) float16 for the coarse stage."""
        return cepstra(self.plain, self.length, self.rate)

    def plain(self, start: int, length: int) -> Array:
        """Samples (length,) float32 from `start`; zero outside the recording."""
        low, high = max(start, 0), min(start + length, self.length)
        out = np.zeros(length, np.float32)
        if high > low:
            self._file.seek(2 * self._channels * low)
            kept = np.frombuffer(self._file.read(2 * self._channels * (high - low)), np.float16)
            out[low - start : high - start] = kept[self._channel :: self._channels]
            out *= self._scale
        return out

    def each(self, hop: int, of: Callable[[Array], Array]) -> Array:
        """What a function makes of rows (T, hop) of samples: (T,), some rows at a time."""
        count, step = self.length // hop, 10000
        rows = (self.plain(t * hop, min(step, count - t) * hop).reshape(-1, hop) for t in range(0, count, step))
        return np.concatenate([np.zeros(0), *(of(part) for part in rows)])

    def onset(self, start: int, length: int) -> Array:
        """The same with its onsets enhanced, computed in blocks that are kept for a while."""
        size, margin = round(_BLOCK_S * self.rate), self.rate
        out = np.zeros(length, np.float32)
        for number in range(max(start, 0) // size, min(start + length - 1, self.length - 1) // size + 1):
            if number not in self._onset_blocks:
                if len(self._onset_blocks) >= _BLOCKS_KEPT:
                    del self._onset_blocks[next(iter(self._onset_blocks))]
                begin, rest = number * size - margin, self.length - number * size
                around = self.plain(begin, min(size, rest) + 2 * margin)
                self._onset_blocks[number] = enhance_onsets(around, self.rate)[margin:-margin]
            low, high = max(start, number * size), min(start + length, (number + 1) * size, self.length)
            if high > low:
                out[low - start : high - start] = self._onset_blocks[number][low - number * size : high - number * size]
        return out


class _Levels:
    """How loud each channel is, and how much of that is rumble."""

    def __init__(self) -> None:
        self.channels = 0
        self._power, self._steps = np.zeros(0), np.zeros(0)

    def of(self, blocks: Iterable[Array]) -> Iterator[Array]:
        """The blocks, looked at as they pass; what is not finite is silence."""
        for block in blocks:
            block = np.asarray(block, np.float32)
            if not np.isfinite(block.sum()):
                block = np.nan_to_num(block, nan=0.0, posinf=0.0, neginf=0.0)
            if not self.channels:
                self.channels = block.shape[1]
                self._power, self._steps = np.zeros((2, self.channels))
            self._power += np.sum(np.square(block), axis=0)
            self._steps += np.sum(np.square(np.diff(block, axis=0)), axis=0)
            yield block

    def chosen(self, length: int) -> tuple[int, bool]:
        """The channel that tells most, and whether even that is silent.

        Dead channels are dropped; of the others, the first, unless another one has half as much rumble. Channels are
        never averaged: two microphones hear one event at different times.
        """
        level = np.sqrt(self._power / max(length, 1))
        if level.max(initial=0) < _SILENT:
            return 0, True
        rumble = self._power / (self._steps + 1e-20)  # high where slow movements of the air dominate
        live = np.flatnonzero(level > 0.03 * level.max())
        best = live[np.argmin(rumble[live])]
        return int(best if rumble[best] < 0.5 * rumble[live[0]] else live[0]), False


def high_passed(blocks: Iterable[Array], rate: int) -> Iterator[Array]:
    """The same samples (N, C) without rumble, every frequency delayed alike (by nothing), in other blocks."""
    margin, held = round(_MARGIN_S * rate), None
    for block in chain(blocks, [None]):
        if held is None:
            if block is None or not len(block):
                continue
            held = np.repeat(block[:1], margin, axis=0)
        held = np.concatenate([held, np.repeat(held[-1:], margin, axis=0) if block is None else block])
        if len(held) > 2 * margin:
            yield _filtered(held, rate)[margin : len(held) - margin]
            held = held[len(held) - 2 * margin :]


def _filtered(samples: Array, rate: int) -> Array:
    """A Butterworth filter of second order, forth and back, but for the ends."""
    size = fft.next_fast_len(len(samples), real=True)
    spectrum = fft.rfft(samples.T, size)
    with np.errstate(divide="ignore"):
        spectrum *= 1 / (1 + (_RUMBLE_HZ / fft.rfftfreq(size, 1 / rate).astype(np.float32)) ** 4)
    return fft.irfft(spectrum, size)[:, : len(samples)].T
