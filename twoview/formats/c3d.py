"""C3D: the binary file of motion capture laboratories (c3d.org).

A header of one block of 512 bytes, blocks of parameters in groups, and then every point of every frame as four floats:
x, y, z and the residual.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy import ndarray as Array

from twoview.formats.even import Even, at_even_rate
from twoview.formats.markers import marker_names, marker_places
from twoview.poses import Poses3D

MOST_COUNTED = 65_535  # frames that the header's two bytes count; readers that know no other place miss the rest
_BLOCK = 512
_LITTLE_ENDIAN = 84
_KEY = 0x50  # marks header and parameters of a C3D file
_LONGEST = 255  # characters of a text

Value = str | int | float | Sequence[str] | Sequence[int]  # whole numbers have two bytes, without a sign


def write_c3d(poses: Poses3D, path: Path) -> None:
    """Write points in meters, in the world's axes or y up, at the true rate; a gap has the residual -1.

    More frames than the header can count are in POINT:LONG_FRAMES and TRIAL:ACTUAL_END_FIELD. When the
    first frame was, on the view's clock, is in TWOVIEW:START_S.
    """
    even = at_even_rate(poses)
    groups = _parameters(even)
    begin = 2 + len(_section(groups)) // _BLOCK  # header and parameters come first, and say so
    groups["POINT"]["DATA_START"] = begin
    with path.open("wb") as file:
        file.write(_header(len(even.poses.skeleton), len(even.poses), even.rate, begin) + _section(groups))
        points = _points(even.poses)
        file.write(points.tobytes())
        file.write(bytes(-points.nbytes % _BLOCK))


def _points(poses: Poses3D) -> Array:
    """Places and residuals (T, J, 4), little-endian."""
    known = np.isfinite(poses.xyz).all(axis=-1)
    points = np.zeros((*known.shape, 4), dtype="<f4")
    points[..., :3] = np.where(known[..., None], marker_places(poses), 0.0)
    points[..., 3] = np.where(known, 0.0, -1.0)
    return points


def _header(points: int, frames: int, rate: float, begin: int) -> bytes:
    """The first block; a scale of -1 says that the points are floats."""
    last = min(frames, MOST_COUNTED)
    start = struct.pack("<BBHHHHHfHHf", 2, _KEY, points, 0, 1, last, 0, -1.0, begin, 0, rate)
    return start.ljust(_BLOCK, b"\0")


def _parameters(even: Even) -> dict[str, dict[str, Value]]:
    """All groups; POINT:DATA_START is not known yet."""
    from twoview import __version__

    poses, frames = even.poses, len(even.poses)
    long = frames > MOST_COUNTED
    point: dict[str, Value] = {
        "USED": len(poses.skeleton),
        "SCALE": -1.0,
        "RATE": float(even.rate),
        "DATA_START": 0,
        "FRAMES": min(frames, MOST_COUNTED),  # ezc3d reads no float here
        "LABELS": marker_names(poses.skeleton),
        "DESCRIPTIONS": list(poses.skeleton.joints),
        "UNITS": "m",
        "X_SCREEN": "+X",
        "Y_SCREEN": "+Z" if poses.axes == "z-up" else "+Y",
    }
    return {
        "POINT": point | ({"LONG_FRAMES": float(frames)} if long else {}),
        "ANALOG": {"USED": 0, "RATE": 0.0, "GEN_SCALE": 1.0},
        "TRIAL": {"ACTUAL_START_FIELD": _two_words(1), "ACTUAL_END_FIELD": _two_words(frames)},
        "MANUFACTURER": {"COMPANY": "twoview", "SOFTWARE": "twoview", "VERSION_LABEL": __version__},
        "TWOVIEW": {"START_S": float(poses.time[0]), "NOTE": even.note or "every row is a frame of the video"},
    }


def _two_words(number: int) -> list[int]:
    return [number & 0xFFFF, number >> 16]


def _section(groups: Mapping[str, Mapping[str, Value]]) -> bytes:
    """The groups and their parameters in whole blocks."""
    records = []
    for number, (group, values) in enumerate(groups.items(), 1):
        records.append(_record(group, -number, b""))
        records += [_record(name, number, _value(value)) for name, value in values.items()]
    size = 4 + sum(map(len, records)) + 2
    blocks = -(-size // _BLOCK)
    return (bytes([1, _KEY, blocks, _LITTLE_ENDIAN]) + b"".join(records)).ljust(blocks * _BLOCK, b"\0")


def _record(name: str, number: int, value: bytes) -> bytes:
    """One group (a negative number, no value) or one parameter, without a description."""
    text = name.encode("ascii")
    return struct.pack("<bb", len(text), number) + text + struct.pack("<H", 2 + len(value) + 1) + value + b"\0"


def _value(value: Value) -> bytes:
    """Type, dimensions and content of a parameter."""
    if isinstance(value, str):
        return _texts([value], single=True)
    if isinstance(value, float):
        return struct.pack("<bBf", 4, 0, value)
    if isinstance(value, int):
        return struct.pack("<bBH", 2, 0, value)
    if all(isinstance(item, str) for item in value):
        return _texts(map(str, value))
    return struct.pack(f"<bBB{len(value)}H", 2, 1, len(value), *value)


def _texts(texts: Iterable[str], *, single: bool = False) -> bytes:
    """Texts of one width, filled with spaces."""
    lines = [text.encode("ascii", "replace")[:_LONGEST] for text in texts]
    width = max(map(len, lines))
    dimensions = bytes([1, width]) if single else bytes([2, width, len(lines)])
    return struct.pack("<b", -1) + dimensions + b"".join(line.ljust(width) for line in lines)
