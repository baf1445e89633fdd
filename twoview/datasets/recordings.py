"""Takes of calibrated data sets: what every camera saw, where the joints truly were, and the cameras themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy import ndarray as Array

from twoview.errors import FormatError
from twoview.geometry.cameras import Camera
from twoview.poses import Poses2D, Poses3D
from twoview.skeleton import H36M17
from twoview.storage.names import stays_inside
from twoview.storage.regular import regular_file
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

    def __post_init__(self) -> None:
        if not stays_inside(self.name):  # files are named after it
            raise FormatError(f"a take of the data set is called {self.name[:100]!r}, which is no name of a file")

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


MOST_TEXT = 1 << 30  # bytes of a text file


def read_text(path: Path | str, encoding: str = "utf-8") -> str:
    """A text file. Raises FormatError for what is no file or is absurdly large, ValueError for another encoding."""
    path = regular_file(path)
    if path.stat().st_size > MOST_TEXT:
        raise FormatError(f"{path} has {path.stat().st_size / 2**30:.1f} GiB of text; at most {MOST_TEXT >> 30}")
    return path.read_text(encoding=encoding)
