"""Drawing skeletons: over a picture, and as a 3D figure on a floor, seen from a fixed place.

All pictures are (H, W, 3) uint8 RGB. Left limbs are blue, right ones orange, the trunk is gray, in 2D and in 3D.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import cv2
import numpy as np
from numpy import ndarray as Array
from scipy.ndimage import maximum_filter1d, uniform_filter1d

from twoview.poses import Poses3D
from twoview.skeleton import Skeleton

Color = tuple[int, int, int]

LEFT: Color = (38, 118, 214)
RIGHT: Color = (236, 112, 34)
MIDDLE: Color = (72, 78, 88)
PAPER: Color = (247, 248, 250)
INK: Color = (40, 44, 52)
FAINT: Color = (214, 218, 225)

_SHIFT = 4  # cv2 coordinates with 4 fractional bits, so that motion is smooth
_FINE = 2  # 3D panels are drawn this much larger and shrunk
_STANDS_S = 0.08  # the ground is the lowest joint of so much time before and after
_DISTANCE = 4.0  # of the eye, in heights of the shown space: mild perspective


def blank(size: tuple[int, int]) -> Array:
    """An empty page of (width, height)."""
    return _page(size).copy()


@cache
def _page(size: tuple[int, int]) -> Array:
    return np.full((size[1], size[0], 3), PAPER, np.uint8)


def color_of(skeleton: Skeleton, joint: int) -> Color:
    """Blue for left joints, orange for right ones, gray for the others; a bone has its child's color."""
    for left, right in skeleton.pairs:
        if joint == left:
            return LEFT
        if joint == right:
            return RIGHT
    return MIDDLE


def draw_overlay(rgb: Array, xy: Array, score: Array, skeleton: Skeleton, *, extent: float | None = None) -> None:
    """Draw one person's joints xy (J, 2) px and bones onto a picture, in place; unseen joints are left out.

    extent  size of the person in px, which sets how thick lines are; default: of these joints

    Joints with a low score are drawn hollow.
    """
    seen = score > 0
    if not seen.any():
        return
    extent = extent or float(np.ptp(xy[seen], axis=0).max())
    thick = int(np.clip(extent / 55, 2, 14))
    bones = [(a, b) for a, b in skeleton.bones if seen[a] and seen[b]]
    for outline in (True, False):
        for a, b in bones:
            color = (255, 255, 255) if outline else color_of(skeleton, b)
            _line(rgb, xy[a], xy[b], color, thick + 2 + thick // 3 if outline else thick)
    for joint in np.flatnonzero(seen).tolist():
        _dot(rgb, xy[joint], (255, 255, 255), thick * 0.95)
        if score[joint] >= 0.3:
            _dot(rgb, xy[joint], color_of(skeleton, joint), thick * 0.6)


def write_text(rgb: Array, text: str, at: tuple[int, int], *, size: float = 0.5, color: Color = INK) -> None:
    """Write one line with its baseline starting at (x, y), in place, readable on anything."""
    thick = max(1, round(size * 1.4))
    for ink, wide in ((PAPER, thick + 4), (color, thick)):
        cv2.putText(rgb, text, at, cv2.FONT_HERSHEY_DUPLEX, size, ink, wide, cv2.LINE_AA)


def text_width(text: str, *, size: float = 0.5) -> int:
    """Width in pixels of a line of text."""
    return int(cv2.getTextSize(text, cv2.FONT_HERSHEY_DUPLEX, size, max(1, round(size * 1.4)))[0][0])


View = Literal["three-quarter", "side", "front"]
_ANGLES: dict[View, tuple[float, float]] = {"front": (0.0, 8.0), "three-quarter": (38.0, 14.0), "side": (90.0, 10.0)}


@dataclass(frozen=True)
class Stage:
    """The space in which a clip's 3D figure is shown: one floor and one scale for all of its frames and views.

    floor, top  heights of the floor and of the highest joint, along y
    reach       radius of the floor: no joint is farther from the root, which stays in the middle of the picture
    grid        side of a floor square; all lengths are in the poses' unit
    """

    skeleton: Skeleton
    floor: float
    top: float
    reach: float
    grid: float
    note: str

    @property
    def height(self) -> float:
        """From the floor to the highest joint."""
        return self.floor - self.top

    @classmethod
    def of(cls, *clips: Poses3D) -> Stage:
        """A stage that holds all frames of one or several clips (the same athlete before and after, say)."""
        first = clips[0]
        risen = np.concatenate([placed(clip)[0].reshape(-1, 3) for clip in clips])
        risen = risen[np.isfinite(risen).all(axis=1)]
        if not len(risen):
            risen = np.array([[-0.5, -0.5, -0.5], [0.5, 0.5, 0.5]])
        floor, top = (float(np.percentile(risen[:, 1], q)) for q in (99.5, 0.2))
        reach = max(float(np.percentile(np.linalg.norm(risen[:, [0, 2]], axis=1), 99.5)), 1e-3)
        top = min(top, floor - reach)  # someone lying down is not blown up
        meters = first.unit == "m"
        grid = 0.25 if meters else (floor - top) / 7
        grid *= 2 ** max(0, int(np.ceil(np.log2(reach / grid / 8))))  # wide poses get fewer, larger squares
        note = f"floor squares: {grid:g} m" if meters else "no scale, shape only"
        return cls(first.skeleton, floor, top, max(reach, 0.35 * (floor - top)), grid, note)

    def draw(self, xyz: Array, ground: Array, size: tuple[int, int], view: View) -> Array:
        """One frame's joints xyz (J, 3), placed as `placed` says -> a picture of `size` (width, height)."""
        width, height = size[0] * _FINE, size[1] * _FINE
        rgb = blank((width, height))
        eye = _Eye(self, (width, height), view)
        self._draw_floor(rgb, eye, ground)
        seen = np.isfinite(xyz).all(axis=1)
        if seen.any():
            self._draw_figure(rgb, eye, xyz, seen)
        return cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)

    def _draw_floor(self, rgb: Array, eye: _Eye, ground: Array) -> None:
        reach = 1.25 * self.reach
        for axis in (0, 1):
            first = np.ceil((ground[axis] - reach) / self.grid) * self.grid
            for along in np.arange(first, ground[axis] + reach, self.grid) - ground[axis]:
                half = np.sqrt(max(reach**2 - along**2, 0.0))  # a round floor
                ends = np.array([[along, self.floor, -half], [along, self.floor, half]])
                ends = ends if axis == 0 else ends[:, [2, 1, 0]]
                a, b = eye.project(ends)[0]
                _line(rgb, a, b, FAINT, _FINE)

    def _draw_figure(self, rgb: Array, eye: _Eye, xyz: Array, seen: Array) -> None:
        thick = self.height * eye.scale / 42
        shadow = xyz * [1, 0, 1] + [0, self.floor, 0]
        flat, _ = eye.project(shadow)
        dark = rgb.copy()
        bones = [(a, b) for a, b in self.skeleton.bones if seen[a] and seen[b]]
        for a, b in bones:
            _line(dark, flat[a], flat[b], (176, 182, 192), round(thick * 1.3))
        cv2.addWeighted(dark, 0.55, rgb, 0.45, 0, dst=rgb)
        xy, depth = eye.project(xyz)
        near = np.clip(0.5 - depth / self.height, 0, 1)  # 1 in front, 0 behind
        for a, b in sorted(bones, key=lambda bone: -(depth[bone[0]] + depth[bone[1]])):
            shade = _fade(color_of(self.skeleton, b), 0.5 * (near[a] + near[b]))
            _line(rgb, xy[a], xy[b], PAPER, round(thick * 1.5))
            _line(rgb, xy[a], xy[b], shade, round(thick))
            for joint in (a, b):
                _dot(rgb, xy[joint], _fade(color_of(self.skeleton, joint), near[joint]), thick * 0.72)
        self._draw_head(rgb, eye, xy, depth, thick)

    def _draw_head(self, rgb: Array, eye: _Eye, xy: Array, depth: Array, thick: float) -> None:
        if "head" in self.skeleton.joints and np.isfinite(xy[self.skeleton.index("head")]).all():
            _dot(rgb, xy[self.skeleton.index("head")], MIDDLE, thick * 1.5)


class _Eye:
    """Projects the stage onto a picture."""

    def __init__(self, stage: Stage, size: tuple[int, int], view: View) -> None:
        azimuth, elevation = np.radians(_ANGLES[view])
        turn = np.array([[np.cos(azimuth), 0, -np.sin(azimuth)], [0, 1, 0], [np.sin(azimuth), 0, np.cos(azimuth)]])
        tilt = np.array(
            [[1, 0, 0], [0, np.cos(elevation), np.sin(elevation)], [0, -np.sin(elevation), np.cos(elevation)]]
        )
        self._rotation = tilt @ turn
        self._middle = np.array([0.0, 0.5 * (stage.floor + stage.top), 0.0])
        self._distance = _DISTANCE * stage.height
        self.scale = min(0.76 * size[1] / stage.height, 0.42 * size[0] / stage.reach)
        self._center = np.array([size[0] / 2, size[1] * 0.49])

    def project(self, points: Array) -> tuple[Array, Array]:
        """Points (N, 3) -> pixels (N, 2) and depth (N,), larger behind."""
        seen = (points - self._middle) @ self._rotation.T
        nearer = self._distance / (self._distance + seen[:, 2:])
        return seen[:, :2] * self.scale * nearer + self._center, seen[:, 2]


def placed(poses: Poses3D) -> tuple[Array, Array]:
    """Poses with the root over the origin (T, J, 3), and where on the ground it was (T, 2) as x, z.

    Poses in camera space keep their ups and downs. Root-relative ones have none: they are stood on the floor by their
    lowest joint of the last and next moments, so that someone who crouches goes down.
    """
    root = poses.xyz[:, poses.skeleton.root].astype(np.float64)
    shift = root * [1, 0, 1]
    if poses.origin == "camera":
        shift[:, 1] = np.nanmedian(root[:, 1]) if np.isfinite(root[:, 1]).any() else 0.0
    else:
        shift[:, 1] = _lowest(poses)
    return poses.xyz - shift[:, None], np.nan_to_num(shift[:, [0, 2]])


def _lowest(poses: Poses3D) -> Array:
    """Height (T,) of the ground under each frame: the lowest joint of a window round it, smoothed."""
    heights = np.where(np.isfinite(poses.xyz[..., 1]), poses.xyz[..., 1], -np.inf).max(axis=1).astype(np.float64)
    known = np.isfinite(heights)
    if known.sum() < 2:
        return np.where(known, heights, 0.0)
    heights = np.interp(poses.time, poses.time[known], heights[known])
    window = 2 * round(_STANDS_S / float(np.median(np.diff(poses.time)))) + 1
    return uniform_filter1d(maximum_filter1d(heights, window), window)


def _fade(color: Color, near: float) -> Color:
    """A color that gets paler with distance."""
    share = 0.55 + 0.45 * float(near)
    return tuple(round(c * share + p * (1 - share)) for c, p in zip(color, PAPER, strict=True))  # type: ignore[return-value]


def _fixed(point: Array) -> tuple[int, int]:
    x, y = np.clip(point, -1e5, 1e5) * (1 << _SHIFT)
    return round(float(x)), round(float(y))


def _line(rgb: Array, a: Array, b: Array, color: Color, thick: int) -> None:
    cv2.line(rgb, _fixed(a), _fixed(b), color, max(thick, 1), cv2.LINE_AA, _SHIFT)


def _dot(rgb: Array, at: Array, color: Color, radius: float) -> None:
    cv2.circle(rgb, _fixed(at), round(max(radius, 1.0) * (1 << _SHIFT)), color, -1, cv2.LINE_AA, _SHIFT)
