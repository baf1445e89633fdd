"""The sound of one view, ready to be compared: one channel without rumble, with cepstra and enhanced onsets.

Cepstra serve the coarse search over all delays, onsets the fine one. Everything here depends on one recording alone.
Sound is (N,) float32 of unit power. The samples of long recordings are kept in a temporary file, not in memory, since
each is read only once or twice.
"""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import IO

import numpy as np
from numpy import ndarray as Array
from scipy import fft

from twoview.errors import StorageError

HOP_S = 0.008  # between two cepstra
BAND_HZ = (250.0, 7200.0)  # frequencies that the fine comparison uses

_SILENT = 10 ** (-80 / 20)  # RMS level below which a recording is silent; full scale = 1
_RUMBLE_HZ = 200.0  # below are wind and handling, and hardly anything that marks a moment
_MARGIN_S = 0.05  # the high-pass filter has forgotten what was longer ago
_IN_MEMORY = 1 << 25  # bytes: a quarter of an hour of one channel
_GAIN = 32.0  # of what is stored as 16 bits, so that quiet recordings keep their precision
_BLOCK_S, _BLOCKS_KEPT = 10.0, 64  # onsets are computed in blocks, of which so many are kept

_FRAME_S = 0.032  # length of sound that one cepstrum describes
_BANDS, _MEL_RANGE_HZ = 32, (150.0, 7000.0)
_CEPSTRA = 26
_MEAN_S = 2.0  # width of the running mean that is subtracted: it removes gain control and steady noise

_ONSET_FRAME, _ONSET_HOP = 256, 64  # samples: 16 ms and 4 ms at 16 kHz
_DECAY_S = 0.9  # the echo of a room takes this long to fall by 60 dB
_OVERLAPPING = 2  # preceding frames that share samples with a frame: what they have in common is no echo
_ABOVE_FLOOR, _MOST_RISE = 2.0, 4.0  # nepers of power: least rise above the noise floor, and largest that counts


@dataclass(frozen=True, eq=False)
class _Samples:
    """Stored samples (N, channels) float16, of which one channel is read, scaled to unit power."""

    file: IO[bytes]
    channels: int
    channel: int
    scale: np.float32

    def __post_init__(self) -> None:
        weakref.finalize(self, self.file.close)

    def read(self, start: int, count: int) -> Array:
        """Samples (count,) float32 from `start`."""
        self.file.seek(2 * self.channels * start)
        stored = np.frombuffer(self.file.read(2 * self.channels * count), np.float16)
        samples: Array = stored[self.channel :: self.channels].astype(np.float32)
        samples *= self.scale
        return samples


@dataclass(frozen=True, eq=False)
class Sound:
    """The sound of one view; view time = start_s + slowdown * sample / rate.

    rate, length  samples per second; number of samples
    silent        whether nothing was recorded
    name          of the view
    start_s       time of sample 0 on the view's clock, seconds
    slowdown      seconds of the view's clock that one real second takes: above 1 for slow motion
    warnings      sentences about sound that could not be decoded
    """

    rate: int
    length: int
    silent: bool
    _samples: _Samples
    name: str = ""
    start_s: float = 0.0
    slowdown: float = 1.0
    warnings: tuple[str, ...] = ()
    _onset_blocks: dict[int, Array] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Duration in real seconds."""
        return self.length / self.rate

    @cached_property
    def cepstra(self) -> Array:
        """(T, 26) float16, a row every HOP_S."""
        return _cepstra(self)

    def plain(self, start: int, count: int) -> Array:
        """Samples (count,) float32 from `start`; zero outside the recording."""
        low, high = max(start, 0), min(start + count, self.length)
        out = np.zeros(count, np.float32)
        if high > low:
            out[low - start : high - start] = self._samples.read(low, high - low)
        return out

    def onsets(self, start: int, count: int) -> Array:
        """The same samples with onsets enhanced; computed in blocks, the last of which are kept."""
        size, margin = round(_BLOCK_S * self.rate), self.rate
        out = np.zeros(count, np.float32)
        for number in range(max(start, 0) // size, min(start + count - 1, self.length - 1) // size + 1):
            if number not in self._onset_blocks:
                if len(self._onset_blocks) >= _BLOCKS_KEPT:
                    del self._onset_blocks[next(iter(self._onset_blocks))]
                begin, rest = number * size - margin, self.length - number * size
                around = self.plain(begin, min(size, rest) + 2 * margin)
                self._onset_blocks[number] = _enhance_onsets(around, self.rate)[margin:-margin]
            low, high = max(start, number * size), min(start + count, (number + 1) * size, self.length)
            if high > low:
                out[low - start : high - start] = self._onset_blocks[number][low - number * size : high - number * size]
        return out

    def per_hop(self, hop: int, function: Callable[[Array], Array]) -> Array:
        """Values (T,) of a function of rows (T, hop) of samples; rows are read some thousands at a time."""
        count, step = self.length // hop, 10000
        rows = (self.plain(t * hop, min(step, count - t) * hop).reshape(-1, hop) for t in range(0, count, step))
        return np.concatenate([np.zeros(0), *(function(part) for part in rows)])


def prepare(blocks: Iterable[Array], rate: int) -> Sound:
    """One view's sound from consecutive blocks (N, channels) of samples.

    Raises StorageError where the temporary file of a long recording finds no room on the disk.
    """
    file: IO[bytes] = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115
    power: Array | float = 0.0
    levels, length = _Levels(), 0
    try:
        for block in _high_passed(levels.watch(blocks), rate):
            power = power + np.sum(np.square(block), axis=0)
            file.write(np.clip(block * _GAIN, -6e4, 6e4).astype(np.float16).tobytes())
            length += len(block)
    except OSError as error:
        minutes, folder = length / rate / 60, tempfile.gettempdir()
        raise StorageError(
            f"no room in {folder} for {minutes:.0f} minutes of sound and more: {error.strerror}",
            hint="free some space, or name another folder: set TMPDIR to it",
        ) from error
    channel, silent = levels.best_channel(length)
    size = np.sqrt(np.atleast_1d(power)[channel] / max(length, 1)) if levels.channels else 0.0
    scale = np.float32(0.0 if silent else 1 / (_GAIN * float(size) + 1e-9))
    return Sound(rate, length, silent, _Samples(file, levels.channels, channel, scale))


class _Levels:
    """How loud each channel is, and how much of that is rumble."""

    def __init__(self) -> None:
        self.channels = 0
        self._power, self._steps = np.zeros(0), np.zeros(0)

    def watch(self, blocks: Iterable[Array]) -> Iterator[Array]:
        """The same blocks, measured as they pass; samples that are not finite become silence."""
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

    def best_channel(self, length: int) -> tuple[int, bool]:
        """The channel to compare, and whether even that one is silent.

        Dead channels are dropped; of the others the first, unless another one has half as much rumble. Channels are
        never averaged: two microphones hear one event at different times.
        """
        level = np.sqrt(self._power / max(length, 1))
        if level.max(initial=0) < _SILENT:
            return 0, True
        rumble = self._power / (self._steps + 1e-20)  # high where slow movements of the air dominate
        live = np.flatnonzero(level > 0.03 * level.max())
        best = live[np.argmin(rumble[live])]
        return int(best if rumble[best] < 0.5 * rumble[live[0]] else live[0]), False


def _high_passed(blocks: Iterable[Array], rate: int) -> Iterator[Array]:
    """The same samples (N, C) without rumble and without delay, in blocks of other lengths."""
    margin, held = round(_MARGIN_S * rate), None
    for block in chain(blocks, [None]):
        if held is None:
            if block is None or not len(block):
                continue
            held = np.repeat(block[:1], margin, axis=0)
        held = np.concatenate([held, np.repeat(held[-1:], margin, axis=0) if block is None else block])
        if len(held) > 2 * margin:
            yield _zero_phase_filtered(held, rate)[margin : len(held) - margin]
            held = held[len(held) - 2 * margin :]


def _zero_phase_filtered(samples: Array, rate: int) -> Array:
    """A second-order Butterworth high-pass, forward and backward; not valid at the ends."""
    size = fft.next_fast_len(len(samples), real=True)
    spectrum = fft.rfft(samples.T, size)
    with np.errstate(divide="ignore"):
        spectrum *= 1 / (1 + (_RUMBLE_HZ / fft.rfftfreq(size, 1 / rate).astype(np.float32)) ** 4)
    return fft.irfft(spectrum, size)[:, : len(samples)].T


def _cepstra(sound: Sound) -> Array:
    """Cepstral coefficients (T, 26) float16, one row per HOP_S, less their running mean, of unit variance."""
    hop, frame = round(HOP_S * sound.rate), round(_FRAME_S * sound.rate)
    if sound.length < frame:
        return np.zeros((0, _CEPSTRA), np.float16)
    count = (sound.length - frame) // hop + 1
    window = np.hanning(frame).astype(np.float32)
    bands = _mel_bands(frame, sound.rate).T
    mel = np.empty((count, _BANDS), np.float32)
    for first in range(0, count, 4096):
        part = sound.plain(first * hop, (min(4096, count - first) - 1) * hop + frame)
        rows = np.lib.stride_tricks.sliding_window_view(part, frame)[::hop]
        mel[first : first + 4096] = power_spectrum(fft.rfft(rows * window, axis=1)) @ bands
    floor = np.percentile(mel[:: max(1, count // 4000)], 10, axis=0) + 1e-12
    values = np.empty((count, _CEPSTRA), np.float32)
    for first in range(0, count, 4096):
        part = np.log(mel[first : first + 4096] + floor)
        values[first : first + 4096] = fft.dct(part, axis=1, norm="ortho")[:, :_CEPSTRA]
    for column in values.T:  # one at a time, to save memory
        column -= _running_mean(column, round(_MEAN_S / HOP_S))
        column /= column.std() + 1e-6
    return values.astype(np.float16)


def _mel_bands(frame: int, rate: int) -> Array:
    """Triangular filters (bands, frequencies), evenly spaced in mel."""
    low, high = _mel(np.array(_MEL_RANGE_HZ))
    edges = np.linspace(low, high, _BANDS + 2)
    at = _mel(np.arange(frame // 2 + 1) * rate / frame)
    rising = (at - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - at) / (edges[2:] - edges[1:-1])[:, None]
    bands: Array = np.clip(np.minimum(rising, falling), 0, None)
    return bands.astype(np.float32)


def _mel(hz: Array) -> Array:
    mel: Array = 2595 * np.log10(1 + hz / 700)
    return mel


def _running_mean(values: Array, width: int) -> Array:
    """Mean over `width` values around each of (N,); over fewer at the ends."""
    total = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    at = np.arange(len(values))
    low, high = np.maximum(at - width // 2, 0), np.minimum(at + width // 2 + 1, len(values))
    mean: Array = (total[high] - total[low]) / (high - low)
    return mean.astype(np.float32)


def power_spectrum(spectrum: Array) -> Array:
    """Squared magnitudes, without the square roots that np.abs would take."""
    power: Array = spectrum.real**2 + spectrum.imag**2
    return power


def _enhance_onsets(sound: Array, rate: int) -> Array:
    """Sound (N,) in which each frequency remains only while it rises above what went before.

    The direct sound arrives first; echoes of a room arrive later, from other directions (the precedence effect). Each
    cell of a short-time spectrum keeps its phase; its magnitude becomes the rise above the decaying trace of the past
    and above the noise floor, so that a quiet onset counts as much as a loud one.
    """
    frequency = np.arange(_ONSET_FRAME // 2 + 1) * rate / _ONSET_FRAME
    low, high = np.searchsorted(frequency, BAND_HZ[0]), np.searchsorted(frequency, BAND_HZ[1], side="right")
    spectrum = _stft(sound)
    level = np.log(power_spectrum(spectrum[:, low:high]) + 1e-12)  # (T, F)
    floor = np.percentile(level[::8], 40, axis=0)
    fall = np.float32(6 * np.log(10) / _DECAY_S * _ONSET_HOP / rate)  # of the echo, in log power per frame
    ramp = fall * np.arange(len(level), dtype=np.float32)[:, None]
    trace = np.maximum.accumulate(level + ramp, axis=0) - ramp
    past = np.full_like(level, -np.inf)
    past[_OVERLAPPING + 1 :] = trace[: -(_OVERLAPPING + 1)]
    rise = np.clip(level - np.maximum(past, floor + _ABOVE_FLOOR), 0.0, _MOST_RISE)
    spectrum[:, :low] = spectrum[:, high:] = 0
    spectrum[:, low:high] *= rise * np.exp(-0.5 * level)
    return _inverse_stft(spectrum, len(sound))


def _stft(sound: Array) -> Array:
    padded = np.pad(sound, (_ONSET_FRAME, 2 * _ONSET_FRAME))
    rows = np.lib.stride_tricks.sliding_window_view(padded, _ONSET_FRAME)[::_ONSET_HOP]
    return fft.rfft(rows * np.hanning(_ONSET_FRAME).astype(np.float32), axis=1)


def _inverse_stft(spectrum: Array, length: int) -> Array:
    rows = fft.irfft(spectrum, axis=1).astype(np.float32) * np.hanning(_ONSET_FRAME).astype(np.float32)
    parts = _ONSET_FRAME // _ONSET_HOP
    out = np.zeros((len(rows) + parts, _ONSET_HOP), np.float32)
    for part in range(parts):
        out[part : part + len(rows)] += rows[:, part * _ONSET_HOP : (part + 1) * _ONSET_HOP]
    return out.ravel()[_ONSET_FRAME : _ONSET_FRAME + length]
