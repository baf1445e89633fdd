"""Other tools' files of one moving body, laid out as those tools lay them out, and a video of that body to look at."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from synthetic import camera_around, figure
from videos import number, picture

from twoview.detectors import Person
from twoview.detectors.crops import around
from twoview.media.writer import VideoWriter
from twoview.poses import Poses2D
from twoview.skeleton import COCO17, Skeleton

FRAMES, RATE, SIZE = 40, 25, (480, 360)
BODY25_PLACES = (
    0,
    18,
    6,
    8,
    10,
    5,
    7,
    9,
    19,
    12,
    14,
    16,
    11,
    13,
    15,
    2,
    1,
    4,
    3,
    20,
    22,
    24,
    21,
    23,
    25,
)  # in Halpe-26


def halpe(frames: int = FRAMES, *, angle: float = 25.0, seed: int = 0, rate: float = RATE) -> np.ndarray:
    """Halpe-26 joints (T, 26, 2) px of a body that moves in the middle of the picture."""
    body = figure(np.arange(frames) / rate * 2, seed=seed)
    middle = {name: body[:, [5, 6] if name == "neck" else [11, 12]].mean(axis=1) for name in ("neck", "hip")}
    head = body[:, 0] + 0.6 * (body[:, 0] - middle["neck"])
    feet = [body[:, side] + np.array(off) for off in ((0, 0.08, -0.15), (0, 0.08, -0.1), (0, 0.08, 0.06))
            for side in (15, 16)]  # fmt: skip
    whole = np.concatenate([body, np.stack([head, middle["neck"], middle["hip"], *feet], axis=1)], axis=1)
    return camera_around(angle, size=SIZE).project(camera_around(angle, size=SIZE).to_camera(whole))


def poses(skeleton: Skeleton = COCO17, frames: int = FRAMES, *, gaps: bool = False, **body: float) -> Poses2D:
    """The body as poses; gaps: a joint unseen now and then, and nobody in frame 7."""
    xy = halpe(frames, **body)[:, : len(skeleton)]
    score = np.full(xy.shape[:2], 0.75)
    if gaps:
        score[3, 9] = score[7] = 0
    return Poses2D(np.where(score[..., None] > 0, xy, np.nan), score, np.arange(frames) / RATE, skeleton, SIZE)


def film(path: Path, frames: int = FRAMES) -> Path:
    """A video of pictures that Eye knows by their brightness."""
    with VideoWriter(path, SIZE, RATE) as writer:
        for index in range(frames):
            writer.write(picture(index, SIZE), index / RATE)
    return path


class Eye:
    """A detector that sees the body in the pictures of `film`, with errors of a few pixels."""

    name, skeleton = "eye", COCO17

    def __init__(self, xy: np.ndarray | None = None, *, error_px: float = 1.5) -> None:
        self.xy, self.error, self.looked = halpe() if xy is None else xy, error_px, 0

    def __call__(self, rgb: np.ndarray) -> list[Person]:
        frame, self.looked = number(rgb), self.looked + 1
        noise = np.random.default_rng(frame).normal(0, self.error, (17, 2))
        xy, score = self.xy[frame, :17] + noise, np.full(17, 0.8)
        return [Person(xy, score, around(xy, score, least=0.1))]


def triples(xy: np.ndarray, score: float = 0.9) -> np.ndarray:
    return np.concatenate([xy, np.full((*xy.shape[:-1], 1), score)], axis=-1)


def flat(joints: np.ndarray) -> list[float]:
    return [round(float(value), 4) for value in joints.ravel()]


def openpose_folder(
    folder: Path, joints: np.ndarray, *, first: int = 0, name: str = "clip_{:012d}_keypoints.json",
    key: str = "pose_keypoints_2d", frames: range | None = None,
) -> Path:  # fmt: skip
    """One file for each frame; an entry of NaN is nobody."""
    folder.mkdir(parents=True, exist_ok=True)
    for frame in frames or range(len(joints)):
        person = {"person_id": [-1], key: flat(joints[frame]), "face_keypoints_2d": []}
        people = [person] if np.isfinite(joints[frame]).all() else []
        (folder / name.format(frame + first)).write_text(json.dumps({"version": 1.3, "people": people}))
    return folder


def alphapose_file(path: Path, joints: np.ndarray, *, name: str = "{}.jpg", first: int = 0, idx: int = 1) -> Path:
    path.write_text(json.dumps([
        {"image_id": name.format(frame + first), "category_id": 1, "keypoints": flat(body), "score": 2.0, "idx": idx}
        for frame, body in enumerate(joints)
    ]))  # fmt: skip
    return path


def deeplabcut_text(joints: np.ndarray, *, mark: str = ",", axes: tuple[str, ...] = ("x", "y", "likelihood")) -> str:
    names = COCO17.joints
    rows = [["scorer"] + ["net"] * len(axes) * 17, ["bodyparts"] + [n for n in names for _ in axes],
            ["coords"] + list(axes) * 17]  # fmt: skip
    for frame, body in enumerate(joints):
        value = [dict(zip(("x", "y", "likelihood"), joint, strict=True)) for joint in body]
        rows.append([str(frame)] + [f"{one.get(axis, 0.1):.3f}" for one in value for axis in axes])
    return "\n".join(mark.join(row) for row in rows) + "\n"


def trc_text(joints: np.ndarray, *, unit: str = "px", names: tuple[str, ...] = COCO17.joints) -> str:
    head = [
        ["PathFileType", "4", "(X/Y/Z)", "clip_px_person00.trc"],
        ["DataRate", "CameraRate", "NumFrames", "NumMarkers", "Units", "OrigDataRate", "OrigDataStartFrame",
         "OrigNumFrames"],
        [str(RATE), str(RATE), str(len(joints)), str(len(names)), unit, str(RATE), "0", str(len(joints))],
        ["Frame#", "Time", *[cell for name in names for cell in (name, "", "")]],
        ["", "", *[f"{axis}{i + 1}" for i in range(len(names)) for axis in "XYZ"]],
    ]  # fmt: skip
    rows = [
        [str(frame), f"{frame / RATE:.4f}", *[f"{value:.3f}" for x, y, _ in body for value in (x, y, 0.0)]]
        for frame, body in enumerate(joints)
    ]
    return "\n".join("\t".join(row) for row in [*head, *rows]) + "\n"


def inferencer_entries(joints: np.ndarray, *, first: int = 0, score: float = 0.9) -> list[dict]:
    return [
        {"frame_id": frame + first, "instances": [{"keypoints": body[:, :2].tolist(), "keypoint_scores": [score] * len(
            body), "bbox": [[0, 0, 9, 9]], "bbox_score": 0.9}]}
        for frame, body in enumerate(joints)
    ]  # fmt: skip


Maker = Callable[[Path, np.ndarray], Path]


def _text(name: str, content: Callable[[np.ndarray], str | bytes]) -> Maker:
    def make(folder: Path, xy: np.ndarray) -> Path:
        made, path = content(xy), folder / name
        path.write_bytes(made.encode() if isinstance(made, str) else made)
        return path

    return make


def _of(xy: np.ndarray, joints: int) -> np.ndarray:
    """The first joints; faces and hands of whole-body models are one point."""
    more = np.repeat(xy[:, :1], max(joints - xy.shape[1], 0), axis=1)
    return triples(np.concatenate([xy, more], axis=1)[:, :joints])


def wholebody(xy: np.ndarray) -> np.ndarray:
    """COCO-WholeBody's 133 joints (T, 133, 3): body, feet, and a face and hands that are one point."""
    feet = xy[:, [20, 22, 24, 21, 23, 25]]
    rest = np.repeat(xy[:, :1], 110, axis=1)
    return triples(np.concatenate([xy[:, :17], feet, rest], axis=1))


def sleap_text(xy: np.ndarray) -> str:
    head = ["track", "frame_idx", "instance.score", *[f"{n}.{a}" for n in COCO17.joints for a in ("x", "y", "score")]]
    rows = [["track_0", str(i), "0.9", *map(str, flat(body))] for i, body in enumerate(triples(xy[:, :17]))]
    return "\n".join(",".join(row) for row in [head, *rows])


def videopose3d(folder: Path, xy: np.ndarray) -> Path:
    path = folder / "data_2d_custom.npz"
    np.savez_compressed(path, positions_2d=np.array({"clip.mp4": {"custom": [xy[:, :17].astype("f4")]}}, dtype=object),
                        metadata=np.array({"layout_name": "coco"}, dtype=object))  # fmt: skip
    return path


LAYOUTS: dict[str, Maker] = {
    "openpose": lambda folder, xy: openpose_folder(folder / "clip_json", triples(xy)[:, BODY25_PLACES]),
    "openpose of 1.1": lambda folder, xy: openpose_folder(
        folder / "clip_json", triples(xy)[:, [0, 18, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3]],
        key="pose_keypoints",
    ),
    "Pose2Sim's 26": lambda folder, xy: openpose_folder(folder / "clip_json", triples(xy), name="clip_{:06d}.json"),
    "Pose2Sim's 17": lambda folder, xy: openpose_folder(folder / "clip_json", _of(xy, 17), name="clip_{:06d}.json"),
    "Pose2Sim's 133": lambda folder, xy: openpose_folder(folder / "clip_json", wholebody(xy), name="clip_{:06d}.json"),
    "alphapose": lambda folder, xy: alphapose_file(folder / "results.json", triples(xy)),
    "alphapose of 136": lambda folder, xy: alphapose_file(folder / "results.json", _of(xy, 136)),
    "alphapose cmu": _text("cmu.json", lambda xy: json.dumps({
        f"{i}.jpg": {"version": "AlphaPose v0.2", "bodies": [{"joints": flat(body)}]}
        for i, body in enumerate(triples(xy)[:, [0, 18, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3]])})),
    "coco results": _text("coco.json", lambda xy: json.dumps([
        {"image_id": i, "category_id": 1, "keypoints": flat(body), "score": 0.9}
        for i, body in enumerate(_of(xy, 17))])),
    "coco annotations": _text("instances.json", lambda xy: json.dumps({
        "images": [{"id": 1000 + i, "file_name": f"clip_{i:05d}.png"} for i in range(len(xy))],
        "categories": [{"id": 1, "keypoints": list(COCO17.joints)}],
        "annotations": [{"image_id": 1000 + i, "keypoints": flat(triples(body[:17], 2.0))}
                        for i, body in enumerate(xy)]})),
    "mmpose inferencer": _text("clip.json", lambda xy: json.dumps(inferencer_entries(_of(xy, 17)))),
    "mmpose demo": _text("results_clip.json", lambda xy: json.dumps(
        {"meta_info": {}, "instance_info": inferencer_entries(_of(xy, 17), first=1, score=1.7)})),
    "mmpose of 133": _text("clip.json", lambda xy: json.dumps(inferencer_entries(wholebody(xy)))),
    "deeplabcut": _text("clip.csv", lambda xy: deeplabcut_text(_of(xy, 17))),
    "deeplabcut marked": _text("clip.csv", lambda xy: b"\xef\xbb\xbf" + deeplabcut_text(_of(xy, 17)).encode()),
    "deeplabcut blank": _text("clip.csv", lambda xy: deeplabcut_text(_of(xy, 17)) + "\n\n"),
    "deeplabcut semicolon": _text("clip.csv", lambda xy: deeplabcut_text(_of(xy, 17), mark=";").replace(".", ",")),
    "deeplabcut ensemble": _text("clip.csv", lambda xy: deeplabcut_text(
        _of(xy, 17), axes=("x", "y", "likelihood", "x_ens_median", "y_ens_median"))),
    "deeplabcut labels": _text("CollectedData.csv", lambda xy: deeplabcut_text(_of(xy, 17), axes=("x", "y"))),
    "sleap": _text("clip.csv", sleap_text),
    "sports2d": _text("clip_px_person00.trc", lambda xy: trc_text(_of(xy, 17))),
    "videopose3d": videopose3d,
}  # fmt: skip
"""Every layout in which another tool's detections come, and what makes it of Halpe's joints."""
