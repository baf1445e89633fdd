"""The sound of a file as one track on the clock of its frames, in blocks: memory does not grow with its length."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy import ndarray as Array

from twoview.errors import VideoError
from twoview.media import containers

_GAP_S = 0.005  # sound whose timestamps jump by more than this is put where they say
_TOGETHER = 1 << 18  # samples that are resampled at once: for packets of 1,024 the calls cost more than the work


@dataclass(frozen=True, eq=False)
class Audio:
    """Sound on the clock of the frames: sample n was heard at `start_s + n / rate`. samples (N, channels) float32."""

    samples: Array
    rate: int
    start_s: float
    warnings: tuple[str, ...] = ()


def audio(path: Path | str, *, rate: int = 16000) -> Audio:
    """The whole of `blocks` at once."""
    lost = containers.Counter()
    parts = list(blocks(path, rate=rate, lost=lost))
    return Audio(np.concatenate([part.samples for part in parts]), rate, parts[0].start_s, warnings(lost))


def blocks(path: Path | str, *, rate: int = 16000, lost: containers.Counter | None = None) -> Iterator[Audio]:
    """The first sound track that can be decoded, resampled to `rate`, in -1..1, each block right after the one before.

    Silence fills what the timestamps leave open, so that a sample's place always tells its time. A start later than
    the pictures' is kept, and an encoder's priming is dropped just where the file says that it is to be.
    lost  counts what could not be decoded, see `warnings`
    Raises VideoError if the file has no sound that can be decoded.
    """
    path = Path(path)
    with containers.opened(path) as container:
        stream = containers.audio_stream(container)
        if stream is None:
            raise VideoError(f"{path} has no sound", hint="relate the clocks by motion or by hand: twoview sync --help")
        track: _Track | None = None
        for heard in containers.sounds(container, stream, lost):
            track = track or _Track(heard, rate)
            yield from track.add(heard)
        if track is None:
            raise VideoError(f"{path} has a sound track, but nothing in it can be decoded", hint="re-encode the file")
        yield from track.finished()


def warnings(lost: containers.Counter) -> tuple[str, ...]:
    """What to say of sound of which something could not be decoded."""
    return (f"{lost.lost} damaged pieces of the sound are silent here",) if lost.lost else ()


class _Track:
    """Sound laid onto one clock: each run of packets without a gap is resampled and put where its timestamps say."""

    def __init__(self, first: Any, rate: int) -> None:
        self._start, self._rate, self._layout, self._at = float(first.time), rate, first.layout, 0
        self._begin(first)

    def _begin(self, heard: Any) -> None:
        self._resampler = av.AudioResampler(format="fltp", layout=self._layout, rate=self._rate)
        self._waiting = av.AudioFifo()
        self._kind, self._due = _kind(heard), float(heard.time)

    def add(self, heard: Any) -> Iterator[Audio]:
        time = float(heard.time)
        if abs(time - self._due) > _GAP_S or self._kind != _kind(heard):
            yield from self.finished()
            self._begin(heard)
            missing = round((time - self._start) * self._rate) - self._at
            for begun in range(0, missing, _TOGETHER):
                silence = np.zeros((min(_TOGETHER, missing - begun), len(self._layout.channels)), np.float32)
                yield self._placed(silence)
        self._due += heard.samples / heard.sample_rate
        heard.pts = None  # its place is known by now; the queue would insist on times without any rounding
        self._waiting.write(heard)
        if self._waiting.samples >= _TOGETHER:
            yield from self._resampled(self._waiting.read())

    def finished(self) -> Iterator[Audio]:
        """What is left at the end of a run."""
        if self._waiting.samples:
            yield from self._resampled(self._waiting.read())
        yield from self._resampled(None)

    def _resampled(self, frame: Any) -> Iterator[Audio]:
        for piece in self._resampler.resample(frame):
            yield self._placed(piece.to_ndarray().T)

    def _placed(self, samples: Array) -> Audio:
        placed = Audio(samples, self._rate, self._start + self._at / self._rate)
        self._at += len(samples)
        return placed


def _kind(heard: Any) -> tuple[str, str, int]:
    return heard.format.name, heard.layout.name, heard.sample_rate
