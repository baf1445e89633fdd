"""2D detections written as other tools write them: OpenPose, AlphaPose, MMPose, COCO results, DeepLabCut."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from twoview import records
from twoview.datasets.detections import BODY25
from twoview.errors import FormatError
from twoview.poses import Poses2D
from twoview.skeleton import COCO17, HALPE26


def write_detections(poses: Poses2D, path: Path | str, kind: str) -> None:
    """One person's poses as another tool would have written them; frames are counted from 0.

    path  a file, or for openpose a folder. Unseen joints are 0 (empty in csv), as those tools have it.
    Raises FormatError for an unknown kind, or joints that it cannot hold.
    """
    check_kind(kind)
    if poses.skeleton not in (COCO17, HALPE26):
        raise FormatError(f"{kind} holds COCO-17 or Halpe-26 joints, and these are {poses.skeleton.name}")
    WRITERS[kind](poses, Path(path))


def check_kind(kind: str) -> None:
    """FormatError for a kind that is not written, with those that are."""
    if kind not in WRITERS:
        raise FormatError(f"unknown format of detections {kind!r}; known: {', '.join(WRITERS)}")


def _triples(poses: Poses2D) -> Iterator[tuple[int, list[float], float]]:
    """Frame number, flat x, y, score of all joints, and mean score of every frame with somebody."""
    values = np.nan_to_num(np.concatenate([poses.xy, poses.score[..., None]], axis=-1)).astype(float)
    for frame in np.flatnonzero((poses.score > 0).any(axis=1)):
        yield int(frame), values[frame].round(4).ravel().tolist(), float(poses.score[frame].mean())


def _write_json(path: Path, content: Any) -> None:
    with records.atomic(path) as temporary:
        temporary.write_text(json.dumps(content), encoding="utf-8")


def _write_openpose(poses: Poses2D, folder: Path) -> None:
    joints = poses.skeleton.joints
    values = np.nan_to_num(np.concatenate([poses.xy, poses.score[..., None]], axis=-1)).astype(float)
    middles = {"neck": ("left_shoulder", "right_shoulder"), "hip": ("left_hip", "right_hip")}
    for frame in range(len(poses)):
        flat: list[float] = []
        for name in BODY25:
            row = np.zeros(3)
            if name in joints:
                row = values[frame, joints.index(name)]
            elif name in middles:
                pair = values[frame, [joints.index(part) for part in middles[name]]]
                row = np.append(pair[:, :2].mean(axis=0), pair[:, 2].min()) if (pair[:, 2] > 0).all() else row
            flat += row.round(4).tolist()
        seen = bool((poses.score[frame] > 0).any())
        people = [{"person_id": [0], "pose_keypoints_2d": flat}] if seen else []
        _write_json(folder / f"{folder.name}_{frame:012d}_keypoints.json", {"version": 1.3, "people": people})


def _write_alphapose(poses: Poses2D, path: Path) -> None:
    _write_json(path, [
        {"image_id": f"{frame}.jpg", "category_id": 1, "keypoints": flat, "score": score, "idx": 0}
        for frame, flat, score in _triples(poses)
    ])  # fmt: skip


def _write_coco(poses: Poses2D, path: Path) -> None:
    _write_json(path, [
        {"image_id": frame, "category_id": 1, "keypoints": flat, "score": score}
        for frame, flat, score in _triples(poses)
    ])  # fmt: skip


def _write_mmpose(poses: Poses2D, path: Path) -> None:
    def instance(flat: list[float]) -> Mapping[str, Any]:
        values = np.array(flat).reshape(-1, 3)
        return {"keypoints": values[:, :2].tolist(), "keypoint_scores": values[:, 2].tolist()}

    there = {frame: flat for frame, flat, _ in _triples(poses)}
    names = {str(i): name for i, name in enumerate(poses.skeleton.joints)}
    frames = [
        {"frame_id": frame, "instances": [instance(there[frame])] if frame in there else []}
        for frame in range(len(poses))
    ]
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
    "alphapose": _write_alphapose,
    "coco": _write_coco,
    "mmpose": _write_mmpose,
    "deeplabcut": _write_deeplabcut,
}

SUFFIXES = {"openpose": "", "alphapose": ".json", "coco": ".json", "mmpose": ".json", "deeplabcut": ".csv"}
