"""The sound of a file as one track on the clock of its frames, read in blocks: memory does not grow with its length."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy import ndarray as Array

from twoview.errors import VideoError
from twoview.media.containers import Damage, audio_streams, decoded_sound, opened

_GAP_S = 0.005  # sound whose timestamps jump by more than this is placed where they say
_SILENT = 1e-4  # of full scale: a track that never is louder holds no sound
_LISTENED_S = 60.0  # of a track, to find out whether it holds sound
_BATCH = 1 << 18  # samples resampled at once: for packets of 1,024 the calls cost more than the work


@dataclass(frozen=True, eq=False)
class Audio:
    """Sound on the clock of the frames: sample n was recorded at `start_s + n / rate`.

    samples  (N, channels) float32 in -1..1; rate: samples per second
    """

    samples: Array
    rate: int
    start_s: float


def read_audio(path: Path | str, *, rate: int = 16000) -> Audio:
    """All of `audio_blocks` as one track."""
    parts = list(audio_blocks(path, rate=rate, damage=Damage()))
    return Audio(np.concatenate([part.samples for part in parts]), rate, parts[0].start_s)


@dataclass(frozen=True)
class Tracks:
    """The sound tracks of a file that can be decoded: how many, the one that is used (from 0), and the silent ones."""

    count: int
    used: int
    silent: tuple[int, ...] = ()

    def __str__(self) -> str:
        if not self.silent or self.used in self.silent:
            return ""
        quiet = ", ".join(str(track + 1) for track in self.silent if track < self.used)
        return f"of {self.count} sound tracks, {quiet} is silent, and {self.used + 1} is used" if quiet else ""


def sound_tracks(path: Path | str) -> Tracks:
    """Which sound track of a file is used: the first that is not silent, else the first."""
    state = Path(path).stat() if Path(path).exists() else None
    return _sound_tracks(Path(path), (state.st_size, state.st_mtime_ns) if state else (0, 0))


@lru_cache(256)
def _sound_tracks(path: Path, _: tuple[int, int]) -> Tracks:
    with opened(path) as container:
        count = len(audio_streams(container))
    silent: list[int] = []
    for track in range(count if count > 1 else 0):
        if not _is_silent(path, track):
            return Tracks(count, track, tuple(silent))
        silent.append(track)
    return Tracks(count, 0, tuple(silent))


def _is_silent(path: Path, track: int) -> bool:
    with opened(path) as container:
        began: float | None = None
        for frame in decoded_sound(container, audio_streams(container)[track], Damage()):
            began = float(frame.time) if began is None else began
            samples = frame.to_ndarray()
            loudest = float(np.abs(samples.astype(np.float64)).max(initial=0.0))
            if loudest > _SILENT * (np.iinfo(samples.dtype).max if samples.dtype.kind == "i" else 1.0):
                return False
            if float(frame.time) - began > _LISTENED_S:
                break
    return True


def audio_blocks(path: Path | str, *, rate: int, damage: Damage, track: int | None = None) -> Iterator[Audio]:
    """A sound track, resampled to `rate`, each block right after the one before.

    Gaps between timestamps are filled with silence, so that the place of a sample always gives its time. A track that
    starts later than the pictures keeps that start; an encoder's priming is dropped exactly where the file says so.
    damage  counts the pieces that could not be decoded: they are silent
    track   number of the track, from 0, of those that can be decoded; None: the one of `sound_tracks`
    Raises VideoError if the file has no sound that can be decoded, or no such track.
    """
    with opened(path) as container:
        streams = audio_streams(container)
        if not streams:
            raise VideoError(
                f"{path} has no sound", hint="relate the clocks by motion or by hand, see `twoview sync --help`"
            )
        if track is not None and not 0 <= track < len(streams):
            raise VideoError(f"{path} has {len(streams)} sound tracks, and no track {track + 1}", hint="--track a=1")
        stream = streams[sound_tracks(path).used if track is None else track]
        placed: _Track | None = None
        for frame in decoded_sound(container, stream, damage):
            placed = placed or _Track(frame, rate)
            yield from placed.add(frame)
        if placed is None:
            raise VideoError(f"{path} has a sound track, but nothing in it can be decoded", hint="re-encode the file")
        yield from placed.finish()


class _Track:
    """Places sound on one clock: each run of frames without a gap is resampled and placed by its timestamps."""

    def __init__(self, first: Any, rate: int) -> None:
        self._start, self._rate, self._layout, self._done = float(first.time), rate, first.layout, 0
        self._begin_run(first)

    def _begin_run(self, frame: Any) -> None:
        self._resampler = av.AudioResampler(format="fltp", layout=self._layout, rate=self._rate)
        self._queue = av.AudioFifo()
        self._format, self._expected = _sample_format(frame), float(frame.time)

    def add(self, frame: Any) -> Iterator[Audio]:
        time = float(frame.time)
        if abs(time - self._expected) > _GAP_S or self._format != _sample_format(frame):
            yield from self.finish()
            self._begin_run(frame)
            missing = round((time - self._start) * self._rate) - self._done
            for begin in range(0, missing, _BATCH):
                silence = np.zeros((min(_BATCH, missing - begin), len(self._layout.channels)), np.float32)
                yield self._placed(silence)
        self._expected += frame.samples / frame.sample_rate
        frame.pts = None  # the place is known by now; the queue would insist on times without any rounding
        self._queue.write(frame)
        if self._queue.samples >= _BATCH:
            yield from self._resampled(self._queue.read())

    def finish(self) -> Iterator[Audio]:
        """The rest of a run."""
        if self._queue.samples:
            yield from self._resampled(self._queue.read())
        yield from self._resampled(None)

    def _resampled(self, frame: Any) -> Iterator[Audio]:
        for piece in self._resampler.resample(frame):
            yield self._placed(piece.to_ndarray().T)

    def _placed(self, samples: Array) -> Audio:
        placed = Audio(samples, self._rate, self._start + self._done / self._rate)
        self._done += len(samples)
        return placed


def _sample_format(frame: Any) -> tuple[str, str, int]:
    return frame.format.name, frame.layout.name, frame.sample_rate
