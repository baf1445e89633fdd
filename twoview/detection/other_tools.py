"""2D detections in the files of other tools: OpenPose, AlphaPose, MMPose, COCO results and DeepLabCut.

They are read, the athlete is chosen from them, and our poses are written in the same formats. All of these tools count
frames: imported detections get the times of the video that they were made from. Of a tool's joints those are kept that
have a name in COCO-17 or Halpe-26.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray as Array

from twoview.config import DetectConfig
from twoview.detection.athlete import choose
from twoview.detection.pipeline import clean
from twoview.detection.tracking import People, Tracker, join, poses_of_track
from twoview.detectors import Person
from twoview.detectors.crops import around
from twoview.errors import FormatError
from twoview.media.video import probe, timeline
from twoview.poses import Poses2D, Source
from twoview.skeleton import COCO17, HALPE26, Skeleton
from twoview.storage import records
from twoview.storage.regular import regular_file

# OpenPose's BODY_25 by our names ("" where we have none); its older COCO order lacks the hip's middle and the feet.
_FACE = ("right_eye", "left_eye", "right_ear", "left_ear")
_ARMS = ("nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist")
_LEGS = ("right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle")
_FEET = ("left_big_toe", "left_small_toe", "left_heel", "right_big_toe", "right_small_toe", "right_heel")
BODY25 = (*_ARMS, "hip", *_LEGS, *_FACE, *_FEET)
OPENPOSE_COCO18 = (*_ARMS, *_LEGS, *_FACE)
MOST_TEXT = 4 << 30  # bytes of another tool's file; an hour of several people takes one


# --- read ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class ImportedPeople:
    """Everyone that another tool found: one row per person and frame.

    frame   (M,) frame number, from 0
    person  (M,) the tool's number of the person, -1 where the tool gives none
    xy      (M, J, 2) px, NaN where unseen
    score   (M, J) 0..1
    """

    frame: Array
    person: Array
    xy: Array
    score: Array
    skeleton: Skeleton
    tool: str


class Row(NamedTuple):
    """One person in one frame of a file.

    values  x, y and score of every joint, flat or in rows
    names   of the joints; () where the file does not name them
    """

    frame: int
    person: int
    values: Any
    names: tuple[str, ...] = ()


def _gathered(rows: Iterable[Row], path: Path, tool: str) -> ImportedPeople:
    """All rows of a file in one of our skeletons."""
    frame, person, joints, names = [], [], [], ()  # type: list[int], list[int], list[Array], tuple[str, ...]
    for row in rows:
        try:
            joints.append(np.asarray(row.values, dtype=np.float64).reshape(-1, 3))
        except ValueError as error:
            raise FormatError(f"{path}: frame {row.frame}: joints are not triples of x, y, score") from error
        frame.append(row.frame)
        person.append(row.person)
        names = row.names
    if not joints:
        raise FormatError(f"{path} holds no person", hint="is it the right file?")
    counts = sorted({len(values) for values in joints})
    if len(counts) > 1:
        raise FormatError(f"{path} mixes people of {', '.join(map(str, counts))} joints")
    skeleton, order = _arrange(names if len(names) == counts[0] else _usual_names(counts[0], tool), path)
    values = np.stack(joints)
    picked = np.where((order >= 0)[None, :, None], values[:, np.maximum(order, 0)], 0.0)
    score = np.clip(np.nan_to_num(picked[..., 2]), 0.0, 1.0)
    unseen = (score == 0) | ~np.isfinite(picked[..., :2]).all(axis=-1)
    xy = np.where(unseen[..., None], np.nan, picked[..., :2])
    return ImportedPeople(np.array(frame), np.array(person), xy, np.where(unseen, 0.0, score), skeleton, tool)


def _arrange(names: tuple[str, ...], path: Path) -> tuple[Skeleton, Array]:
    """The largest of our skeletons whose joints are all named, and the index of each joint in `names` (-1: none)."""
    for skeleton in (HALPE26, COCO17):
        order = np.array([names.index(joint) if joint in names else -1 for joint in skeleton.joints])
        if (order >= 0).all():
            return skeleton, order
    body = [joint for joint in COCO17.joints[5:] if joint not in names]
    if body:
        raise FormatError(
            f"{path} lacks {', '.join(body[:4])}; it has {', '.join(names[:8])} ...",
            hint="name the joints as COCO does, for instance left_shoulder",
        )
    return skeleton, order


def _usual_names(count: int, tool: str) -> tuple[str, ...]:
    """The names of so many joints in the files of a tool that does not name them."""
    usual = {"COCO": COCO17.joints, "Halpe": HALPE26.joints}
    if tool == "openpose":
        usual = {"BODY_25": BODY25, "COCO": OPENPOSE_COCO18}
    for names in usual.values():
        if count == len(names):
            return names
    expected = " or ".join(f"{len(names)} ({order})" for order, names in usual.items())
    raise FormatError(f"people have {count} joints; expected {expected}")


def read_detections(path: Path | str, tool: str | None = None) -> ImportedPeople:
    """Everyone in a file (or OpenPose's folder) of another tool.

    tool  a key of READERS; by default recognized from the content
    Raises FormatError for an unknown tool and for a file that is not in its format.
    """
    path = Path(path)
    tool = tool or recognize(path)
    if tool not in READERS:
        raise FormatError(f"unknown format of detections {tool!r}; known: {', '.join(READERS)}")
    try:
        return _gathered(READERS[tool](path), path, tool)
    except (KeyError, TypeError, IndexError, AttributeError, ValueError, OverflowError) as error:
        raise FormatError(f"{path} is not in the format that {tool} writes ({error!r})") from error


def recognize(path: Path) -> str:
    """The tool that wrote a file, a key of READERS. Raises FormatError where none fits."""
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
        f"{path} is in none of the formats {', '.join(READERS)}",
        hint="is it the right file? OpenPose's is a folder, DeepLabCut's a .csv, the others' a .json",
    )


def _json(path: Path) -> Any:
    return records.load_json(path, most=MOST_TEXT)


def _frame_number(name: str, path: Path) -> int:
    """The last number in the name of a frame: 12 of `clip_000000000012_keypoints` or `12.jpg`."""
    found = re.findall(r"\d+", Path(name).stem)
    if not found:
        raise FormatError(f"{path}: {name!r} has no frame number in its name")
    return int(found[-1])


def _read_openpose(path: Path) -> Iterator[Row]:
    for file in sorted(path.glob("*.json")) if path.is_dir() else [path]:
        frame = _frame_number(re.sub(r"_keypoints$", "", file.stem), file)
        for person in _json(file)["people"]:
            tracked = person.get("person_id", [-1])
            yield Row(frame, int(tracked[0]) if tracked else -1, person["pose_keypoints_2d"])


def _read_alphapose(path: Path) -> Iterator[Row]:
    for entry in _json(path):
        person = entry.get("idx", -1)
        while isinstance(person, list):  # its tracker sometimes nests the id
            person = person[0] if person else -1
        yield Row(_frame_number(str(entry["image_id"]), path), int(person), entry["keypoints"])


def _read_coco(path: Path) -> Iterator[Row]:
    entries = _json(path)
    first = min((entry["image_id"] for entry in entries), default=0)
    for entry in entries:
        yield Row(entry["image_id"] - min(first, 1), int(entry.get("track_id", -1)), entry["keypoints"])


def _read_mmpose(path: Path) -> Iterator[Row]:
    content = _json(path)
    named = content.get("meta_info", {}).get("keypoint_id2name", {})
    names = tuple(name for _, name in sorted((int(i), name) for i, name in named.items()))
    first = min((frame["frame_id"] for frame in content["instance_info"]), default=0)  # MMPose's demo counts from 1
    for frame in content["instance_info"]:
        for one in frame["instances"]:
            values = np.column_stack([np.asarray(one["keypoints"], float)[:, :2], one["keypoint_scores"]])
            person = one.get("track_id", one.get("instance_id", -1))
            yield Row(frame["frame_id"] - min(first, 1), int(person), values, names)


def _read_deeplabcut(path: Path) -> Iterator[Row]:
    try:
        with regular_file(path).open(newline="", encoding="utf-8-sig") as file:
            table = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FormatError(f"cannot read {path}: {error}") from error
    heads = {row[0]: row[1:] for row in table[:4] if row and row[0] in ("scorer", "individuals", "bodyparts", "coords")}
    if "bodyparts" not in heads or "coords" not in heads:
        raise FormatError(f"{path} has no `bodyparts` and `coords` rows at its top")
    parts, coords = [_our_name(part) for part in heads["bodyparts"]], heads["coords"]
    people = heads.get("individuals", [""] * len(parts))
    names = tuple(dict.fromkeys(parts))
    column = {(who, part, axis): i for i, (who, part, axis) in enumerate(zip(people, parts, coords, strict=True))}
    for line in table[len(heads) :]:
        cells = [float(cell) if cell.strip() else float("nan") for cell in line[1:]]
        for number, who in enumerate(dict.fromkeys(people)):
            values = np.array([[cells[column[who, part, axis]] for axis in ("x", "y", "likelihood")] for part in names])
            if np.isfinite(values).all(axis=1).any():
                yield Row(int(float(line[0])), number, values, names)


def _our_name(part: str) -> str:
    """left_shoulder for leftShoulder, LShoulder, left-shoulder, Left Shoulder."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", part.strip())
    words = re.sub(r"[\s\-]+", "_", words).lower()
    short = re.fullmatch(r"(l|r)_?(eye|ear|shoulder|elbow|wrist|hip|knee|ankle|heel|big_?toe|small_?toe)", words)
    return f"{'left' if short[1] == 'l' else 'right'}_{short[2]}" if short else words


READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    "openpose": _read_openpose,
    "alphapose": _read_alphapose,
    "coco": _read_coco,
    "mmpose": _read_mmpose,
    "deeplabcut": _read_deeplabcut,
}


# --- written --------------------------------------------------------------------------------------------------------


def write_detections(poses: Poses2D, path: Path | str, tool: str) -> None:
    """Write one person's poses in the format of another tool, a key of WRITERS; frames are counted from 0.

    path  a file, or a folder for openpose. Unseen joints are 0 (empty in csv), as in the files of those tools.
    Raises FormatError for an unknown tool, and for joints that its format cannot hold.
    """
    check_tool(tool)
    if poses.skeleton not in (COCO17, HALPE26):
        raise FormatError(f"{tool} holds COCO-17 or Halpe-26 joints; these poses are {poses.skeleton.name}")
    WRITERS[tool](poses, Path(path))


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
         "score": float(poses.score[frame].mean()), **more}
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


# --- chosen from ----------------------------------------------------------------------------------------------------


def import_poses(
    path: Path | str, video: Path | str, *, tool: str | None = None, config: DetectConfig | None = None, view: str = ""
) -> Poses2D:
    """The athlete from a file of AlphaPose, MMPose, COCO results or DeepLabCut, or from OpenPose's folder.

    video   the file that the detections were made from: its frames' times, size and fingerprint are taken
    tool    a key of READERS; by default recognized from the content
    config  `person`, `score`, `repair` and the smoothing are used; the other settings are for detecting
    Raises FormatError where the file has frames that the video does not have.
    """
    config = config or DetectConfig()
    imported, times, size = read_detections(path, tool), timeline(video).seconds, probe(video).size
    if not 0 <= imported.frame.min() <= imported.frame.max() < len(times):
        raise FormatError(
            f"{path} has frames {imported.frame.min()} to {imported.frame.max()}, and {video} has {len(times)} frames "
            f"(0 to {len(times) - 1})",
            hint="were the detections made from this video, not from a cut or resampled copy?",
        )
    people = join(as_people(imported, times))
    athlete = choose(people, size, config.person, least=config.sureness)
    poses = clean(poses_of_track(people, athlete, imported.skeleton, size, least=config.score), config, str(path))
    return replace(poses, view=view, source=Source(records.fingerprint(video), imported.tool))


def as_people(imported: ImportedPeople, times: Array) -> People:
    """People with track numbers: the tool's own, or where it gives none those of people tracked frame by frame."""
    order = np.argsort(imported.frame, kind="stable")
    box = np.array([around(xy, score, least=1e-6) for xy, score in zip(imported.xy, imported.score, strict=True)])
    order = order[~np.isnan(box[order]).any(axis=1)]
    track = imported.person.copy()
    if (imported.person < 0).any():
        tracker = Tracker()
        for frame in np.unique(imported.frame[order]):
            rows = order[imported.frame[order] == frame]
            people = [Person(imported.xy[i], imported.score[i], box[i]) for i in rows]
            matched = tracker.match(int(frame), people)
            tracks = {i: t for t, i in matched.items()}
            for i, (row, person) in enumerate(zip(rows, people, strict=True)):
                track[row] = tracks[i] if i in tracks else tracker.new()
                tracker.update(int(frame), int(track[row]), person)
    colors = np.full((len(order), 6), np.nan)
    return People(
        times, imported.frame[order], track[order], imported.xy[order], imported.score[order], box[order], colors
    )
