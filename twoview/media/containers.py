"""Inside a video file: which streams to use, their packets, and what can be decoded of them."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import av.error

from twoview.errors import VideoError


@dataclass
class Counter:
    """What went wrong while a stream was read: packets lost, and the time it broke off at (NaN: it did not)."""

    lost: int = 0
    cut_s: float = math.nan


@dataclass(frozen=True)
class Damage:
    """What of a video could not be read: how many frames were left out, and when it broke off (NaN: it did not)."""

    frames: int = 0
    cut_s: float = math.nan

    def __bool__(self) -> bool:
        return self.frames > 0 or not math.isnan(self.cut_s)

    def __str__(self) -> str:
        parts = [f"{self.frames} damaged frames were left out"] if self.frames else []
        parts += [] if math.isnan(self.cut_s) else [f"the file was cut off: its last frame is at {self.cut_s:.2f} s"]
        return "; ".join(parts)


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """An open container. Raises VideoError for what is missing or no video file."""
    if not path.exists():
        raise VideoError(f"no such file: {path}", hint="check the path; names with spaces need quotes")
    if path.is_dir():
        raise VideoError(f"{path} is a folder", hint="name a video file in it")
    try:
        container = av.open(f"file:{path}")  # so that a colon in a name does not look like a protocol
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise VideoError(
            f"{path} cannot be read as a video: {getattr(error, 'strerror', None) or error}",
            hint="is it complete, and a video? an mp4 whose recording was cut off has lost its index",
        ) from error
    with container:
        yield container


def video_stream(container: Any, path: Path) -> Any:
    """The first stream of moving pictures. Raises VideoError if there is none."""
    # Cover pictures are video streams too; tracks of unknown kind, which phones add, have no codec.
    for stream in container.streams.video:
        if stream.codec_context is not None and not stream.disposition & av.stream.Disposition.attached_pic:
            return stream
    raise VideoError(f"{path} has no video track", hint="is it a sound file?")


def audio_stream(container: Any) -> Any | None:
    """The first stream of sound that can be decoded."""
    return next((s for s in container.streams.audio if s.codec_context is not None), None)


def packets(container: Any, stream: Any, counter: Counter) -> Iterator[Any]:
    """Packets up to the end, or to where the file breaks off."""
    try:
        yield from container.demux(stream)
    except av.error.FFmpegError:
        counter.lost += 1


def pictures(container: Any, stream: Any, counter: Counter | None = None) -> Iterator[Any]:
    """Pictures that can be decoded, in the order they are shown; the others are counted."""
    counter = counter or Counter()
    timeless = container.format.name == "avi"  # numbers its frames as stored, not as shown
    waiting: list[int] = []  # times of packets whose pictures are still to come, earliest first
    begun = False
    for packet in packets(container, stream, counter):
        if packet.pts is not None and packet.size and not packet.is_discard:
            heapq.heappush(waiting, packet.pts)
        for picture in _decode(packet):
            if timeless and waiting:
                picture.pts = heapq.heappop(waiting)
            if picture.pts is None or picture.is_corrupt:
                continue
            while waiting and waiting[0] <= picture.pts:
                counter.lost += begun and waiting[0] < picture.pts
                heapq.heappop(waiting)
            begun = True
            yield picture
    counter.lost += len(waiting)


def sounds(container: Any, stream: Any, counter: Counter | None = None) -> Iterator[Any]:
    """Blocks of sound that can be decoded; packets that cannot be are counted."""
    counter = counter or Counter()
    for packet in packets(container, stream, counter):
        yield from (block for block in _decode(packet, counter) if block.pts is not None)


def _decode(packet: Any, counter: Counter | None = None) -> list[Any]:
    try:
        return cast(list[Any], packet.decode())
    except av.error.FFmpegError:
        if counter is not None:
            counter.lost += 1
        return []


def seek(container: Any, stream: Any, start: float) -> None:
    """Go to a key frame shown at or before `start` seconds, or to the beginning.

    Containers look for decoding times, which come before presentation times: hence the look at what was found.
    """
    target = at = math.floor(start / stream.time_base)
    second, beginning = math.ceil(1 / stream.time_base), stream.start_time or 0
    while at > beginning:
        try:
            container.seek(at, stream=stream)
            first = next(packets(container, stream, Counter()), None)
            if first is not None and first.is_keyframe and first.pts is not None and first.pts <= target:
                container.seek(at, stream=stream)
                return
        except av.error.FFmpegError:
            pass
        at -= second
    container.seek(beginning - 10 * second, stream=stream)


def promised_end(container: Any, stream: Any) -> Fraction:
    """Presentation time in seconds at which the stream should end, as the file says."""
    start = (stream.start_time or 0) * stream.time_base
    if stream.duration:
        return cast(Fraction, start + stream.duration * stream.time_base)
    if container.format.name.startswith("matroska"):
        start = Fraction(0)  # its length counts from 0
    return cast(Fraction, start + Fraction(container.duration or 0, av.time_base))


def capture_rate(container: Any) -> float:
    """Frames a second at which the file says it was filmed; 0 if it does not."""
    told = {name.lower(): value for name, value in container.metadata.items()}
    try:
        return float(told.get("com.android.capture.fps", 0) or 0)
    except ValueError:
        return 0.0
