"""The points of a C3D file, the format of motion capture laboratories (c3d.org); analog channels are passed over."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy import ndarray as Array

from twoview.errors import FormatError

_BLOCK = 512
_INTEL = 84
_TYPES = {-1: "S1", 1: "u1", 2: "<i2", 4: "<f4"}
_MM = {"mm": 1.0, "cm": 10.0, "m": 1000.0}


@dataclass(frozen=True, eq=False)
class Points:
    """Labelled points (T, N, 3) in millimeters, NaN where a point was not seen, `rate` a second."""

    labels: tuple[str, ...]
    points: Array
    rate: float

    def named(self, labels: list[str]) -> Array:
        """The points (T, len(labels), 3) of these labels. Raises KeyError naming the first that is missing."""
        return self.points[:, [self._index(label) for label in labels]]

    def _index(self, label: str) -> int:
        if label not in self.labels:
            raise KeyError(f"no point {label!r}; there are {', '.join(self.labels)}")
        return self.labels.index(label)


def read(path: Path | str) -> Points:
    """The points of a file. Raises FormatError for a damaged one, or one written for a DEC or SGI machine."""
    try:
        content = Path(path).read_bytes()
        if content[1] != 0x50:
            raise ValueError("its first block is not a C3D header")
        parameters = _parameters(content[(content[0] - 1) * _BLOCK :])
        return _points(content, parameters)
    except (OSError, ValueError, KeyError, IndexError, struct.error) as error:
        raise FormatError(f"{path} cannot be read as C3D: {error}") from error


def _parameters(content: bytes) -> dict[str, Array]:
    """Values of "GROUP:NAME", arrays with the file's first axis first."""
    if content[3] != _INTEL:
        raise ValueError(f"processor type {content[3]}, and only {_INTEL} (Intel) is known")
    groups: dict[int, str] = {}
    found: list[tuple[int, str, Array]] = []
    at = 4
    while True:
        letters, number = struct.unpack_from("<bb", content, at)
        if letters == 0 or number == 0:
            break
        name = content[at + 2 : at + 2 + abs(letters)].decode("ascii").strip().upper()
        at += 2 + abs(letters)
        following = at + struct.unpack_from("<H", content, at)[0]
        if number < 0:
            groups[-number] = name
        else:
            kind, axes = struct.unpack_from("<bB", content, at + 2)
            shape = tuple(content[at + 4 : at + 4 + axes])
            count = int(np.prod(shape, dtype=int))
            found.append(
                (number, name, np.frombuffer(content, _TYPES[kind], count, at + 4 + axes).reshape(shape[::-1]))
            )
        if following == at:
            break
        at = following
    return {f"{groups.get(number, number)}:{name}": value for number, name, value in found}


def _points(content: bytes, parameters: dict[str, Array]) -> Points:
    count, analog, first, last = struct.unpack_from("<HHHH", content, 2)
    scale, start = struct.unpack_from("<fH", content, 12)
    rate = struct.unpack_from("<f", content, 20)[0]
    frames = last - first + 1
    if "POINT:FRAMES" in parameters and last == 0xFFFF:
        frames = int(parameters["POINT:FRAMES"].ravel()[0])
    unit = _text(parameters["POINT:UNITS"].ravel()) if "POINT:UNITS" in parameters else "mm"
    labels = tuple(_text(row) for row in parameters["POINT:LABELS"].reshape(-1, parameters["POINT:LABELS"].shape[-1]))
    dtype = np.dtype("<f4" if scale < 0 else "<i2")
    values = np.frombuffer(content, dtype, frames * (4 * count + analog), (start - 1) * _BLOCK)
    values = values.reshape(frames, -1)[:, : 4 * count].reshape(frames, count, 4).astype(np.float64)
    points = values[..., :3] * (_MM[unit] * (1.0 if scale < 0 else scale))
    return Points(labels[:count], np.where(values[..., 3:] < 0, np.nan, points), float(rate))


def _text(letters: Array) -> str:
    return b"".join(letter or b" " for letter in letters.tolist()).decode("ascii").strip()
