"""Takes of calibrated data sets: what every camera saw, where the joints truly were, and the cameras themselves.

Data sets that come as pickles are read without running code: only numpy arrays, numbers, texts and containers come out.
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
from twoview.geometry.cameras import Camera
from twoview.poses import Poses2D, Poses3D
from twoview.skeleton import H36M17
from twoview.timeline import ClockMap, Sync


@dataclass(frozen=True, eq=False)
class Recording:
    """One take of a data set. All views share one clock: row i of every array is the same moment.

    poses       2D of each view in pixels of the upright picture, Human3.6M joints
    truth       3D of each view in the camera's axes, origin "camera"; unit "m" where the data set gives meters
    cameras     of each view, where the data set has them
    videos      file of each view; video_time (T,) s: the moment of the video that each row shows
    truth_mm    (T, 17, 3) of each view, with mm_per_px (T,): the truth of MotionBERT's evaluation on Human3.6M
    """

    name: str
    subject: str
    activity: str
    split: str
    poses: Mapping[str, Poses2D]
    truth: Mapping[str, Poses3D]
    cameras: Mapping[str, Camera[Array]] = field(default_factory=dict)
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
        """The clocks of the views: all the same."""
        return Sync(self.views[0], {view: ClockMap() for view in self.views}, method="timestamps")

    def with_detections(self, found: Mapping[str, Poses2D]) -> Recording:
        """The same take with 2D detected in the videos, in any known skeleton, instead of projected truth."""
        rows = {view: found[view].to(H36M17).at(self.video_time[view]) for view in self.views}
        return replace(self, poses={v: replace(row, time=self.poses[v].time, view=v) for v, row in rows.items()})


def seen_by(
    cameras: Mapping[str, Camera[Array]], world: Array, time: Array
) -> tuple[dict[str, Poses2D], dict[str, Poses3D]]:
    """Exact 2D of score 1, and 3D in camera axes, by view, of Human3.6M joints in the world (T, 17, 3) m."""
    poses, truth = {}, {}
    for view, camera in cameras.items():
        points = camera.to_camera(world)
        xy = camera.project(points)
        score = np.isfinite(xy).all(axis=-1)
        poses[view] = Poses2D(np.where(score[..., None], xy, np.nan), score, time, H36M17, camera.size, view)
        truth[view] = Poses3D(points, time, H36M17, "camera", "m", view)
    return poses, truth


# --- pickles ---------------------------------------------------------------------------------------------------------

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
    """The content of a pickle file. Raises FormatError for a missing or damaged one, or one that could run code."""
    try:
        with Path(path).open("rb") as file:
            return _Reader(file, encoding="latin1").load()
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
        return _Reader(file, encoding="latin1").load()
    file.seek(0)
    return np.load(file, allow_pickle=False)
