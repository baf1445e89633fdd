"""Detections in tables and arrays: DeepLabCut, SLEAP, Sports2D's TRC of pixels, and VideoPose3D's data sets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from twoview.detection.file_content import RIGHT_FILE, Content, at, number, numbered, read_table
from twoview.detection.hdf5_files import HDF5, numbers_of, opened_hdf5, read_deeplabcut_table, texts_of
from twoview.detection.joint_orders import our_name
from twoview.errors import FormatError
from twoview.storage.objects import read_objects
from twoview.storage.regular import MOST_TEXT, read_text

_HEADS = ("scorer", "individuals", "bodyparts", "coords")


def read_deeplabcut(path: Path, _: str) -> Content:
    """A table of DeepLabCut, .csv or .h5, with one person or several.

    Also of its labeled pictures, which have no likelihood.
    """
    table = read_deeplabcut_table(path) if path.suffix.lower() in HDF5 else read_table(path)
    heads = {row[0].strip().lower(): row for row in table[:4] if row and row[0].strip().lower() in _HEADS}
    if missing := [name for name in ("bodyparts", "coords") if name not in heads]:
        raise FormatError(f"{path} has no row {' and '.join(missing)} at its top, as DeepLabCut's tables have")
    coords = [cell.strip().lower() for cell in heads["coords"]]
    begin = coords.index("x") if "x" in coords else 1  # labeled data has three columns with the picture's place
    parts = [our_name(part) for part in heads["bodyparts"]]
    people = heads.get("individuals", [""] * len(parts))
    names = tuple(dict.fromkeys(parts[begin:]))
    column = {(people[i], parts[i], coords[i]): i for i in range(begin, len(coords))}
    content = Content(first=0)
    scored = any(axis == "likelihood" for *_, axis in column)
    if not scored:
        content.remarks.append("the table has no likelihood: every joint with a position has the score 1")
    for row, line in enumerate(table[len(heads) :], 1):
        with at(f"{path}, row {row} under its heading"):
            if len(line) < len(coords):
                raise ValueError(
                    f"it has {len(line)} cells, and the heading has {len(coords)}; the file may be cut off"
                )
            place = next((cell for cell in reversed(line[:begin]) if cell.strip()), "")
            frame = int(number(place)) if re.fullmatch(r"[\d.]+", place.strip()) else numbered(place, path)[1]
            content.counted.append(frame)
            for index, who in enumerate(dict.fromkeys(people[begin:])):
                values = np.array([[_axis(line, column, who, part, axis) for axis in ("x", "y", "likelihood")]
                                   for part in names])  # fmt: skip
                values[:, 2] = np.where(np.isfinite(values[:, :2]).all(axis=1), 1.0 if not scored else values[:, 2], 0)
                if (values[:, 2] > 0).any():
                    content.add(frame, index, values, names)
    return content


def _axis(line: list[str], column: Mapping[tuple[str, str, str], int], who: str, part: str, axis: str) -> float:
    at = column.get((who, part, axis))
    if at is None and axis != "likelihood":
        raise KeyError(f"{part} {axis}")
    return float("nan") if at is None else number(line[at])


def read_sleap(path: Path, _: str) -> Content:
    """SLEAP's analysis, as .csv or .h5."""
    if path.suffix.lower() != ".csv":
        return _sleap_h5(path)
    table = read_table(path)
    heading = [cell.strip() for cell in table[0]]
    column = {name: i for i, name in enumerate(heading)}
    parts = list(dict.fromkeys(name.rsplit(".", 1)[0] for name in heading if name.endswith(".x")))
    names, tracks = tuple(map(our_name, parts)), dict[str, int]()
    content = Content(first=0)
    for row, line in enumerate(table[1:], 2):
        with at(f"{path}, row {row}"):
            track = line[column["track"]].strip()
            values = [[number(line[column[f"{part}.{axis}"]]) for axis in ("x", "y", "score")] for part in parts]
            person = tracks.setdefault(track, len(tracks)) if track else -1
            content.add(int(number(line[column["frame_idx"]])), person, values, names)
    return content


def _sleap_h5(path: Path) -> Content:
    with opened_hdf5(path) as file:
        if "tracks" not in file or "node_names" not in file:
            raise FormatError(
                f"{path} is an .h5 without tracks and node_names, so no analysis file of SLEAP, and none of DeepLabCut",
                hint="both also write .csv: sleap-convert --format analysis.csv; DeepLabCut's save_as_csv=True",
            )
        tracks = numbers_of(file["tracks"])  # (people, 2, joints, frames)
        named = texts_of(file["node_names"])
        scores = numbers_of(file["point_scores"]) if "point_scores" in file else np.ones(tracks[:, 0].shape)
    content, names = Content(counted=list(range(tracks.shape[-1])), first=0), tuple(map(our_name, named))
    for frame in range(tracks.shape[-1]):
        for person in range(len(tracks)):
            values = np.column_stack([tracks[person, :, :, frame].T, scores[person, :, frame]])
            if np.isfinite(values[:, 0]).any():
                content.add(frame, person, np.where(np.isfinite(values), values, 0.0), names)
    return content


def read_sports2d(path: Path, _: str) -> Content:
    """A TRC of pixels: markers as columns of X, Y and Z."""
    lines = [line.split("\t") for line in read_text(path, most=MOST_TEXT).splitlines() if line.strip()]
    top = next((i for i, line in enumerate(lines[:8]) if line[0].strip().lower() == "frame#"), -1)
    if top < 2:
        raise FormatError(f"{path} is no TRC: it has no row that begins with Frame#", hint=RIGHT_FILE)
    about = dict(zip(*(map(str.strip, line) for line in lines[1:3]), strict=False))
    unit = about.get("Units", "")
    names = tuple(our_name(name) for name in lines[top][2:] if name.strip())
    content = Content(remarks=["a TRC has no scores: every marker with a position has the score 1"])
    for row, line in enumerate(lines[top + 2 :], top + 3):
        with at(f"{path}, line {row}"):
            cells = [number(cell) for cell in line[2 : 2 + 3 * len(names)]]
            if len(cells) < 3 * len(names):
                raise ValueError(f"it has {len(line)} cells, and {2 + 3 * len(names)} are expected")
            values = np.reshape(cells, (-1, 3))
            frame = int(number(line[0]))
            content.counted.append(frame)
            seen = np.isfinite(values[:, :2]).all(axis=1)
            if np.nanmax(np.abs(values[seen]), initial=0.0) < 20 and unit.lower() != "px":
                raise FormatError(
                    f"{path} is in {unit or 'an unknown unit'}, and 2D detections are in pixels",
                    hint="Sports2D writes both: name its file that ends in _px_person00.trc",
                )
            if seen.any():
                content.add(frame, 0, np.column_stack([values[:, :2], seen]), names)
    return content


def read_videopose3d(path: Path, clip: str) -> Content:
    """VideoPose3D's data sets of 2D: name of a video -> name of an action -> one array per camera."""
    found = read_objects(path)
    if "positions_2d" not in found:
        held = ", ".join(list(found)[:6])
        raise FormatError(f"{path} is no 2D data set of VideoPose3D: it has no positions_2d; it has {held}")
    videos = found["positions_2d"]
    videos = videos.item() if isinstance(videos, np.ndarray) else videos
    names = list(videos)
    same = [name for name in names if Path(str(name)).stem.lower() == clip.lower()]
    if len(names) > 1 and len(same) != 1:
        raise FormatError(
            f"{path} holds {len(names)} videos: {', '.join(names[:5])}", hint="name the video as one of them"
        )
    actions = videos[same[0] if same else names[0]]
    arrays = [array for cameras in actions.values() for array in cameras]
    if len(arrays) != 1:
        raise FormatError(f"{path} holds {len(arrays)} arrays of this video, and one is expected")
    values = np.asarray(arrays[0], float)
    content = Content(counted=list(range(len(values))), first=0)
    if values.shape[-1] == 2:
        content.remarks.append("the file has no scores: every joint with a position has the score 1")
        values = np.concatenate([values, np.isfinite(values).all(axis=-1, keepdims=True)], axis=-1)
    for frame, joints in enumerate(values):
        content.add(frame, 0, joints)
    return content
