"""What the phone wrote into a video beside pictures and sound: its model, lens and clock, and how it filmed."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from twoview.errors import VideoError
from twoview.storage.regular import regular_file

_NAMES_LENS = re.compile(r"focal_?length.*35|35.*focal_?length")  # FocalLengthIn35mmFilm, Apple's, and the like
_MM = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(?:mm)?\s*")
SHORTEST_MM, LONGEST_MM = 8.0, 400.0  # of lenses that phones have, in 35 mm terms; other numbers are no such length
_LARGEST = 1 << 20  # bytes of a box that is read
_REALS = {(23, 4): ">f", (24, 8): ">d"}  # QuickTime's types of numbers with a fraction, and their bytes
_FILMED = ("com.apple.quicktime.creationdate", "creation_time")  # the first with the phone's time zone
_DESCRIPTIONS = (b"mdia", b"minf", b"stbl", b"stsd")  # where a track says what it holds
_STILL = b"com.apple.quicktime.still-image-time"  # in a track that only Live Photos have


@dataclass(frozen=True)
class PhoneTags:
    """What a video says about how it was filmed.

    phone         maker and model; "" where the file does not say
    focal_mm      focal length, 35 mm equivalent; 0 where the file does not say
    filmed        day and time by the phone's own clock, ISO 8601; "" where the file does not say. Most phones write
                  when they began, some when they ended; clocks of two phones differ by seconds.
    timecode      of the first frame, hours:minutes:seconds:frames; "" where the file has none
    capture_rate  frames per second of filming; 0 where the file does not say
    time_lapse    whether the phone filmed a time-lapse
    live_photo    whether this is the moving part of a Live Photo
    speeds        other speeds than 1 at which the file's edit list has its parts played
    """

    phone: str = ""
    focal_mm: float = 0.0
    filmed: str = ""
    timecode: str = ""
    capture_rate: float = 0.0
    time_lapse: bool = False
    live_photo: bool = False
    speeds: tuple[float, ...] = ()


def phone_tags(container: Any, path: Path | str) -> PhoneTags:
    """The tags of an open file that are known here, each only where it can be true."""
    tags: dict[str, Any] = dict(container.metadata)
    for stream in container.streams:
        tags |= {name: value for name, value in stream.metadata.items() if name not in tags}
    live, speeds = False, set[float]()
    if container.format.name.startswith("mov"):
        with regular_file(path, VideoError).open("rb") as file:
            for track in _tracks(file):
                tags |= track.tags
                live = live or track.still
                speeds |= set(track.speeds)
    tags = {name.lower(): value for name, value in tags.items()}
    return PhoneTags(
        _phone(container.metadata), _focal_35mm(tags), _filmed(tags), str(tags.get("timecode", ""))[:20],
        _capture_rate(tags), str(tags.get("com.apple.photos.capturemode", "")).lower() == "time-lapse", live,
        tuple(sorted(speeds)),
    )  # fmt: skip


def _phone(metadata: Mapping[str, Any]) -> str:
    named = {name.lower().rpartition(".")[2]: str(value) for name, value in metadata.items()}
    parts = [named.get("make") or named.get("manufacturer", ""), named.get("model", "")]
    return " ".join(part.strip() for part in parts if part.strip())[:200]


def _focal_35mm(tags: Mapping[str, Any]) -> float:
    for name, value in tags.items():
        text = _MM.fullmatch(str(value))
        if text and _NAMES_LENS.search(name) and SHORTEST_MM <= float(text[1]) <= LONGEST_MM:
            return float(text[1])
    return 0.0


def _filmed(tags: Mapping[str, Any]) -> str:
    for name in _FILMED:
        try:
            moment = datetime.fromisoformat(str(tags.get(name, "")))
        except ValueError:
            continue
        if moment.year >= 2000:  # a phone that does not know the time writes 1904 or 1970
            return moment.isoformat(timespec="seconds")
    return ""


def _capture_rate(tags: Mapping[str, Any]) -> float:
    try:
        return max(float(tags.get("com.android.capture.fps", 0) or 0), 0.0)
    except ValueError:
        return 0.0


@dataclass(frozen=True)
class _Track:
    """One track of a QuickTime or MP4 file.

    tags    its own, which FFmpeg does not show
    still   whether it marks the picture of a Live Photo
    speeds  of its edit list
    """

    tags: dict[str, Any]
    still: bool
    speeds: tuple[float, ...]


def _tracks(file: BinaryIO) -> Iterator[_Track]:
    """The tracks of a file, as far as it can be read."""
    for first, last in _inside(file, (b"moov", b"trak"), 0, file.seek(0, 2)):
        tags: dict[str, Any] = {}
        for begin, end in _inside(file, (b"meta",), first, last):
            if end - begin <= _LARGEST:
                tags |= _tags(file, begin, end)
        kinds = _contents(file, (b"mdia", b"hdlr"), first, last)
        seen_or_heard = any(content[8:12] in (b"vide", b"soun") for content in kinds)
        edits = _contents(file, (b"edts", b"elst"), first, last) if seen_or_heard else []
        still = any(_STILL in content for content in _contents(file, _DESCRIPTIONS, first, last))
        yield _Track(tags, still, tuple(speed for content in edits for speed in _speeds(content)))


def _contents(file: BinaryIO, names: tuple[bytes, ...], start: int, end: int) -> list[bytes]:
    return [_read(file, *found) for found in _inside(file, names, start, end) if found[1] - found[0] <= _LARGEST]


def _speeds(edits: bytes) -> Iterator[float]:
    """The speeds of an edit list's parts that show something, without 1 (as filmed) and 0 (a picture that stands)."""
    size, kind = (20, ">Qqi") if edits[:1] == b"\1" else (12, ">Iii")
    for at in range(8, len(edits) - size + 1, size):
        _, begin, rate = struct.unpack(kind, edits[at : at + size])
        if begin >= 0 and rate not in (0, 1 << 16):
            yield rate / (1 << 16)


def _inside(file: BinaryIO, names: tuple[bytes, ...], start: int, end: int) -> Iterator[tuple[int, int]]:
    """First and last byte of the content of each box of that path, in a part of a file."""
    for kind, first, last in _boxes(file, start, end):
        if kind == names[0]:
            if len(names) == 1:
                yield first, last
            else:
                yield from _inside(file, names[1:], first, last)


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
