"""Rendered two-phone scenes with exact truth: what the demo and the tests measure against."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray as Array

from twoview.datasets.recordings import read_text
from twoview.errors import FormatError
from twoview.poses import Poses2D, Poses3D
from twoview.skeleton import COCO17, H36M17, HeadRule, to_h36m
from twoview.storage.objects import DAMAGE, read_arrays
from twoview.timeline import ClockMap


@dataclass(frozen=True)
class SceneView:
    """Truth of one view of a scene.

    video     the video file
    clock     of this view against view a's clock; sound_offset_s: the offset of its sound, which needs time to arrive
    poses2d   COCO-17 in pixels
    poses3d   Human3.6M-17 in camera space, meters, origin "camera": the COCO-17 joints converted as detections are,
              so that both mean the same points
    focal_px  focal length in pixels of the upright picture
    """

    video: Path
    clock: ClockMap
    sound_offset_s: float
    poses2d: Poses2D
    poses3d: Poses3D
    focal_px: float


@dataclass(frozen=True)
class Scene:
    """A rendered scene: its views by name, and the athlete's height in meters."""

    views: dict[str, SceneView]
    height_m: float
    angle_deg: float


def read_scene(folder: Path | str, *, head: HeadRule = "eyes") -> Scene:
    """Read `truth.json` and `truth.npz` of a scene folder. Raises FormatError if they are missing or damaged."""
    folder = Path(folder)
    try:
        truth = json.loads(read_text(folder / "truth.json"))
        arrays = read_arrays(folder / "truth.npz")
        views = {name: _view(folder, name, row, arrays, head) for name, row in truth["views"].items()}
        return Scene(views, float(truth["body"]["height_m"]), float(truth["angle_deg"]))
    except (*DAMAGE, FormatError) as error:
        reason = getattr(error, "message", error)
        raise FormatError(f"{folder} is not a rendered scene with truth: {reason}"[:400]) from error


def _view(folder: Path, name: str, row: dict[str, Any], arrays: dict[str, Array], head: HeadRule) -> SceneView:
    time = arrays[f"{name}_t"]
    width, height = row["size"]
    flat = arrays[f"{name}_coco2d"]
    camera = arrays[f"{name}_coco3d_world"] @ np.array(row["R"]).T + np.array(row["t"])
    ones = np.ones(flat.shape[:2], np.float32)
    solid = np.concatenate(
        [to_h36m(camera[..., [axis, 2]], ones, COCO17, head=head)[0] for axis in (0, 1)], axis=-1
    )[..., [0, 2, 1]]  # fmt: skip
    return SceneView(
        video=folder / row["file"],
        clock=ClockMap(float(row["offset_to_a_clock_s"]), 1.0 + float(row["drift_ppm"]) * 1e-6),
        sound_offset_s=float(row["offset_to_a_acoustic_s"]),
        poses2d=Poses2D(flat, ones, time, COCO17, (width, height), name),
        poses3d=Poses3D(solid, time, H36M17, "camera", "m", name),
        focal_px=float(row["K"][0][0]),
    )
