"""SportsPose (Ingwersen et al., CVSports 2023): 24 people, five sports, seven cameras, markerless 3D.

    data/{indoors,outdoors}/S##/calib.pkl
    data/{indoors,outdoors}/S##/<activity>/<activity>####.npy and <activity>####_timing.pkl
    videos/<video_path>/CAM<index>.avi

Where to get it: `docs/howto/reproduce-the-paper.md`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray as Array
from scipy.spatial.transform import Rotation

from twoview.datasets.recordings import Recording, seen_by
from twoview.errors import ConfigError, FormatError
from twoview.geometry.cameras import Camera, turned
from twoview.skeleton import COCO17, HeadRule, to_h36m
from twoview.storage.objects import DAMAGE, read_array, read_pickle

VIEWS = ("front-right", "right", "back-right", "back", "back-left", "left", "front-left")
SPLITS = {  # paper section 4.1; all others are for training
    "validation": ("S04", "S07", "S09", "S14", "S22"),
    "test": ("S06", "S12", "S19"),
}
RATE = 90.0
SIZE = (1216, 1936)  # of the upright picture

# Camera index of each of VIEWS, which depends on place and date of the recording.
_INDOORS_FIRST, _INDOORS_LATER, _OUTDOORS = (6, 3, 2, 1, 0, 5, 4), (6, 2, 1, 5, 0, 4, 3), (0, 3, 1, 2, 6, 5, 4)


def split_of(subject: str) -> str:
    """train, validation or test."""
    return next((split for split, people in SPLITS.items() if subject in people), "train")


def camera_index(place: str, subject: str, view: str) -> int:
    """Index of the camera of a session that is called `view`."""
    if view not in VIEWS:
        raise ConfigError(f"no view {view!r}; there are {', '.join(VIEWS)}")
    outdoors = place.startswith("out")
    table = _OUTDOORS if outdoors else _INDOORS_FIRST if int(subject[1:]) <= 14 else _INDOORS_LATER
    return table[VIEWS.index(view)]


def read(
    folder: Path | str,
    *,
    split: str = "all",
    views: Sequence[str] = ("right", "back"),
    head: HeadRule = "eyes",
) -> Iterator[Recording]:
    """Takes one by one, their 2D projected from the 3D with the lens's distortion.

    folder  holds `data` and, for the names of the videos, `videos`
    split   train, validation, test or all
    views   of VIEWS, the reference first; the paper trains on right and back, and tests on right

    Raises FormatError for a folder without takes, or a take whose files are damaged or disagree.
    """
    if split not in ("all", "train", *SPLITS):
        raise ValueError(f"expected a split among all, train, {', '.join(SPLITS)}, got {split!r}")
    root = Path(folder)
    calibrations = sorted((root / "data").glob("*door*/S[0-9][0-9]/calib.pkl"))
    if not calibrations:
        raise FormatError(
            f"no SportsPose takes in {root}: expected {root}/data/indoors/S00/calib.pkl and so on",
            hint="docs/howto/reproduce-the-paper.md says where to get them and how to lay them out",
        )
    for calibration in calibrations:
        place, subject = calibration.parts[-3:-1]
        if split not in ("all", split_of(subject)):
            continue
        content = read_pickle(calibration)
        cameras = {view: _camera(content, camera_index(place, subject, view), calibration) for view in views}
        for path in sorted(calibration.parent.glob("*/*.npy")):
            if re.fullmatch(r"[a-z_]+[0-9]{4}\.npy", path.name):
                yield _take(root, path, place, subject, cameras, head=head)


def _camera(content: Mapping[str, Any], index: int, path: Path) -> Camera[Array]:
    try:
        lens, turns = content["calibration"][index], int(content["numtimesrot90clockwise"][index])
        values = {key: np.ravel(np.asarray(lens[key], dtype=np.float64)) for key in ("f", "c", "k", "T", "tpr")}
    except DAMAGE as error:
        raise FormatError(f"{path} does not calibrate camera {index}: {error!r}"[:400]) from error
    size = SIZE if turns % 2 == 0 else (SIZE[1], SIZE[0])
    rotation = Rotation.from_rotvec(values["tpr"]).as_matrix()
    distortion = tuple(values["k"].tolist())
    return turned(Camera(rotation, -rotation.T @ values["T"], values["f"], values["c"], size, distortion), turns)


def _take(
    root: Path, path: Path, place: str, subject: str, cameras: Mapping[str, Camera[Array]], *, head: HeadRule
) -> Recording:
    timing_path = path.with_name(f"{path.stem}_timing.pkl")
    timing = read_pickle(timing_path)
    try:
        world = read_array(path)[..., :3].astype(np.float64)
        video = root.joinpath("videos", *(str(part) for part in timing["video_path"]))
        index = {view: camera_index(place, subject, view) for view in cameras}
        seconds = {view: np.asarray(timing["video_index"][at], np.float64) / RATE for view, at in index.items()}
        stamps = np.asarray(timing["times_ms"][index[next(iter(cameras))]], np.float64)
        time = (stamps - stamps[0]) / 1000
        if world.shape[1:] != (17, 3) or {len(world)} != {len(time), *map(len, seconds.values())}:
            raise ValueError(f"{world.shape} joints, {len(time)} times")
        joints, _ = to_h36m(world, np.ones(world.shape[:2], np.float32), COCO17, head=head)
        poses, truth = seen_by(cameras, joints, time)
    except DAMAGE as error:
        raise FormatError(f"{path} and {timing_path.name} do not make a take: {error}"[:400]) from error
    return Recording(
        name=f"{place}_{subject}_{path.stem}",
        subject=subject,
        activity=path.parent.name,
        split=split_of(subject),
        poses=poses,
        truth=truth,
        cameras=cameras,
        videos={view: video / f"CAM{at}.avi" for view, at in index.items()},
        video_time=seconds,
    )
