"""Detections in JSON: OpenPose and what writes its layout, AlphaPose, MMPose, COCO's results and annotations."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from twoview.detection.file_content import COUNTED_FROM, Content, at, numbered, of_one_clip, read_json
from twoview.detection.joint_orders import our_name
from twoview.errors import FormatError


def _files(path: Path, clip: str) -> dict[Path, int]:
    """The file of each frame, and its number."""
    if not os.path.isdir(path):
        return {path: numbered(path.name, path)[1]}
    files = {file.name: file for file in sorted(path.glob("*.json"))}
    return {files[name]: number for name, number in of_one_clip(files, clip, path).items()}


def read_openpose(path: Path, clip: str) -> Content:
    """OpenPose's folder, or one frame of it; Pose2Sim and rtmlib write other joints in the same layout."""
    content = Content()
    for file, frame in _files(path, clip).items():
        content.counted.append(frame)
        with at(str(file)):
            for person in read_json(file)["people"]:
                tracked = person.get("person_id", [-1])
                tracked = tracked if isinstance(tracked, list) else [tracked]
                old = "pose_keypoints_2d" not in person and "pose_keypoints" in person
                if old and not content.remarks:
                    content.remarks.append("its joints are called pose_keypoints, as in OpenPose 1.1 and before")
                values = person["pose_keypoints" if old else "pose_keypoints_2d"]
                if len(values):
                    content.add(frame, int(tracked[0]) if tracked else -1, values)
    return content


def read_alphapose(path: Path, clip: str) -> Content:
    """AlphaPose's results in its three formats."""
    content, found = Content(), read_json(path)
    if isinstance(found, dict):  # its formats `cmu` and `open`: picture -> people
        frames = of_one_clip(found, clip, path)
        for name, frame in frames.items():
            content.counted.append(frame)
            with at(f"{path}, {name}"):
                for person in found[name].get("people", found[name].get("bodies")):
                    content.add(frame, -1, person.get("pose_keypoints_2d", person.get("joints")))
        return content
    frames = of_one_clip(dict.fromkeys(str(entry["image_id"]) for entry in found), clip, path)
    for number, entry in enumerate(found):
        with at(f"{path}, entry {number}"):
            if str(entry["image_id"]) not in frames:
                continue
            person = entry.get("idx", -1)
            while isinstance(person, list):  # its tracker sometimes nests the id
                person = person[0] if person else -1
            person = -1 if person is None else person
            content.add(frames[str(entry["image_id"])], int(person), entry["keypoints"])
            content.first = entry.get(COUNTED_FROM, content.first)
    return content


def read_coco(path: Path, clip: str) -> Content:
    """COCO's results, whose pictures are frames, or a data set of annotations."""
    found = read_json(path)
    if isinstance(found, dict):
        return _read_annotations(found, path, clip)
    content = Content()
    for number, entry in enumerate(found):
        with at(f"{path}, entry {number}"):
            content.add(int(entry["image_id"]), int(entry.get("track_id", -1)), entry["keypoints"])
            content.first = entry.get(COUNTED_FROM, content.first)
    return content


def _read_annotations(found: Mapping[str, Any], path: Path, clip: str) -> Content:
    """COCO's data sets: pictures, and people in them with a visibility of 0, 1 or 2 in place of a score."""
    pictures = {image["id"]: str(image.get("file_name", image["id"])) for image in found.get("images", ())}
    frames = of_one_clip(dict.fromkeys(pictures.values()), clip, path)
    categories = found.get("categories") or [{}]
    names = tuple(our_name(str(name)) for name in categories[0].get("keypoints", ()))
    content = Content(counted=list(frames.values()))
    visibility = True
    for number, entry in enumerate(found["annotations"]):
        with at(f"{path}, annotation {number}"):
            name = pictures.get(entry.get("image_id"))
            if name is not None and name not in frames:
                continue
            frame = frames[name] if name is not None else int(entry.get("frame_id", entry.get("image_id")))
            values = np.asarray(entry["keypoints"], float).reshape(-1, 3)
            visibility = visibility and set(np.unique(values[:, 2]).tolist()) <= {0.0, 1.0, 2.0}
            content.add(frame, int(entry.get("track_id", -1)), values, names)
    if visibility:
        halved = [row._replace(values=row.values * np.array([1, 1, 0.5])) for row in content.rows]
        content.rows, remark = (
            halved,
            "joints have a visibility of 0, 1 or 2, which is taken for the scores 0, 0.5 and 1",
        )
        content.remarks.append(remark)
    return content


def read_mmpose(path: Path, clip: str) -> Content:
    """MMPose's demo and Inferencer: one file for a video, or a folder with one for each frame."""
    content = Content()
    if os.path.isdir(path):
        for file, frame in _files(path, clip).items():
            content.counted.append(frame)
            found = read_json(file)
            with at(str(file)):
                names = _mmpose_names(found)
                for one in found["instance_info"] if isinstance(found, dict) else found:
                    _add_instance(content, frame, one, names)
        return content
    found = read_json(path)
    names = _mmpose_names(found)
    frames = found["instance_info"] if isinstance(found, dict) else found
    if frames and "instances" not in frames[0]:
        raise FormatError(
            f"{path} holds the people of one picture, without a number of its frame",
            hint="MMPose writes one file per picture: name their folder",
        )
    for number, frame in enumerate(frames):
        with at(f"{path}, entry {number}"):
            content.counted.append(int(frame["frame_id"]))
            for one in frame["instances"]:
                _add_instance(content, int(frame["frame_id"]), one, names)
    return content


def _mmpose_names(found: Any) -> tuple[str, ...]:
    meta = found.get("meta_info") or {} if isinstance(found, dict) else {}
    named = meta.get("keypoint_id2name") or {}
    return tuple(our_name(str(name)) for _, name in sorted((int(i), name) for i, name in named.items()))


def _add_instance(content: Content, frame: int, one: Mapping[str, Any], names: tuple[str, ...]) -> None:
    xy = np.asarray(one["keypoints"], float)
    if xy.ndim == 2 and xy.shape[1] == 3 and "keypoint_scores" not in one:
        values = xy
    else:
        values = np.column_stack([xy[:, :2], np.asarray(one["keypoint_scores"], float)])
    content.add(frame, int(one.get("track_id", one.get("instance_id", -1))), values, names)
