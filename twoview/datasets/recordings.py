"""Pickled data sets, read without running what they say: only numpy arrays, numbers, texts and containers come out.

Takes of calibrated data sets: what every camera saw, where the joints truly were, and the cameras themselves.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray as Array
from numpy.lib import format as npy

from twoview.errors import FormatError
from twoview.poses import Poses2D, Poses3D
from twoview.skeleton import COCO17, H36M17, HeadRule, to_h36m
from twoview.timeline import ClockMap, Sync

_ALLOWED = {
    ("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode"), ("collections", "OrderedDict"),
    ("pathlib", "PosixPath"), ("pathlib", "PurePosixPath"), ("pathlib", "WindowsPath"), ("pathlib", "PureWindowsPath"),
    *((module, name) for module in ("numpy.core.multiarray", "numpy._core.multiarray")
      for name in ("_reconstruct", "scalar")),
    *((module, "_frombuffer") for module in ("numpy.core.numeric", "numpy._core.numeric")),
}  # fmt: skip
_HINT = "download it again, and compare its size with the original's"


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it holds {module}.{name}, which could run code")
        if name == "WindowsPath":
            return super().find_class("pathlib", "PureWindowsPath")
        if module.startswith("numpy.core."):  # where numpy 1 kept it
            module = module.replace("numpy.core.", "numpy._core.")
        return super().find_class(module, name)


def read_pickle(path: Path | str) -> Any:
    """The content of a pickle file. Raises FormatError for a missing or damaged one, or one that names more."""
    try:
        with Path(path).open("rb") as file:
            return _load(file)
    except (OSError, pickle.UnpicklingError, EOFError, ValueError, AttributeError, IndexError, TypeError) as error:
        raise FormatError(f"{path} cannot be read as a pickled data set: {error}", hint=_HINT) from error


def read_objects(path: Path | str) -> Mapping[str, Any]:
    """Arrays of an `.npz`, those of Python objects included, by name. Raises FormatError as `read_pickle` does."""
    found: dict[str, Any] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                found[name.removesuffix(".npy")] = _array(archive.read(name))
    except (OSError, zipfile.BadZipFile, pickle.UnpicklingError, EOFError, ValueError, TypeError) as error:
        raise FormatError(f"{path} cannot be read as a data set of arrays: {error}", hint=_HINT) from error
    return found


def _array(content: bytes) -> Any:
    file = io.BytesIO(content)
    version = npy.read_magic(file)
    _, _, dtype = npy.read_array_header_1_0(file) if version == (1, 0) else npy.read_array_header_2_0(file)
    if dtype.hasobject:
        return _load(file)
    file.seek(0)
    return np.load(file, allow_pickle=False)


def _load(file: Any) -> Any:
    return _Reader(file, encoding="latin1").load()


@dataclass(frozen=True, eq=False)
class Camera:
    """A calibrated camera in OpenCV's model: `camera = rotation @ world + translation`, then lens, then pixels.

    rotation (3, 3), translation (3,) m; focal (2,) px; center (2,) px
    distortion  up to 8 numbers: k1 k2 p1 p2 k3 k4 k5 k6
    size        (width, height) px
    """

    rotation: Array
    translation: Array
    focal: Array
    center: Array
    size: tuple[int, int]
    distortion: Array = field(default_factory=lambda: np.zeros(0))

    def to_camera(self, world: Array) -> Array:
        """World points (..., 3) in the camera's axes: x right, y down, z away."""
        return world @ self.rotation.T + self.translation

    def project(self, points: Array) -> Array:
        """Pixels (..., 2) of points (..., 3) in the camera's axes; NaN for those behind it."""
        k1, k2, p1, p2, k3, k4, k5, k6 = np.pad(self.distortion[:8], (0, max(8 - len(self.distortion), 0)))
        depth = np.where(points[..., 2] > 0, points[..., 2], np.nan)
        x, y = points[..., 0] / depth, points[..., 1] / depth
        r2 = x * x + y * y
        radial = (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
        bent_x = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
        bent_y = y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
        return np.stack([bent_x, bent_y], axis=-1) * self.focal + self.center

    def turned(self, times: int) -> Camera:
        """The camera of the picture turned clockwise by 90 degrees that many times.

        Pixel (x, y) of a picture (w, h) goes to (h - 1 - y, x), as (0, 0) is the center of a pixel and not its corner.
        """
        if times % 4 == 0:
            return self
        quarter = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
        bend = np.array(self.distortion, dtype=np.float64)
        if len(bend) >= 4:
            bend[2:4] = bend[3], -bend[2]
        once = Camera(
            quarter @ self.rotation,
            quarter @ self.translation,
            self.focal[::-1],
            np.array([self.size[1] - 1 - self.center[1], self.center[0]]),
            (self.size[1], self.size[0]),
            bend,
        )
        return once.turned(times - 1)


@dataclass(frozen=True, eq=False)
class Recording:
    """One take of a data set. All views share one clock: row i of every array is the same moment.

    poses       2D of each view in pixels of the upright picture, Human3.6M joints
    truth       3D of each view in the camera's axes, origin "camera"; "m" where the data set gives meters
    cameras     of each view, where the data set has them
    videos      file of each view and, in video_time, the second of it that each row shows
    truth_mm    (T, 17, 3) of each view and mm_per_px (T,): what MotionBERT's evaluation on Human3.6M compares with
    """

    name: str
    subject: str
    activity: str
    split: str
    poses: Mapping[str, Poses2D]
    truth: Mapping[str, Poses3D]
    cameras: Mapping[str, Camera] = field(default_factory=dict)
    videos: Mapping[str, Path] = field(default_factory=dict)
    video_time: Mapping[str, Array] = field(default_factory=dict)
    truth_mm: Mapping[str, Array] = field(default_factory=dict)
    mm_per_px: Mapping[str, Array] = field(default_factory=dict)

    @property
    def views(self) -> tuple[str, ...]:
        """Names of the views."""
        return tuple(self.poses)

    @property
    def sync(self) -> Sync:
        """The views' clocks, which are one."""
        return Sync(self.views[0], {view: ClockMap() for view in self.views}, method="timestamps")

    def with_detections(self, found: Mapping[str, Poses2D]) -> Recording:
        """The same with 2D detected in the videos, in any known skeleton, instead of projected truth."""
        poses = {}
        for view, truth in self.poses.items():
            rows = found[view].to(H36M17).at(self.video_time[view])
            poses[view] = replace(rows, time=truth.time, view=view)
        return replace(self, poses=poses)


def h36m_points(coco: Array, *, head: HeadRule = "eyes") -> Array:
    """3D points (T, 17, 3) in COCO order -> Human3.6M order, by the rule that detections go through as well."""
    return to_h36m(coco, np.ones(coco.shape[:2], np.float32), COCO17, head=head)[0]


def seen_by(camera: Camera, world: Array, time: Array, view: str) -> tuple[Poses2D, Poses3D]:
    """What a camera saw of Human3.6M joints in the world (T, 17, 3) m: exact 2D of score 1, and camera-space 3D."""
    points = camera.to_camera(world)
    xy = camera.project(points)
    seen = np.isfinite(xy).all(axis=-1)
    flat = Poses2D(np.where(seen[..., None], xy, np.nan), seen.astype(np.float32), time, H36M17, camera.size, view)
    return flat, Poses3D(points, time, H36M17, "camera", "m", view)
