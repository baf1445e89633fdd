"""Inside a video file: which streams to use, their packets, and the frames that can be decoded."""

from __future__ import annotations

import heapq
import math
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, cast

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
            raise VideoError(
                f"{path} is a picture and no video ({name})", hint="name the video; of a Live Photo its .MOV"
            )
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


def phone(container: Any) -> str:
    """Maker and model of the phone that filmed the video, according to the file; "" if the file does not say."""
    metadata = {name.lower().rpartition(".")[2]: str(value) for name, value in container.metadata.items()}
    parts = [metadata.get("make") or metadata.get("manufacturer", ""), metadata.get("model", "")]
    return " ".join(part.strip() for part in parts if part.strip())[:200]


_NAMES_LENS = re.compile(r"focal_?length.*35|35.*focal_?length")  # FocalLengthIn35mmFilm, Apple's, and the like
_MM = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(?:mm)?\s*")
SHORTEST_MM, LONGEST_MM = 8.0, 400.0  # of lenses that phones have, in 35 mm terms; other numbers are no such length
_LARGEST = 1 << 20  # bytes of a box of tags
_REALS = {(23, 4): ">f", (24, 8): ">d"}  # QuickTime's types of numbers with a fraction, and their bytes


def focal_35mm(container: Any, path: Path | str) -> float:
    """Focal length in mm, 35 mm equivalent, that the phone wrote into the file; 0 where it wrote none.

    Apple writes it among the tags of the video track, which FFmpeg does not show; other programs among the file's.
    """
    tags: dict[str, Any] = dict(container.metadata)
    for stream in container.streams.video:
        tags |= stream.metadata
    if container.format.name.startswith("mov"):
        with regular_file(path, VideoError).open("rb") as file:
            tags |= _track_tags(file)
    for name, value in tags.items():
        text = _MM.fullmatch(str(value))
        if text and _NAMES_LENS.search(name.lower()) and SHORTEST_MM <= float(text[1]) <= LONGEST_MM:
            return float(text[1])
    return 0.0


def _track_tags(file: BinaryIO) -> dict[str, Any]:
    """Name -> text or number, of the tags that a QuickTime file has of its tracks; those that can be read."""
    tags: dict[str, Any] = {}
    end = file.seek(0, 2)
    for kind, start, stop in _boxes(file, 0, end):
        for inner, first, last in _boxes(file, start, stop) if kind == b"moov" else ():
            for own, begin, finish in _boxes(file, first, last) if inner == b"trak" else ():
                if own == b"meta" and finish - begin <= _LARGEST:
                    tags |= _tags(file, begin, finish)
    return tags


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, first and last byte of the content of each box in a part of a file, up to the first that is damaged."""
    while start + 8 <= end:
        file.seek(start)
        size, kind = struct.unpack(">I4s", file.read(8))
        head = 8
        if size == 1 and start + 16 <= end:
            size, head = int.from_bytes(file.read(8), "big"), 16
        size = size or end - start
        if size < head or start + size > end:
            return
        yield kind, start + head, start + size
        start += size


def _tags(file: BinaryIO, start: int, end: int) -> dict[str, Any]:
    """The tags of one `meta` box: its keys, and the value of each."""
    names: list[str] = []
    found: dict[str, Any] = {}
    file.seek(start)
    plain = file.read(8)[4:] == b"hdlr"  # in QuickTime; in MP4 there are four bytes of version before
    for kind, begin, finish in _boxes(file, start if plain else start + 4, end):
        if kind == b"keys":
            names = [_read(file, *entry).decode("utf-8", "replace") for _, *entry in _boxes(file, begin + 8, finish)]
        for number, first, last in _boxes(file, begin, finish) if kind == b"ilst" else ():
            index = int.from_bytes(number, "big")
            for inner, at, stop in _boxes(file, first, last):
                if inner == b"data" and stop - at > 8 and 0 < index <= len(names):
                    found[names[index - 1]] = _number_or_text(_read(file, at, stop))
    return found


def _read(file: BinaryIO, start: int, end: int) -> bytes:
    file.seek(start)
    return file.read(end - start)


def _number_or_text(data: bytes) -> Any:
    """The value of a `data` box: four bytes of type, four of language, and the value."""
    kind, value = int.from_bytes(data[1:4], "big"), data[8:]
    if (kind, len(value)) in _REALS:
        return struct.unpack(_REALS[kind, len(value)], value)[0]
    if kind in (21, 22, 65, 66, 67, 74, 75, 76, 77, 78):
        return int.from_bytes(value, "big", signed=kind in (21, 65, 66, 67, 74))
    return value.decode("utf-8", "replace")


def capture_rate(container: Any) -> float:
    """Frames per second at which the video was filmed according to the file; 0 if the file does not say."""
    metadata = {name.lower(): value for name, value in container.metadata.items()}
    try:
        return float(metadata.get("com.android.capture.fps", 0) or 0)
    except ValueError:
        return 0.0
