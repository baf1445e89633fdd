"""From a decoded frame to upright pixels: rotated and mirrored as the file demands, scaled as the caller asks.

High dynamic range, in which newer phones film by default, is mapped to the standard range that detectors know: the
light that a screen shows for it (ITU-R BT.2100), with the white of paper (BT.2408) as white and all above it clipped.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import Type as SideData
from numpy import ndarray as Array

from twoview.media.opencv import cv2

Matrix = tuple[int, int, int, int]  # signs a, b, c, d of a display matrix, see `display_matrix`

HDR = {16: "PQ", 18: "HLG"}  # transfer functions of ITU-T H.273 with a high dynamic range
_WHITE, _GAMMA = 203.0, 2.4  # candelas per square meter of white paper; exponent of a standard screen
_WIDE = (2, 9)  # primaries of BT.2020, and those that a file does not name
_TO_NARROW = np.array(  # from BT.2020's red, green and blue to BT.709's; exact for light, near enough for its root
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)
_PLANAR = ("yuv420p", "yuvj420p")  # what phones' 8-bit video is decoded to
_GRID = 4  # px: parts of such pictures begin and end at multiples of this; PyAV takes no other heights
_BLACK = {False: 16, True: 0}  # brightness of black, by whether a picture uses the full range of a byte
# Weights of red and blue in the brightness, by the color space's number in ITU-T H.273; all others are BT.601.
_WEIGHTS = {1: (0.2126, 0.0722), 4: (0.3, 0.11), 7: (0.212, 0.087), 9: (0.2627, 0.0593)}


@dataclass(frozen=True, eq=False)
class Pixels:
    """A picture as an array (H, W, 3) uint8. time: presentation time in seconds."""

    time: float
    values: Array

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""
        return self.values.shape[1], self.values.shape[0]

    def rgb(self, size: tuple[int, int] | None = None) -> Array:
        """The pixels (H, W, 3), scaled to (width, height) `size` if given."""
        if size is None or size == self.size:
            return self.values
        return cv2.resize(self.values, size, interpolation=cv2.INTER_AREA)

    def part(self, box: Array) -> tuple[Array, tuple[int, int]]:
        """The pixels in a box (left, top, right, bottom), and the column and row of the first; a view, not a copy."""
        height, width = self.values.shape[:2]
        left, top, right, bottom = _inside(box, width, height)
        return self.values[top:bottom, left:right], (left, top)

    def crop(self, matrix: Array, size: tuple[int, int]) -> Array:
        """Pixels (height, width, 3) of the given `size` after an affine map (2, 3) from picture px; black outside."""
        return cv2.warpAffine(self.values, matrix, size, flags=cv2.INTER_LINEAR)


@dataclass(frozen=True, eq=False)
class DecodedFrame:
    """A picture as the decoder returned it, mostly in half the memory of its RGB pixels, which are made on demand.

    time  presentation time in seconds
    """

    time: float
    _decoded: Any
    _matrix: Matrix

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the upright picture."""
        width, height = self._decoded.width, self._decoded.height
        return (width, height) if self._matrix[0] else (height, width)

    def kept(self, size: tuple[int, int]) -> DecodedFrame | Pixels:
        """The picture at (width, height) `size`, in the form that takes the least memory."""
        planar = self._decoded.format.name in _PLANAR and not (size[0] % _GRID or size[1] % _GRID)
        return (
            self
            if planar and self._decoded.color_trc not in HDR and self.size == size
            else Pixels(self.time, self.rgb(size))
        )

    def rgb(self, size: tuple[int, int] | None = None) -> Array:
        """Upright pixels (H, W, 3) uint8, scaled to (width, height) `size` if given. Not thread-safe."""
        return upright(self._decoded, self._matrix, size)

    def part(self, box: Array) -> tuple[Array, tuple[int, int]]:
        """As `Pixels.part`, up to three pixels larger on each side; the rest of the picture is not converted.

        Only for pictures in a usual format, that is those that `kept` returns unchanged.
        """
        width, height = self.size
        left, top, right, bottom = _inside(box, width, height)
        left, top = left // _GRID * _GRID, top // _GRID * _GRID
        right, bottom = -(-right // _GRID) * _GRID, -(-bottom // _GRID) * _GRID
        a, b, c, d = self._matrix
        across, down = slice(left, right), slice(top, bottom)
        if (a or c) < 0:
            across = slice(width - right, width - left)
        if (d or b) < 0:
            down = slice(height - bottom, height - top)
        columns, rows = (across, down) if a else (down, across)
        return upright(_cut(self._decoded, rows, columns), self._matrix, None), (left, top)

    def crop(self, matrix: Array, size: tuple[int, int]) -> Array:
        """As `Pixels.crop`, within two or three of 255 levels: colors are converted after interpolation, not before.

        That takes a quarter of the time. Only for pictures in a usual format, as `part`.
        """
        decoded, (width, height) = self._decoded, self.size
        a, b, c, d = self._matrix
        shown = np.array([[a, c, (width - 1) * (a + c < 0)], [b, d, (height - 1) * (b + d < 0)], [0, 0, 1]])
        bright = matrix @ shown
        color = bright @ np.array([[2, 0, 0.5], [0, 2, 0.5], [0, 0, 1]])  # half size: between four bright ones
        full = decoded.color_range == 2 or decoded.format.name == "yuvj420p"
        planes = []
        for plane, step, outside in zip(
            _planes(decoded), (bright, color, color), (_BLACK[full], 128, 128), strict=True
        ):
            planes.append(cv2.warpAffine(plane, step, size, flags=cv2.INTER_LINEAR, borderValue=outside))
        return cv2.transform(cv2.merge(planes), _to_rgb(decoded.colorspace, full))


def _inside(box: Array, width: int, height: int) -> tuple[int, int, int, int]:
    """A box rounded outwards to whole pixels and clipped to the picture; never empty."""
    left, top = (int(np.clip(np.floor(box[i]), 0, (width, height)[i] - 2)) for i in (0, 1))
    right, bottom = (int(np.clip(np.ceil(box[i + 2]), low + 2, (width, height)[i])) for i, low in ((0, left), (1, top)))
    return left, top, right, bottom


def _cut(decoded: Any, rows: slice, columns: slice) -> Any:
    """Part of a frame that has a brightness plane and two half-size color planes; bounds are multiples of _GRID."""
    parts = [
        stored[rows.start // step : rows.stop // step, columns.start // step : columns.stop // step].ravel()
        for stored, step in zip(_planes(decoded), (1, 2, 2), strict=True)
    ]
    values = np.concatenate(parts).reshape(-1, columns.stop - columns.start)
    cut = av.VideoFrame.from_numpy_buffer(values, format=decoded.format.name)
    cut.color_range, cut.colorspace = decoded.color_range, decoded.colorspace
    return cut


def _planes(decoded: Any) -> list[Array]:
    """The planes (H, W) uint8 of a decoded frame, not copied."""
    return [np.ndarray((p.height, p.width), np.uint8, p, strides=(p.line_size, 1)) for p in decoded.planes]


@cache
def _to_rgb(space: int, full: bool) -> Array:
    """Affine map (3, 4) from brightness and the two color differences, 0..255, to red, green, blue."""
    red, blue = _WEIGHTS.get(space, (0.299, 0.114))
    green = 1 - red - blue
    of_blue, of_red = 2 * (1 - blue), 2 * (1 - red)
    linear = np.array([[1, 0, of_red], [1, -of_blue * blue / green, -of_red * red / green], [1, of_blue, 0]])
    linear = linear * ([1, 1, 1] if full else [255 / 219, 255 / 224, 255 / 224])
    return np.column_stack([linear, -linear @ [_BLACK[full], 128, 128]])


def display_matrix(decoded: Any) -> Matrix:
    """Signs a, b, c, d of the display matrix: the stored pixel (x, y) is shown at (a x + c y, b x + d y)."""
    data = decoded.side_data.get(SideData.DISPLAYMATRIX)
    if data is None:
        return 1, 0, 0, 1
    values = np.frombuffer(bytes(data), np.int32)[[0, 1, 3, 4]].astype(np.int64)
    a, b, c, d = np.sign(values).tolist()
    return (a, 0, 0, d) if abs(values[0]) >= abs(values[1]) else (0, b, c, 0)


def upright(decoded: Any, matrix: Matrix, size: tuple[int, int] | None) -> Array:
    """Pixels (H, W, 3) of a decoded frame, rotated (and mirrored) by the display matrix."""
    a, b, c, d = matrix
    width, height = (None, None) if size is None else size if a else size[::-1]
    format, kind = ("rgb48le", "<u2") if decoded.color_trc in HDR else ("rgb24", "u1")
    shown = decoded.reformat(width=width, height=height, format=format, interpolation="AREA", threads=1)
    across, down = (a, d) if a else (c, b)
    plane, step = shown.planes[0], np.dtype(kind).itemsize
    rgb = np.ndarray((shown.height, shown.width, 3), kind, plane, strides=(plane.line_size, 3 * step, step))  # no copy
    if step > 1:
        rgb = _standard(decoded.color_trc).take(rgb)
        rgb = cv2.transform(rgb, _TO_NARROW) if decoded.color_primaries in _WIDE else rgb
    if a:
        return np.ascontiguousarray(rgb[::down, ::across])
    turned = np.empty((rgb.shape[1], rgb.shape[0], 3), np.uint8)
    for color in range(3):  # one color at a time: twice as fast as all three
        turned[..., color] = rgb[..., color].T[::down, ::across]
    return turned


@cache
def _standard(transfer: int) -> Array:
    """Values 0..255 (65536,) of the standard range for those of a high dynamic range."""
    value = np.arange(65536) / 65535
    if HDR[transfer] == "HLG":  # BT.2100, table 5, on a screen of 1000 candelas per square meter
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        light = 1000 * np.where(value <= 0.5, value**2 / 3, (np.exp((value - c) / a) + b) / 12) ** 1.2
    else:  # table 4
        m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
        root = value ** (1 / m2)
        light = 10000 * (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1)
    shown: Array = np.rint(255 * np.minimum(light / _WHITE, 1) ** (1 / _GAMMA)).astype(np.uint8)
    shown.setflags(write=False)
    return shown
