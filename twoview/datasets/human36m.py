"""Human3.6M as MotionBERT's authors prepared it: one pickle of all frames of all cameras, with detected 2D.

`h36m_sh_conf_cam_source_final.pkl` holds, for "train" and "test": joint_2d (N, 17, 2+) px, confidence (N, 17),
joint3d_image (N, 17, 3) px, camera_name, source; and, for "test", joints_2.5d_image (N, 17, 3) mm, 2.5d_factor, action.

`joint3d_image` is the pixel pose: x, y in the picture, z = (Z - Z_root) times the picture's scale at the root. Where to
get the file: `docs/howto/reproduce-the-paper.md`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray as Array

from twoview.datasets.recordings import Recording
from twoview.errors import FormatError
from twoview.geometry.cameras import Camera, principal_point
from twoview.poses import Poses2D, Poses3D
from twoview.skeleton import H36M17
from twoview.storage.objects import DAMAGE, read_pickle, texts

RATE = 50.0

# focal x, y; center x, y; k1 k2 p1 p2 k3; size
_LENSES = {
    "54138969": ((1145.0494, 1143.7811), (512.5415, 515.4515),
                 (-0.2070989, 0.2477752, -0.0009757, -0.0014245, -0.0030752), (1000, 1002)),
    "55011271": ((1149.6757, 1147.5917), (508.8486, 508.0649),
                 (-0.1942136, 0.2404085, -0.0016190, -0.0027409, 0.0068200), (1000, 1000)),
    "58860488": ((1149.1407, 1148.7990), (519.8159, 501.4026),
                 (-0.2083381, 0.2554880, 0.0014844, -0.0007600, -0.0024605), (1000, 1000)),
    "60457274": ((1145.5114, 1144.7739), (514.9682, 501.8820),
                 (-0.1983841, 0.2183237, -0.0005872, -0.0018134, -0.0089478), (1000, 1002)),
}  # fmt: skip
VIEWS = tuple(_LENSES)


def lens(view: str) -> Camera[Array]:
    """A camera of Human3.6M; the file does not give its place in the room, so it stands at the origin."""
    focal, center, distortion, size = _LENSES[view]
    return Camera(np.eye(3), np.zeros(3), np.array(focal), np.array(center), size, distortion)


def read(
    path: Path | str, *, split: str = "train", views: Sequence[str] = VIEWS, subjects: Sequence[str] | None = None
) -> Iterator[Recording]:
    """Takes one by one with their detected 2D.

    split     train (S1, S5, S6, S7, S8) or test (S9, S11)
    subjects  only these, as "S1"

    The truth is the pixel pose in the axes of a camera of the true focal length, unit "screen"; test takes also have
    `truth_mm` and `mm_per_px`. Takes of S9 whose 3D is shifted are kept, as in the two-view paper; MotionBERT leaves
    them out. Raises FormatError for a file of another kind.
    """
    content = read_pickle(path)
    try:
        table = content[split]
        sources = texts(table["source"])
        cameras = texts(table["camera_name"])
        rows: dict[str, dict[str, Array]] = {}
        for run in np.split(np.arange(len(sources)), np.flatnonzero(sources[1:] != sources[:-1]) + 1):
            if len(run):  # one per take and camera
                rows.setdefault(str(sources[run[0]]).rsplit("_ca_", 1)[0], {})[cameras[run[0]]] = run
    except DAMAGE as error:
        raise FormatError(f"{path} is not Human3.6M as MotionBERT reads it: {error!r} for {split!r}"[:400]) from error
    for name, found in rows.items():
        chosen = {view: found[view] for view in views if view in found}
        if chosen and (subjects is None or _subject(name) in subjects):
            yield _take(table, name, split, chosen, path)


def _subject(name: str) -> str:
    try:
        return f"S{int(name.split('_')[1])}"
    except (IndexError, ValueError) as error:
        raise FormatError(f"a take of the data set is called {name[:100]!r}; expected s_01_act_02_...") from error


def _take(table: Mapping[str, Any], name: str, split: str, rows: Mapping[str, Array], path: Path | str) -> Recording:
    frames = min(len(at) for at in rows.values())
    time = np.arange(frames) / RATE
    poses, truth, truth_mm, scale = {}, {}, {}, {}
    try:
        activity = name.split("_act_")[1].split("_")[0]
        for view, all_rows in rows.items():
            at = all_rows[:frames]
            poses[view] = _detections(table, at, time, view)
            points = from_pixel_pose(np.asarray(table["joint3d_image"])[at], lens(view))
            truth[view] = Poses3D(points, time, H36M17, "camera", "screen", view)
            if "2.5d_factor" in table:
                truth_mm[view] = np.asarray(table["joints_2.5d_image"], np.float64)[at]
                scale[view] = np.asarray(table["2.5d_factor"], np.float64)[at]
                activity = str(texts(table["action"])[at[0]])
    except DAMAGE as error:
        raise FormatError(f"{path}: take {name} is damaged: {error!r}"[:400]) from error
    return Recording(
        name, _subject(name), activity, split, poses, truth, {v: lens(v) for v in rows},
        truth_mm=truth_mm, mm_per_px=scale,
    )  # fmt: skip


def _detections(table: Mapping[str, Any], at: Array, time: Array, view: str) -> Poses2D:
    xy = np.asarray(table["joint_2d"])[at][..., :2].astype(np.float32)
    score = np.ones(xy.shape[:2], np.float32)
    if "confidence" in table:
        score = np.clip(np.asarray(table["confidence"])[at].reshape(xy.shape[:2]), 0.0, 1.0).astype(np.float32)
    return Poses2D(np.where(score[..., None] > 0, xy, np.nan), score, time, H36M17, lens(view).size, view)


def from_pixel_pose(pixels: Array, camera: Camera[Array]) -> Array:
    """Points (T, 17, 3) in camera axes, unit "screen" (half the picture's width at the root's depth), of pixel poses.

    pixels (T, 17, 3): x, y in the picture and z = (Z - Z_root) * focal / Z_root, all px. The principal point is
    that of uncalibrated pictures, as MotionBERT has it. `framing.from_camera` by the same focal length, the camera's
    `mean_focal`, gives the pixel pose back.
    """
    focal = camera.mean_focal
    depth = 1 + (pixels[..., 2:] - pixels[:, :1, 2:]) / focal  # in root depths
    plane = (pixels[..., :2] - principal_point(np.array(camera.size))) / focal
    return np.asarray(np.concatenate([plane * depth, depth], axis=-1) * (2 * focal / camera.size[0]))
