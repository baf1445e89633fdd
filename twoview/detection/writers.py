"""2D detections in the files of other tools, written: one person's poses, frames counted from 0."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray as Array

from twoview.detection.file_content import COUNTED_FROM
from twoview.detection.joint_orders import BODY25
from twoview.errors import FormatError
from twoview.poses import Poses2D
from twoview.skeleton import COCO17, HALPE26
from twoview.storage import records


def write_detections(poses: Poses2D, path: Path | str, tool: str) -> None:
    """Write one person's poses in the format of another tool, a key of WRITERS; frames are counted from 0.

    path  a file, or a folder for openpose. Unseen joints are 0 (empty in csv), as in the files of those tools.
    Raises FormatError for an unknown tool, and for joints that its format cannot hold.
    """
    check_tool(tool)
    if not can_hold(poses):
        raise FormatError(f"{tool} holds COCO-17 or Halpe-26 joints; these poses are {poses.skeleton.name}")
    WRITERS[tool](poses, Path(path))


def can_hold(poses: Poses2D) -> bool:
    """Whether the formats of other tools hold these joints."""
    return poses.skeleton in (COCO17, HALPE26)


def check_tool(tool: str) -> None:
    """Raises FormatError for a tool whose format cannot be written, with those that can."""
    if tool not in WRITERS:
        raise FormatError(f"unknown format of detections {tool!r}; known: {', '.join(WRITERS)}")


def _triples(poses: Poses2D) -> Array:
    """x, y, score (T, J, 3) of all joints; 0 where unseen."""
    values: Array = np.nan_to_num(np.concatenate([poses.xy, poses.score[..., None]], axis=-1)).astype(float)
    return values


def _people(poses: Poses2D) -> Iterator[tuple[int, Array]]:
    """Number and x, y, score (J, 3) of every frame with somebody."""
    values = _triples(poses).round(4)
    for frame in np.flatnonzero((poses.score > 0).any(axis=1)).tolist():
        yield frame, values[frame]


def _write_json(path: Path, content: Any) -> None:
    with records.atomic(path) as temporary:
        temporary.write_text(json.dumps(content), encoding="utf-8")


def _write_openpose(poses: Poses2D, folder: Path) -> None:
    joints = dict(zip(poses.skeleton.joints, np.moveaxis(_triples(poses), 1, 0), strict=True))
    for name, left, right in (("neck", "left_shoulder", "right_shoulder"), ("hip", "left_hip", "right_hip")):
        both = np.stack([joints[left], joints[right]])
        middle = np.column_stack([both[..., :2].mean(axis=0), both[..., 2].min(axis=0)])
        joints.setdefault(name, np.where(middle[:, 2:] > 0, middle, 0.0))
    nowhere = np.zeros((len(poses), 3))
    flat = np.concatenate([joints.get(name, nowhere) for name in BODY25], axis=1).round(4)
    for frame, score in enumerate(poses.score):
        people = [{"person_id": [0], "pose_keypoints_2d": flat[frame].tolist()}] if (score > 0).any() else []
        _write_json(folder / f"{folder.name}_{frame:012d}_keypoints.json", {"version": 1.3, "people": people})


def _write_results(poses: Poses2D, path: Path, image_id: Callable[[int], Any], **more: Any) -> None:
    """A list of people as COCO's results, and AlphaPose's like them."""
    _write_json(path, [
        {"image_id": image_id(frame), "category_id": 1, "keypoints": values.ravel().tolist(),
         "score": float(poses.score[frame].mean()), COUNTED_FROM: 0, **more}
        for frame, values in _people(poses)
    ])  # fmt: skip


def _write_mmpose(poses: Poses2D, path: Path) -> None:
    frames: list[dict[str, Any]] = [{"frame_id": frame, "instances": []} for frame in range(len(poses))]
    for frame, values in _people(poses):
        frames[frame]["instances"] = [{"keypoints": values[:, :2].tolist(), "keypoint_scores": values[:, 2].tolist()}]
    names = {str(i): name for i, name in enumerate(poses.skeleton.joints)}
    _write_json(path, {"meta_info": {"keypoint_id2name": names}, "instance_info": frames})


def _write_deeplabcut(poses: Poses2D, path: Path) -> None:
    joints = poses.skeleton.joints
    with records.atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["scorer"] + ["twoview"] * 3 * len(joints))
        writer.writerow(["bodyparts"] + [joint for joint in joints for _ in range(3)])
        writer.writerow(["coords"] + ["x", "y", "likelihood"] * len(joints))
        for frame in range(len(poses)):
            cells: list[Any] = [frame]
            for (x, y), score in zip(poses.xy[frame], poses.score[frame], strict=True):
                cells += [round(float(x), 4), round(float(y), 4), round(float(score), 4)] if score > 0 else ["", "", 0]
            writer.writerow(cells)


WRITERS: dict[str, Callable[[Poses2D, Path], None]] = {
    "openpose": _write_openpose,
    "alphapose": partial(_write_results, image_id="{}.jpg".format, idx=0),
    "coco": partial(_write_results, image_id=int),
    "mmpose": _write_mmpose,
    "deeplabcut": _write_deeplabcut,
}

SUFFIXES = {"openpose": "", "alphapose": ".json", "coco": ".json", "mmpose": ".json", "deeplabcut": ".csv"}
