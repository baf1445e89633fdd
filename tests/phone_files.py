"""Small video files with the boxes and tags that phones write."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np

APPLE_LENS = "com.apple.quicktime.camera.focal_length.35mm_equivalent"


def tagged(path: Path, tags: dict[str, str]) -> Path:
    """A short video with these tags of the file."""
    with av.open(str(path), "w", options={"movflags": "use_metadata_tags"} if path.suffix != ".mkv" else {}) as film:
        film.metadata.update(tags)
        stream = film.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(3):
            film.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")))
        film.mux(stream.encode())
    return path


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def in_box(data: bytes, path: list[bytes], start: int = 0, end: int | None = None) -> Iterator[tuple[int, int]]:
    """(begin, end) of the content of each box of that path in an mp4."""
    end = len(data) if end is None else end
    while start + 8 <= end:
        size, name = struct.unpack(">I4s", data[start : start + 8])
        if name == path[0]:
            if len(path) == 1:
                yield start + 8, start + size
            else:
                yield from in_box(data, path[1:], start + 8, start + size)
        start += size or end


def with_box(path: Path, within: bytes, extra: bytes) -> Path:
    """The file with one more box at the end of its `moov` or first `trak`; its pictures come before those."""
    whole = path.read_bytes()
    assert whole.index(b"mdat") < whole.index(b"moov")
    outer = whole.index(b"moov") - 4
    inner = outer if within == b"moov" else whole.index(within, outer) - 4
    end = inner + struct.unpack_from(">I", whole, inner)[0]
    new = bytearray(whole[:end] + extra + whole[end:])
    for at in {outer, inner}:
        struct.pack_into(">I", new, at, struct.unpack_from(">I", whole, at)[0] + len(extra))
    path.write_bytes(bytes(new))
    return path


def tagged_track(path: Path, kind: int, value: bytes, *, key: str = APPLE_LENS, version: bytes = b"") -> Path:
    """A short video whose track has a tag, as an iPhone writes it."""
    hdlr = box(b"hdlr", bytes(8) + b"mdta" + bytes(13))
    keys = box(b"keys", struct.pack(">II", 0, 1) + box(b"mdta", key.encode()))
    data = box(b"data", struct.pack(">II", kind, 0) + value)
    content = version + hdlr + keys + box(b"ilst", box(struct.pack(">I", 1), data))
    return with_box(tagged(path, {}), b"trak", box(b"meta", content))
