"""Inside a video file: which streams to use, their packets, and the frames that can be decoded."""

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
from twoview.storage.regular import regular_file

_BARE = ("h264", "hevc", "vvc", "m4v", "mpegvideo", "h263", "obu", "mjpeg")  # streams that FFmpeg reads without times


@dataclass
class Damage:
    """What of a stream could not be read; counted up while it is read.

    lost   frames or packets that were left out
    cut_s  time of the last frame before the file broke off, seconds; NaN: it did not
    """

    lost: int = 0
    cut_s: float = math.nan

    def __bool__(self) -> bool:
        return self.lost > 0 or not math.isnan(self.cut_s)

    def __str__(self) -> str:
        parts = [f"{self.lost} damaged frames were left out"] if self.lost else []
        parts += [] if math.isnan(self.cut_s) else [f"the file was cut off: its last frame is at {self.cut_s:.2f} s"]
        return "; ".join(parts)


@contextmanager
def opened(path: Path | str) -> Iterator[Any]:
    """An open container. Raises VideoError for a file that is missing or no video."""
    path = regular_file(path, VideoError)
    try:
        container = av.open(f"file:{path}")  # with the prefix, a colon in a name does not look like a protocol
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise VideoError(
            f"{path} cannot be read as a video: {getattr(error, 'strerror', None) or error}",
            hint="is the file complete, and a video? an mp4 whose recording was cut off has lost its index",
        ) from error
    with container:
        yield container


def video_stream(container: Any, path: Path | str) -> Any:
    """The first stream of moving pictures. Raises VideoError if there is none."""
    if container.format.name in _BARE or container.format.name.endswith("_pipe"):
        name = container.format.long_name
        if container.format.name not in _BARE:
            raise VideoError(f"{path} is a picture and no video ({name})", hint="name the video")
        raise VideoError(
            f"{path} holds bare pictures without a container ({name}): its frames have no times",
            hint="wrap it at the rate it was filmed at: ffmpeg -framerate 30 -i IN -c copy out.mp4",
        )
    # Cover pictures are video streams too; tracks of unknown kind, which phones add, have no codec.
    for stream in container.streams.video:
        if stream.codec_context is not None and not stream.disposition & av.stream.Disposition.attached_pic:
            return stream
    raise VideoError(f"{path} has no video track", hint="is this a sound file?")


def audio_streams(container: Any) -> list[Any]:
    """The streams of sound that can be decoded; phones add others in codes of their own."""
    return [stream for stream in container.streams.audio if stream.codec_context is not None]


def packets(container: Any, stream: Any, damage: Damage) -> Iterator[Any]:
    """Packets up to the end, or to where the file breaks off."""
    try:
        yield from container.demux(stream)
    except av.error.FFmpegError:
        damage.lost += 1


def decoded_pictures(container: Any, stream: Any, damage: Damage) -> Iterator[Any]:
    """Pictures that can be decoded, in the order they are shown; the others are counted in `damage`."""
    timeless = container.format.name == "avi"  # such files number frames as stored, not as shown
    waiting: list[int] = []  # times of packets whose pictures are still to come, earliest first
    begun = False
    for packet in packets(container, stream, damage):
        if packet.pts is not None and packet.size and not packet.is_discard:
            heapq.heappush(waiting, packet.pts)
        for picture in _decode(packet):
            if timeless and waiting:
                picture.pts = heapq.heappop(waiting)
            if picture.pts is None or picture.is_corrupt:
                continue
            while waiting and waiting[0] <= picture.pts:
                damage.lost += begun and waiting[0] < picture.pts
                heapq.heappop(waiting)
            begun = True
            yield picture
    damage.lost += len(waiting)


def decoded_sound(container: Any, stream: Any, damage: Damage) -> Iterator[Any]:
    """Frames of sound that can be decoded; packets that cannot are counted in `damage`."""
    for packet in packets(container, stream, damage):
        yield from (frame for frame in _decode(packet, damage) if frame.pts is not None)


def _decode(packet: Any, damage: Damage | None = None) -> list[Any]:
    try:
        return cast(list[Any], packet.decode())
    except av.error.FFmpegError:
        if damage is not None:
            damage.lost += 1
        return []


def seek(container: Any, stream: Any, start: float) -> None:
    """Move to a key frame shown at or before `start` seconds, or to the beginning.

    Containers search by decoding time, which comes before presentation time: so the frame found is checked.
    """
    target = at = math.floor(start / stream.time_base)
    second, beginning = math.ceil(1 / stream.time_base), stream.start_time or 0
    while at > beginning:
        try:
            container.seek(at, stream=stream)
            first = next(packets(container, stream, Damage()), None)
            if first is not None and first.is_keyframe and first.pts is not None and first.pts <= target:
                container.seek(at, stream=stream)
                return
        except av.error.FFmpegError:
            pass
        at -= second
    try:
        container.seek(beginning - 10 * second, stream=stream)
    except av.error.FFmpegError:  # AVI has nothing before the beginning
        container.seek(beginning, stream=stream)


def promised_end(container: Any, stream: Any) -> Fraction:
    """Presentation time in seconds at which the stream ends according to the file."""
    start = (stream.start_time or 0) * stream.time_base
    if stream.duration:
        return cast(Fraction, start + stream.duration * stream.time_base)
    if container.format.name.startswith("matroska"):
        start = Fraction(0)  # here the duration counts from 0
    return cast(Fraction, start + Fraction(container.duration or 0, av.time_base))
