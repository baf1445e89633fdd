"""Draw skeletons: over a picture, and as a 3D figure on a floor, seen from a fixed viewpoint.

All pictures are (H, W, 3) uint8 RGB. Left limbs are blue, right limbs orange and the trunk gray, in 2D and in 3D.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from anyascii import anyascii
from numpy import ndarray as Array
from scipy.ndimage import maximum_filter1d, uniform_filter1d
from scipy.spatial.transform import Rotation

from twoview.media.opencv import cv2
from twoview.poses import Poses3D
from twoview.skeleton import Skeleton

Color = tuple[int, int, int]
Side = Literal["left", "right", "middle"]

LEFT: Color = (38, 118, 214)
RIGHT: Color = (236, 112, 34)
MIDDLE: Color = (72, 78, 88)
COLORS: dict[Side, Color] = {"left": LEFT, "right": RIGHT, "middle": MIDDLE}
PAPER: Color = (247, 248, 250)
INK: Color = (40, 44, 52)
_FLOOR: Color = (214, 218, 225)
_SHADOW: Color = (176, 182, 192)
_WHITE: Color = (255, 255, 255)

_SHIFT = 4  # fractional bits of cv2 coordinates, so that motion is smooth
_OVERSAMPLING = 2  # 3D figures are drawn this much larger and then reduced
_FLOOR_WINDOW_S = 0.08  # the floor is the lowest joint within this time before and after a frame
_DISTANCE = 4.0  # of the camera, in heights of the shown space: mild perspective
_HOLLOW_BELOW = 0.3  # score


def css(color: Color) -> str:
    """The color as web pages and matplotlib write it: #2676d6."""
    return "#" + bytes(color).hex()


def blank(size: tuple[int, int]) -> Array:
    """An empty picture of (width, height)."""
    return _blank(size).copy()


@cache
def _blank(size: tuple[int, int]) -> Array:
    return np.full((size[1], size[0], 3), PAPER, np.uint8)


def side_of(skeleton: Skeleton, joint: int) -> Side:
    """The side of a joint; a bone is on the side of its child joint."""
    for left, right in skeleton.pairs:
        if joint in (left, right):
            return "left" if joint == left else "right"
    return "middle"


def draw_overlay(rgb: Array, xy: Array, score: Array, skeleton: Skeleton, *, extent: float | None = None) -> None:
    """Draw one person's joints xy (J, 2) px and bones onto a picture, in place; unseen joints are omitted.

    score   (J,) 0 to 1; joints with a low score are drawn hollow
    extent  size of the person in px, which sets the line width; default: the extent of these joints
    """
    seen = score > 0
    if not seen.any():
        return
    extent = extent or float(np.ptp(xy[seen], axis=0).max())
    thick = int(np.clip(extent / 55, 2, 14))
    bones = [(a, b) for a, b in skeleton.bones if seen[a] and seen[b]]
    for outline in (True, False):
        for a, b in bones:
            color = _WHITE if outline else COLORS[side_of(skeleton, b)]
            _line(rgb, xy[a], xy[b], color, thick + 2 + thick // 3 if outline else thick)
    for joint in np.flatnonzero(seen).tolist():
        _dot(rgb, xy[joint], _WHITE, thick * 0.95)
        if score[joint] >= _HOLLOW_BELOW:
            _dot(rgb, xy[joint], COLORS[side_of(skeleton, joint)], thick * 0.6)


def write_text(rgb: Array, text: str, at: tuple[int, int], *, size: float = 0.5, color: Color = INK) -> None:
    """Write one line of text onto a picture, in place, readable on any background; its baseline starts at (x, y).

    OpenCV's letters are those of ASCII: other scripts are transliterated.
    """
    thick, text = max(1, round(size * 1.4)), anyascii(text)
    for ink, wide in ((PAPER, thick + 4), (color, thick)):
        cv2.putText(rgb, text, at, cv2.FONT_HERSHEY_DUPLEX, size, ink, wide, cv2.LINE_AA)


def text_width(text: str, *, size: float = 0.5) -> int:
    """Width in pixels of a line of text."""
    return int(cv2.getTextSize(anyascii(text), cv2.FONT_HERSHEY_DUPLEX, size, max(1, round(size * 1.4)))[0][0])


Viewpoint = Literal["three-quarter", "side", "front"]
# Azimuth and elevation of the camera in degrees.
_ANGLES: dict[Viewpoint, tuple[float, float]] = {
    "front": (0.0, 8.0), "three-quarter": (38.0, 14.0), "side": (90.0, 10.0)
}  # fmt: skip


@dataclass(frozen=True)
class FigureSpace:
    """The space in which 3D figures are drawn: one floor and one scale for all frames and viewpoints.

    floor, top  y of the floor and of the highest joint
    reach       radius of the floor: no joint is farther from the root, which stays in the middle of the picture
    grid        side of a floor square; all lengths are in the poses' unit
    note        the scale in words, for a corner of the picture
    """

    skeleton: Skeleton
    floor: float
    top: float
    reach: float
    grid: float
    note: str

    @property
    def height(self) -> float:
        """Height of the highest joint above the floor."""
        return self.floor - self.top

    @classmethod
    def of(cls, *results: Poses3D) -> FigureSpace:
        """The space that holds all frames of one or several results, such as those before and after adaptation."""
        first = results[0]
        points = np.concatenate([placed(result)[0].reshape(-1, 3) for result in results])
        points = points[np.isfinite(points).all(axis=1)]
        if not len(points):
            points = np.array([[-0.5, -0.5, -0.5], [0.5, 0.5, 0.5]])
        floor, top = (float(np.percentile(points[:, 1], q)) for q in (99.5, 0.2))
        reach = max(float(np.percentile(np.linalg.norm(points[:, [0, 2]], axis=1), 99.5)), 1e-3)
        top = min(top, floor - reach)  # someone who lies down is not enlarged
        meters = first.unit == "m"
        grid = 0.25 if meters else (floor - top) / 7
        grid *= 2 ** max(0, int(np.ceil(np.log2(reach / grid / 8))))  # for wide poses fewer and larger squares
        note = f"floor squares: {grid:g} m" if meters else "no scale, shape only"
        return cls(first.skeleton, floor, top, max(reach, 0.35 * (floor - top)), grid, note)

    def draw(self, xyz: Array, ground: Array, size: tuple[int, int], viewpoint: Viewpoint) -> Array:
        """Draw joints xyz (J, 3) over their ground (2,), both from `placed` -> picture of `size` (width, height)."""
        width, height = size[0] * _OVERSAMPLING, size[1] * _OVERSAMPLING
        rgb = blank((width, height))
        camera = _Camera(self, (width, height), viewpoint)
        self._draw_floor(rgb, camera, ground)
        seen = np.isfinite(xyz).all(axis=1)
        if seen.any():
            self._draw_figure(rgb, camera, xyz, seen)
        return cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)

    def _draw_floor(self, rgb: Array, camera: _Camera, ground: Array) -> None:
        reach = 1.25 * self.reach
        for axis in (0, 1):
            first = np.ceil((ground[axis] - reach) / self.grid) * self.grid
            for along in np.arange(first, ground[axis] + reach, self.grid) - ground[axis]:
                half = np.sqrt(max(reach**2 - along**2, 0.0))  # a round floor
                ends = np.array([[along, self.floor, -half], [along, self.floor, half]])
                ends = ends if axis == 0 else ends[:, [2, 1, 0]]
                a, b = camera.project(ends)[0]
                _line(rgb, a, b, _FLOOR, _OVERSAMPLING)

    def _draw_figure(self, rgb: Array, camera: _Camera, xyz: Array, seen: Array) -> None:
        thick = self.height * camera.scale / 42
        shadow = xyz * [1, 0, 1] + [0, self.floor, 0]
        flat, _ = camera.project(shadow)
        dark = rgb.copy()
        bones = [(a, b) for a, b in self.skeleton.bones if seen[a] and seen[b]]
        for a, b in bones:
            _line(dark, flat[a], flat[b], _SHADOW, round(thick * 1.3))
        cv2.addWeighted(dark, 0.55, rgb, 0.45, 0, dst=rgb)
        xy, depth = camera.project(xyz)
        near = np.clip(0.5 - depth / self.height, 0, 1)  # 1 in front, 0 behind
        for a, b in sorted(bones, key=lambda bone: -(depth[bone[0]] + depth[bone[1]])):
            shade = _fade(COLORS[side_of(self.skeleton, b)], 0.5 * (near[a] + near[b]))
            _line(rgb, xy[a], xy[b], PAPER, round(thick * 1.5))
            _line(rgb, xy[a], xy[b], shade, round(thick))
            for joint in (a, b):
                _dot(rgb, xy[joint], _fade(COLORS[side_of(self.skeleton, joint)], near[joint]), thick * 0.72)
        if "head" in self.skeleton.joints and seen[head := self.skeleton.index("head")]:
            _dot(rgb, xy[head], MIDDLE, thick * 1.5)


class _Camera:
    """A perspective camera that looks at the middle of a space."""

    def __init__(self, space: FigureSpace, size: tuple[int, int], viewpoint: Viewpoint) -> None:
        azimuth, elevation = _ANGLES[viewpoint]
        self._rotation = Rotation.from_euler("yx", [-azimuth, -elevation], degrees=True).as_matrix()
        self._middle = np.array([0.0, 0.5 * (space.floor + space.top), 0.0])
        self._distance = _DISTANCE * space.height
        self.scale = min(0.76 * size[1] / space.height, 0.42 * size[0] / space.reach)
        self._center = np.array([size[0] / 2, size[1] * 0.49])

    def project(self, points: Array) -> tuple[Array, Array]:
        """Points (N, 3) -> pixels (N, 2) and depth (N,); depth grows away from the camera."""
        seen = (points - self._middle) @ self._rotation.T
        nearer = self._distance / (self._distance + seen[:, 2:])
        return seen[:, :2] * self.scale * nearer + self._center, seen[:, 2]


def placed(poses: Poses3D) -> tuple[Array, Array]:
    """Poses with the root above the origin (T, J, 3), and the root's place on the ground (T, 2) as x, z.

    Poses in camera space keep their height. Root-relative poses have none: the floor is put under the lowest joint of
    the frames just before and after, so that the figure goes down when the athlete crouches.
    """
    root = poses.xyz[:, poses.skeleton.root].astype(np.float64)
    shift = root * [1, 0, 1]
    if poses.origin == "camera":
        shift[:, 1] = np.nanmedian(root[:, 1]) if np.isfinite(root[:, 1]).any() else 0.0
    else:
        shift[:, 1] = _lowest(poses)
    return poses.xyz - shift[:, None], np.nan_to_num(shift[:, [0, 2]])


def _lowest(poses: Poses3D) -> Array:
    """Y (T,) of the floor under each frame: the lowest joint in a window around the frame, smoothed."""
    heights = np.where(np.isfinite(poses.xyz[..., 1]), poses.xyz[..., 1], -np.inf).max(axis=1).astype(np.float64)
    known = np.isfinite(heights)
    if known.sum() < 2:
        return np.where(known, heights, 0.0)
    heights = np.interp(poses.time, poses.time[known], heights[known])
    window = 2 * round(_FLOOR_WINDOW_S / float(np.median(np.diff(poses.time)))) + 1
    return uniform_filter1d(maximum_filter1d(heights, window), window)


def _fade(color: Color, near: float) -> Color:
    """A color that gets paler with distance; near is 1 in front and 0 behind."""
    share = 0.55 + 0.45 * float(near)
    return tuple(round(c * share + p * (1 - share)) for c, p in zip(color, PAPER, strict=True))  # type: ignore[return-value]


def _fixed(point: Array) -> tuple[int, int]:
    x, y = np.clip(point, -1e5, 1e5) * (1 << _SHIFT)
    return round(float(x)), round(float(y))


def _line(rgb: Array, a: Array, b: Array, color: Color, thick: int) -> None:
    cv2.line(rgb, _fixed(a), _fixed(b), color, max(thick, 1), cv2.LINE_AA, _SHIFT)


def _dot(rgb: Array, at: Array, color: Color, radius: float) -> None:
    cv2.circle(rgb, _fixed(at), round(max(radius, 1.0) * (1 << _SHIFT)), color, -1, cv2.LINE_AA, _SHIFT)
