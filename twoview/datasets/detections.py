"""2D detections of other tools, read: OpenPose, AlphaPose, MMPose, COCO results, DeepLabCut.

All of them count frames; the times come from the video they were made from (see `importing`). Where a tool has more
joints than ours, those that have a name in COCO-17 or Halpe-26 are kept.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from twoview.errors import FormatError
from twoview.skeleton import COCO17, HALPE26, Skeleton

Array = np.ndarray

# OpenPose's BODY_25 by our names ("" where we have none); its older COCO order lacks the hip's middle and the feet.
_FACE = ("right_eye", "left_eye", "right_ear", "left_ear")
_ARMS = ("nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist")
_LEGS = ("right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle")
_FEET = ("left_big_toe", "left_small_toe", "left_heel", "right_big_toe", "right_small_toe", "right_heel")
BODY25 = (*_ARMS, "hip", *_LEGS, *_FACE, *_FEET)
OPENPOSE_COCO18 = (*_ARMS, *_LEGS, *_FACE)


@dataclass(frozen=True, eq=False)
class Detections:
    """Everyone that another tool found: one row per person and frame.

    frame  (M,) number from 0;  person (M,) its id, -1 where the tool gives none
    xy     (M, J, 2) px, NaN where unseen; score (M, J) 0..1
    """

    frame: Array
    person: Array
    xy: Array
    score: Array
    skeleton: Skeleton
    tool: str


class _Rows:
    """Collects rows of different tools."""

    def __init__(self, path: Path, tool: str) -> None:
        self.path, self.tool = path, tool
        self.rows: list[tuple[int, int, Array]] = []

    def add(self, frame: int, person: int, values: Any) -> None:
        """One person: x, y and score of every joint, flat or in rows."""
        try:
            self.rows.append((frame, person, np.asarray(values, dtype=np.float64).reshape(-1, 3)))
        except ValueError as error:
            raise FormatError(f"{self.path}: frame {frame}: joints are not triples of x, y, score") from error

    def done(self, names: Callable[[int], tuple[str, ...]]) -> Detections:
        """All rows in one of our skeletons; `names` gives the joints' names for their number."""
        if not self.rows:
            raise FormatError(f"{self.path} holds no person", hint="is it the right file, and the right --format?")
        counts = {len(values) for *_, values in self.rows}
        if len(counts) > 1:
            raise FormatError(f"{self.path} mixes people of {', '.join(map(str, sorted(counts)))} joints")
        skeleton, order = _arrange(names(counts.pop()), self.path)
        values = np.stack([values for *_, values in self.rows])
        picked = np.where((order >= 0)[None, :, None], values[:, np.maximum(order, 0)], 0.0)
        score = np.clip(np.nan_to_num(picked[..., 2]), 0.0, 1.0)
        unseen = (score == 0) | ~np.isfinite(picked[..., :2]).all(axis=-1)
        frame, person = (np.array([row[i] for row in self.rows], dtype=np.int64) for i in (0, 1))
        xy = np.where(unseen[..., None], np.nan, picked[..., :2])
        return Detections(frame, person, xy, np.where(unseen, 0.0, score), skeleton, self.tool)


def _arrange(names: tuple[str, ...], path: Path) -> tuple[Skeleton, Array]:
    """The largest of our skeletons that the names fill, and for each of its joints the place among them (-1: none)."""
    for skeleton in (HALPE26, COCO17):
        order = np.array([names.index(joint) if joint in names else -1 for joint in skeleton.joints])
        if (order >= 0).all():
            return skeleton, order
    body = [joint for joint in COCO17.joints[5:] if joint not in names]
    if body:
        raise FormatError(
            f"{path} lacks {', '.join(body[:4])}; it has {', '.join(names[:8])} ...",
            hint="joints are needed under COCO's names, such as left_shoulder",
        )
    return COCO17, np.array([names.index(joint) if joint in names else -1 for joint in COCO17.joints])


def _ours(count: int) -> tuple[str, ...]:
    for skeleton in (COCO17, HALPE26):
        if count == len(skeleton):
            return skeleton.joints
    raise FormatError(f"people have {count} joints; expected 17 (COCO) or 26 (Halpe)")


def _openpose_names(count: int) -> tuple[str, ...]:
    for names in (BODY25, OPENPOSE_COCO18):
        if count == len(names):
            return names
    raise FormatError(f"people have {count} joints; expected 25 (BODY_25) or 18 (COCO)")


def read_detections(path: Path | str, kind: str | None = None) -> Detections:
    """Everyone in a file (or OpenPose's folder) of another tool.

    kind  a key of READERS; default: told from the content. Raises FormatError for anything else.
    """
    path = Path(path)
    kind = kind or guess(path)
    if kind not in READERS:
        raise FormatError(f"unknown kind of detections {kind!r}; known: {', '.join(READERS)}")
    try:
        return READERS[kind](path)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise FormatError(f"{path} is not laid out as {kind} writes it ({error!r})") from error


def guess(path: Path) -> str:
    """Which tool wrote it: the key of READERS. Raises FormatError where nothing fits."""
    if path.is_dir():
        return "openpose"
    if path.suffix == ".csv":
        return "deeplabcut"
    content = _json(path)
    if isinstance(content, dict) and "instance_info" in content:
        return "mmpose"
    if isinstance(content, dict) and "people" in content:
        return "openpose"
    if isinstance(content, list) and content and isinstance(content[0], dict) and "image_id" in content[0]:
        return "coco" if isinstance(content[0]["image_id"], int) else "alphapose"
    raise FormatError(
        f"{path}: none of {', '.join(READERS)} is laid out like this", hint="name the tool that wrote it with --format"
    )


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FormatError(f"no such file: {path}") from error
    except (OSError, ValueError) as error:
        raise FormatError(f"{path} is damaged or not JSON: {error}") from error


def _number(name: str, path: Path) -> int:
    """The last number in a frame's name: 12 of `clip_000000000012_keypoints` or `12.jpg`."""
    found = re.findall(r"\d+", Path(name).stem)
    if not found:
        raise FormatError(f"{path}: {name!r} has no frame number in its name")
    return int(found[-1])


def _read_openpose(path: Path) -> Detections:
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    rows = _Rows(path, "openpose")
    for file in files:
        frame = _number(re.sub(r"_keypoints$", "", file.stem), file)
        for person in _json(file)["people"]:
            tracked = person.get("person_id", [-1])
            rows.add(frame, int(tracked[0]) if tracked else -1, person["pose_keypoints_2d"])
    return rows.done(_openpose_names)


def _read_alphapose(path: Path) -> Detections:
    rows = _Rows(path, "alphapose")
    for entry in _json(path):
        person = entry.get("idx", -1)
        while isinstance(person, list):  # its tracker sometimes nests the id
            person = person[0] if person else -1
        rows.add(_number(str(entry["image_id"]), path), int(person), entry["keypoints"])
    return rows.done(_ours)


def _read_coco(path: Path) -> Detections:
    rows = _Rows(path, "coco")
    first = min((entry["image_id"] for entry in _json(path)), default=0)
    for entry in _json(path):
        rows.add(entry["image_id"] - min(first, 1), int(entry.get("track_id", -1)), entry["keypoints"])
    return rows.done(_ours)


def _read_mmpose(path: Path) -> Detections:
    content, rows = _json(path), _Rows(path, "mmpose")
    named = content.get("meta_info", {}).get("keypoint_id2name", {})
    names = tuple(name for _, name in sorted((int(i), name) for i, name in named.items()))
    first = min((frame["frame_id"] for frame in content["instance_info"]), default=0)  # MMPose's demo counts from 1
    for frame in content["instance_info"]:
        for one in frame["instances"]:
            values = np.column_stack([np.asarray(one["keypoints"], float)[:, :2], one["keypoint_scores"]])
            person = one.get("track_id", one.get("instance_id", -1))
            rows.add(frame["frame_id"] - min(first, 1), int(person), values)
    return rows.done(lambda count: names if len(names) == count else _ours(count))


def _read_deeplabcut(path: Path) -> Detections:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            table = list(csv.reader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(f"cannot read {path}: {error}") from error
    heads = {row[0]: row[1:] for row in table[:4] if row and row[0] in ("scorer", "individuals", "bodyparts", "coords")}
    if "bodyparts" not in heads or "coords" not in heads:
        raise FormatError(f"{path} has no `bodyparts` and `coords` rows at its top")
    parts, coords = [_our_name(part) for part in heads["bodyparts"]], heads["coords"]
    people = heads.get("individuals", [""] * len(parts))
    names, rows = tuple(dict.fromkeys(parts)), _Rows(path, "deeplabcut")
    column = {(who, part, axis): i for i, (who, part, axis) in enumerate(zip(people, parts, coords, strict=True))}
    for line in table[len(heads) :]:
        cells = [float(cell) if cell.strip() else float("nan") for cell in line[1:]]
        for number, who in enumerate(dict.fromkeys(people)):
            values = np.array([[cells[column[who, part, axis]] for axis in ("x", "y", "likelihood")] for part in names])
            if np.isfinite(values).all(axis=1).any():
                rows.add(int(float(line[0])), number, values)
    return rows.done(lambda _: names)


def _our_name(part: str) -> str:
    """left_shoulder for leftShoulder, LShoulder, left-shoulder, Left Shoulder."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", part.strip())
    words = re.sub(r"[\s\-]+", "_", words).lower()
    short = re.fullmatch(r"(l|r)_?(eye|ear|shoulder|elbow|wrist|hip|knee|ankle|heel|big_?toe|small_?toe)", words)
    return f"{'left' if short[1] == 'l' else 'right'}_{short[2]}" if short else words


READERS: dict[str, Callable[[Path], Detections]] = {
    "openpose": _read_openpose,
    "alphapose": _read_alphapose,
    "coco": _read_coco,
    "mmpose": _read_mmpose,
    "deeplabcut": _read_deeplabcut,
}
