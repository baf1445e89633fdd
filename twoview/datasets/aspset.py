"""ASPset-510 (Nibali et al., 2021): 17 people outdoors, three cameras, CC0.

    splits.csv                                            rows of subject, clip, split, camera ("all" or one)
    {trainval,test}/joints_3d/<subject>/<subject>-<clip>.c3d
    {trainval,test}/cameras/<subject>/<subject>-<camera>.json
    {trainval,test}/videos/<subject>/<subject>-<clip>-<camera>.mkv

Where to get it: `docs/howto/reproduce-the-paper.md`.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy import ndarray as Array

from twoview.datasets.recordings import Recording, read_text, seen_by
from twoview.errors import FormatError, MissingBackend
from twoview.geometry.cameras import Camera
from twoview.storage.objects import DAMAGE
from twoview.storage.regular import regular_file

VIEWS = ("left", "mid", "right")
SIZE = (3840, 2160)

_MANY_FRAMES = 0xFFFF  # the header cannot count further
_MOST_C3D = 1 << 30  # bytes
_METERS = {"mm": 0.001, "cm": 0.01, "m": 1.0}

# The joint of the set's own skeleton for each of Human3.6M's.
_JOINTS = [
    "pelvis", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "spine", "neck", "head",
    "head_top", "left_shoulder", "left_elbow", "left_wrist", "right_shoulder", "right_elbow", "right_wrist",
]  # fmt: skip


def read(folder: Path | str, *, split: str = "train", views: Sequence[str] = VIEWS) -> Iterator[Recording]:
    """Clips one by one, their 2D projected from the 3D.

    split  train, val or test; clips of which only one camera is released have that view alone
    Raises FormatError for a folder without the set, or damaged files.
    """
    root = Path(folder)
    try:
        lines = read_text(root / "splits.csv").splitlines()
        rows = [[cell.strip() for cell in row] for row in csv.reader(lines)]
    except (OSError, ValueError, csv.Error, FormatError) as error:
        reason = getattr(error, "message", error)
        raise FormatError(
            f"no ASPset-510 in {root}: {reason}"[:400], hint="docs/howto/reproduce-the-paper.md says where to get it"
        ) from error
    released: dict[tuple[str, str], list[str]] = {}
    for subject, clip, part, *camera in (row for row in rows if len(row) in (3, 4)):
        if part == split:
            all_of_them = not camera or camera[0] == "all"
            own = [view for view in views if all_of_them or view == camera[0]]
            released.setdefault((subject, clip), []).extend(own)
    for (subject, clip), own in released.items():
        if own:
            yield _clip(root / ("test" if split == "test" else "trainval"), subject, clip, split, own)


def _clip(root: Path, subject: str, clip: str, split: str, views: Sequence[str]) -> Recording:
    path = root / "joints_3d" / subject / f"{subject}-{clip}.c3d"
    world, rate = _points(path)
    time = np.arange(len(world)) / rate
    cameras = {view: _camera(root / "cameras" / subject / f"{subject}-{view}.json") for view in views}
    poses, truth = seen_by(cameras, world, time)
    return Recording(
        name=f"{subject}-{clip}",
        subject=subject,
        activity="",
        split=split,
        poses=poses,
        truth=truth,
        cameras=cameras,
        videos={view: root / "videos" / subject / f"{subject}-{clip}-{view}.mkv" for view in views},
        video_time=dict.fromkeys(views, time),
    )


def _points(path: Path) -> tuple[Array, float]:
    """Human3.6M joints (T, 17, 3) m of a C3D file, NaN where a point was not seen, and frames per second."""
    try:
        import ezc3d
    except ImportError as error:
        raise MissingBackend("c3d files need the package ezc3d", hint="pip install ezc3d") from error
    try:
        _check_c3d(regular_file(path))
        content = ezc3d.c3d(str(path))
        point, points = content["parameters"]["POINT"], content["data"]["points"]
        seen = content["data"]["meta_points"]["residuals"] >= 0
        first, last = map(int, np.fromfile(path, "<u2", 2, offset=6))
        if last != _MANY_FRAMES and points.shape[2] != last - first + 1:  # ezc3d leaves out what a damaged file lacks
            raise ValueError(f"{points.shape[2]} of {last - first + 1} frames are there")
        columns = [point["LABELS"]["value"].index(label) for label in _JOINTS]
        scale = _METERS[point["UNITS"]["value"][0]]
        world = scale * np.where(seen, points[:3], np.nan)[:, columns].transpose(2, 1, 0)
        return world, float(point["RATE"]["value"][0])
    except DAMAGE as error:
        raise FormatError(f"{path} cannot be read as C3D of this data set: {error}"[:400]) from error


def _check_c3d(path: Path) -> None:
    """Raise ValueError for a file that is no C3D, or has less than its header says; the reader would take its word."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(512) if size <= _MOST_C3D else b""
    if len(head) < 512 or head[1] != 0x50 or head[0] < 2:
        raise ValueError(f"{size} bytes are no C3D file")
    points, analog, first, last = (int.from_bytes(head[at : at + 2], "little") for at in (2, 4, 6, 8))
    start, width = 512 * (int.from_bytes(head[16:18], "little") - 1), 4 if head[15] & 0x80 else 2
    frames = last - first + 1
    if frames < 1 or start < 512:
        raise ValueError(f"frames {first} to {last}, from byte {start} on")
    if last != _MANY_FRAMES and start + frames * (4 * points + analog) * width > size:
        raise ValueError(f"{frames} frames of {points} points do not fit into {size} bytes")


def _camera(path: Path) -> Camera[Array]:
    try:
        content = json.loads(read_text(path))
        inner = np.asarray(content["intrinsic_matrix"], np.float64).reshape(3, 4)
        outer = np.asarray(content["extrinsic_matrix"], np.float64).reshape(4, 4)
        if not (np.isfinite(inner).all() and np.isfinite(outer).all()):
            raise ValueError("its numbers are not finite")
    except DAMAGE as error:
        raise FormatError(f"{path} does not describe a camera: {error}"[:400]) from error
    rotation, translation = outer[:3, :3], outer[:3, 3] / 1000
    return Camera(rotation, -rotation.T @ translation, inner[[0, 1], [0, 1]], inner[:2, 2], SIZE)
