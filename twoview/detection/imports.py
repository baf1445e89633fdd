"""2D detections of other tools, read: OpenPose, AlphaPose, MMPose, COCO results, DeepLabCut.

All of them count frames; the times come from the video they were made from (see `importing`). Where a tool has more
joints than ours, those that have a name in COCO-17 or Halpe-26 are kept.

2D detections written as other tools write them: OpenPose, AlphaPose, MMPose, COCO results, DeepLabCut.

Detections of other tools as our Poses2D: frames get the video's true times, people become tracks, one is chosen.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray as Array

from twoview.config import DetectConfig
from twoview.detection.athlete import choose
from twoview.detection.pipeline import single_out
from twoview.detection.repair import repair, smooth
from twoview.detection.tracking import People, Tracker, join
from twoview.detectors import Person
from twoview.detectors.crops import around
from twoview.errors import FormatError
from twoview.poses import Poses2D, Source
from twoview.skeleton import COCO17, HALPE26, Skeleton
from twoview.storage import records

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


def import_poses(
    path: Path | str, video: Path | str, *, kind: str | None = None, config: DetectConfig | None = None, view: str = ""
) -> Poses2D:
    """The athlete from a file of AlphaPose, OpenPose (a folder), MMPose, COCO results or DeepLabCut.

    video   the file the detections were made from: its frames' times, size and fingerprint are taken
    kind    the tool; default: told from the content
    config  person, score, repair and smoothing are used; the rest is how one detects
    Raises FormatError where the file has frames that the video has not.
    """
    from twoview.media.video import probe, timeline

    config = config or DetectConfig()
    found, times, size = read_detections(path, kind), timeline(video).seconds, probe(video).size
    if len(found.frame) and found.frame.max() >= len(times):
        raise FormatError(
            f"{path} has frame {found.frame.max()}, and {video} has {len(times)} frames (0 to {len(times) - 1})",
            hint="were they made from this very video, not from a cut or resampled copy?",
        )
    people = join(as_people(found, times))
    poses = single_out(people, choose(people, size, config.person), found.skeleton, size, least=config.score)
    if config.repair:
        poses, _ = repair(poses)
    if config.smooth != "none":
        poses = smooth(poses, config.smooth, config.smooth_hz)  # type: ignore[arg-type]
    return replace(poses, view=view, source=Source(records.fingerprint(video), found.tool))


def as_people(found: Detections, times: Array) -> People:
    """Rows of people with track ids: the tool's own, or those of people followed from frame to frame."""
    order = np.argsort(found.frame, kind="stable")
    box = np.array([around(xy, score, least=1e-6) for xy, score in zip(found.xy, found.score, strict=True)])
    order = order[~np.isnan(box[order]).any(axis=1)]
    track = found.person.copy()
    if (found.person < 0).any():
        tracker = Tracker()
        for frame in np.unique(found.frame[order]):
            rows = order[found.frame[order] == frame]
            people = [Person(found.xy[i], found.score[i], box[i]) for i in rows]
            matched = tracker.match(int(frame), people)
            known = {i: t for t, i in matched.items()}
            for i, (row, person) in enumerate(zip(rows, people, strict=True)):
                track[row] = known[i] if i in known else tracker.new()
                tracker.see(int(frame), int(track[row]), person)
    looks = np.full((len(order), 6), np.nan)
    return People(times, found.frame[order], track[order], found.xy[order], found.score[order], box[order], looks)
