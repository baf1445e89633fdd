"""2D detections in the files of other tools, read: everyone in every frame, with the tool's own frame numbers.

Of a tool's joints those are kept that have a name in COCO-17, Halpe-26 or Human3.6M-17. What is not in the format that
it seems to be in is refused with the file, the row and what is missing there.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray as Array

from twoview.detection.file_content import Content, Row, at, read_json, read_table
from twoview.detection.hdf5_files import HDF5, recognize_hdf5
from twoview.detection.joint_orders import arrange, check_body, order, usual_order
from twoview.detection.json_readers import read_alphapose, read_coco, read_mmpose, read_openpose
from twoview.detection.table_readers import read_deeplabcut, read_sleap, read_sports2d, read_videopose3d
from twoview.errors import FormatError
from twoview.skeleton import Skeleton
from twoview.storage.regular import regular_file


@dataclass(frozen=True, eq=False)
class ImportedPeople:
    """Everyone that another tool found: one row per person and frame.

    frame    (M,) the tool's number of the frame
    person   (M,) the tool's number of the person, -1 where the tool gives none
    xy       (M, J, 2) in the tool's unit, which should be pixels; NaN where unseen
    score    (M, J) 0..1
    frames   first and last frame that the file counts, with people or without
    first    the number that the tool gives the video's first frame; None where the layout leaves it open
    remarks  sentences about what was done to read the file
    """

    frame: Array
    person: Array
    xy: Array
    score: Array
    skeleton: Skeleton
    tool: str
    frames: tuple[int, int]
    first: int | None = None
    remarks: tuple[str, ...] = ()


def read_detections(path: Path | str, tool: str | None = None, *, joints: str = "", clip: str = "") -> ImportedPeople:
    """Everyone in a file, or in a folder of files for each frame, of another tool.

    tool    a key of READERS; by default recognized from the content
    joints  name of the order of the joints, one of `joint_orders.ORDERS`, for a file that does not name them
    clip    name of the video: of a folder with the files of several videos, those of this one are read
    Raises FormatError for an unknown tool, and for a file that is not in its format or whose joints are in another
    order, with what is wrong where.
    """
    path = Path(path)
    tool = tool or recognize(path)
    if tool not in READERS:
        raise FormatError(f"unknown format of detections {tool!r}; known: {', '.join(READERS)}")
    with at(f"{path}, read as {tool}'s"):
        return _gathered(READERS[tool](path, clip), path, tool, joints)


def _gathered(content: Content, path: Path, tool: str, joints: str) -> ImportedPeople:
    """All rows of a file in one of our skeletons."""
    rows = content.rows
    if not rows:
        raise FormatError(f"{path} holds no person", hint="is it the right file, and did the tool find anybody?")
    values = [_triples(row, path) for row in rows]
    counts = sorted({len(one) for one in values})
    if len(counts) > 1:
        raise FormatError(f"{path} mixes people of {', '.join(map(str, counts))} joints")
    named = rows[0].names if len(rows[0].names) == counts[0] else ()
    with _named(path):
        used = joints or ("" if named else usual_order(counts[0], tool))
    names = order(used) if used else named
    if len(names) != counts[0]:
        raise FormatError(
            f"{path}: people have {counts[0]} joints, and the order {used} has {len(names)}",
            hint="leave --skeleton out, or name the order that the tool's model has",
        )
    skeleton, place = arrange(names, str(path))
    numbers = np.stack(values)
    score, xy = _scores(numbers[..., 2], path), numbers[..., :2]
    unseen = (score == 0) | ~np.isfinite(xy).all(axis=-1) | (xy == 0).all(axis=-1)
    if unseen.all():
        raise FormatError(
            f"{path}: all {len(rows)} people have the score 0 in every joint, which says that nobody was seen",
            hint="write the file again with the scores of the keypoints",
        )
    xy, score = np.where(unseen[..., None], np.nan, xy), np.where(unseen, 0.0, score)
    if used:
        check_body(xy, score, used, "; ".join([str(path), *content.remarks]))
    kept = np.where(place >= 0, place, 0)
    score = np.where(place >= 0, score[:, kept], 0.0)
    xy = np.where((score > 0)[..., None], xy[:, kept], np.nan)
    frame, person = np.array([row.frame for row in rows]), np.array([row.person for row in rows])
    remarks = list(content.remarks)
    if (twice := _twice(frame, person)) >= 0:
        person = np.full_like(person, -1)
        remarks.append(
            f"several people of frame {twice} have one id, so ids say nothing: people are tracked by their places"
        )
    frames = min(content.counted), max(content.counted)
    return ImportedPeople(frame, person, xy, score, skeleton, tool, frames, content.first, tuple(remarks))


@contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except FormatError as error:
        raise FormatError(f"{path}: {error.message}", hint=error.hint) from error


def _triples(row: Row, path: Path) -> Array:
    """x, y, score (J, 3) of a person."""
    try:
        values = np.asarray(row.values, dtype=np.float64)
        return values.reshape(-1, 3)
    except (ValueError, TypeError) as error:
        raise FormatError(f"{path}: frame {row.frame}: joints are not triples of x, y, score") from error


def _scores(score: Array, path: Path) -> Array:
    """Scores in 0..1: larger ones, as networks that give no probability have, count as 1."""
    score = np.nan_to_num(score)
    seen = score[score > 0]
    if len(seen) and float(np.median(seen)) > 3.0:
        raise FormatError(
            f"{path}: the scores are around {np.median(seen):.0f}, and 0 to 1 is expected",
            hint="are the three values of a joint x, y and score, and the score a share and not percent?",
        )
    clipped: Array = np.clip(score, 0.0, 1.0)
    return clipped


def _twice(frame: Array, person: Array) -> int:
    """The first frame in which two people have one id, -1: none."""
    both = Counter(zip(frame[person >= 0].tolist(), person[person >= 0].tolist(), strict=True))
    return min((number for (number, _), count in both.items() if count > 1), default=-1)


# --- which tool ----------------------------------------------------------------------------------------------------

_INSTEAD = {
    ".slp": "SLEAP's project; `sleap-convert --format analysis -o poses.h5 FILE.slp` writes what is read here",
    ".pickle": "a pickle, which could run code; DeepLabCut's poses are also in its .csv",
    ".pkl": "a pickle, which could run code; let the tool write JSON",
    ".npy": "an array without names; save it as VideoPose3D's .npz, or as COCO results",
    ".pt": "a PyTorch file; let the tool write JSON",
    ".mat": "a file of MATLAB; let the tool write JSON or csv",
    ".mp4": "a video; name the detections with --from",
    ".mot": "joint angles; 2D keypoints are expected",
    ".c3d": "3D points; 2D keypoints are expected",
    ".bvh": "3D bones; 2D keypoints are expected",
}
_KNOWN = (
    "AlphaPose, MMPose and COCO write one .json, OpenPose, Pose2Sim and rtmlib a folder with one .json per frame, "
    "DeepLabCut and SLEAP .csv or .h5, VideoPose3D .npz, Sports2D .trc"
)


def recognize(path: Path) -> str:
    """The tool that wrote a file, a key of READERS. Raises FormatError where none fits, with what the file is."""
    if os.path.isdir(path):
        return _recognize_folder(path)
    regular_file(path)
    by_end = {".csv": "", ".trc": "sports2d", ".npz": "videopose3d", ".json": ""}
    end = path.suffix.lower()
    if end in _INSTEAD:
        raise FormatError(f"{path} is {_INSTEAD[end]}", hint=_KNOWN)
    if by_end.get(end):
        return by_end[end]
    if end == ".csv":
        return _recognize_table(path)
    if end in HDF5:
        return recognize_hdf5(path)
    tool = _recognize_json(read_json(path))
    if not tool:
        raise FormatError(f"{path} is in none of the formats {', '.join(READERS)}", hint=_KNOWN)
    return tool


def _recognize_folder(folder: Path) -> str:
    files = sorted(folder.glob("*.json"))
    if not files:
        ends = Counter(file.suffix for file in folder.iterdir() if file.is_file())
        what = f"{len(list(folder.iterdir()))} files, most of them {ends.most_common(1)[0][0]}" if ends else "no files"
        raise FormatError(f"{folder} holds {what}, and no .json", hint=_KNOWN)
    tool = _recognize_json(read_json(files[0]))
    if tool not in ("openpose", "mmpose"):
        raise FormatError(
            f"{files[0]} is not one frame's people, as OpenPose, Pose2Sim, rtmlib and MMPose write them",
            hint=f"name the file itself: --from {files[0]}" if tool else _KNOWN,
        )
    return tool


def _recognize_json(content: Any) -> str:
    """The tool, "" where none fits."""
    first = content[0] if isinstance(content, list) and content else None
    if isinstance(content, dict):
        if "instance_info" in content:
            return "mmpose"
        if "people" in content:
            return "openpose"
        if "annotations" in content:
            return "coco"
        entry = next(iter(content.values()), None)
        return "alphapose" if isinstance(entry, dict) and ("people" in entry or "bodies" in entry) else ""
    if isinstance(first, dict):
        if "instances" in first or "keypoint_scores" in first:
            return "mmpose"
        if "image_id" in first:
            return "coco" if isinstance(first["image_id"], int) else "alphapose"
    return ""


def _recognize_table(path: Path) -> str:
    rows = read_table(path, most=4)
    heads = {row[0].strip().lower() for row in rows if row}
    if heads & {"scorer", "bodyparts", "individuals", "coords"}:
        return "deeplabcut"
    if rows and {"track", "frame_idx"} <= {cell.strip().lower() for cell in rows[0]}:
        return "sleap"
    raise FormatError(
        f"{path} is no table of DeepLabCut or SLEAP: its first row is {', '.join(rows[0][:5]) if rows else 'missing'}",
        hint="DeepLabCut's begin with rows called scorer, bodyparts and coords; SLEAP's have track and frame_idx",
    )


READERS: dict[str, Callable[[Path, str], Content]] = {
    "openpose": read_openpose,
    "alphapose": read_alphapose,
    "coco": read_coco,
    "mmpose": read_mmpose,
    "deeplabcut": read_deeplabcut,
    "sleap": read_sleap,
    "sports2d": read_sports2d,
    "videopose3d": read_videopose3d,
}
