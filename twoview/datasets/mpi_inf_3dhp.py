"""MPI-INF-3DHP in the files of P-STMO: eight synchronized cameras around eight people, universal skeleton.

`data_train_3dhp.npz` holds data["S1 Seq1"] = [{camera: {data_2d (T, 17, 2) px, data_3d (T, 17, 3) mm}}, rate], and
`data_test_3dhp.npz` data["TS1"] = {data_2d, data_3d, valid}. Where to get them: `docs/howto/reproduce-the-paper.md`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray as Array

from twoview.datasets.recordings import Recording
from twoview.errors import FormatError
from twoview.geometry.cameras import Camera
from twoview.poses import Poses2D, Poses3D
from twoview.skeleton import H36M17
from twoview.storage.objects import DAMAGE, read_objects

VIEWS = ("0", "1", "2", "4", "5", "6", "7", "8")
SIZE = (2048, 2048)
TEST_SIZES = {"TS5": (1920, 1080), "TS6": (1920, 1080)}
_TO_H36M = [14, 8, 9, 10, 11, 12, 13, 15, 1, 16, 0, 5, 6, 7, 2, 3, 4]


def read_train(path: Path | str, *, views: Sequence[str] = VIEWS) -> Iterator[Recording]:
    """Takes one by one with the 2D that the file has. Raises FormatError for a file of another kind."""
    for name, value in _content(path).items():
        try:
            cameras, rate = value
            found = {view: cameras[view] for view in views if view in cameras}
            time = np.arange(min(len(row["data_3d"]) for row in found.values())) / float(rate)
            yield _recording(name, name.split()[0], "train", found, time, size=SIZE)
        except DAMAGE as error:
            raise FormatError(f"{path}: {name} is not a training sequence: {error!r}"[:400]) from error


def read_test(path: Path | str, *, rate: float) -> Iterator[Recording]:
    """Test sequences, one view each, valid frames only. The file does not give the `rate`, frames per second."""
    for name, value in _content(path).items():
        try:
            valid = np.asarray(value["valid"]).ravel().astype(bool)
            time = np.flatnonzero(valid) / rate
            rows = {key: np.asarray(value[key])[valid] for key in ("data_2d", "data_3d")}
            yield _recording(name, name, "test", {"0": rows}, time, size=TEST_SIZES.get(name, SIZE))
        except DAMAGE as error:
            raise FormatError(f"{path}: {name} is not a test sequence: {error!r}"[:400]) from error


def _content(path: Path | str) -> Mapping[str, Any]:
    found = read_objects(path)
    content = found["data"].item() if "data" in found and found["data"].shape == () else found.get("data")
    if not isinstance(content, Mapping):
        raise FormatError(f"{path} holds {', '.join(found) or 'nothing'}, and one dictionary `data` was expected")
    return content


def _recording(
    name: str, subject: str, split: str, rows: Mapping[str, Mapping[str, Any]], time: Array, *, size: tuple[int, int]
) -> Recording:
    poses, truth, cameras = {}, {}, {}
    for view, row in rows.items():
        xy: Array = np.asarray(row["data_2d"], np.float64)[: len(time), _TO_H36M]
        points = np.asarray(row["data_3d"], np.float64)[: len(time), _TO_H36M] / 1000
        seen = np.isfinite(xy).all(axis=-1)
        poses[view] = Poses2D(xy, seen, time, H36M17, size, view)
        truth[view] = Poses3D(points, time, H36M17, "camera", "m", view)
        cameras[view] = fitted_lens(points[seen], xy[seen], size)
    return Recording(name.replace(" ", "_"), subject, "", split, poses, truth, cameras)


def fitted_lens(points: Array, xy: Array, size: tuple[int, int]) -> Camera[Array]:
    """The camera whose focal lengths and center project points (N, 3) to pixels (N, 2), by least squares.

    The files leave the calibration out; a body scaled about the camera projects to the same pixels, so nothing is lost.
    """
    focal, center = np.empty(2), np.empty(2)
    for axis in range(2):
        ray = points[:, axis] / points[:, 2]
        focal[axis], center[axis] = np.polyfit(ray, xy[:, axis], 1)
    return Camera(np.eye(3), np.zeros(3), focal, center, size)
