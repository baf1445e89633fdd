"""Small data sets laid out as the originals."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from bodies import around, moving_body
from numpy import ndarray as Array

from twoview.datasets import aspset, human36m, mpi_inf_3dhp
from twoview.geometry.cameras import Camera, project
from twoview.skeleton import COCO17, H36M17

FRAMES = 12


def coco_body(rng: np.random.Generator) -> Array:
    """COCO-17 points (T, 17, 3) m: the joints that both skeletons have, and a face before the head."""
    own = moving_body(FRAMES, rng)
    points = np.empty((FRAMES, 17, 3))
    for index, joint in enumerate(COCO17.joints):
        if joint in H36M17.joints:
            points[:, index] = own[:, H36M17.index(joint)]
        else:
            points[:, index] = own[:, H36M17.index("head")] + rng.normal(size=3) * 0.05
    return points


def a_camera(rng: np.random.Generator, *, angle: float = 30.0) -> Camera[Array]:
    rotation, translation = around(angle)
    distortion, position = tuple(rng.normal(size=8) * 0.05), -rotation.T @ translation
    return Camera(rotation, position, np.array([1100.0, 1120.0]), np.array([950.0, 610.0]), (1936, 1216), distortion)


def write_sportspose(
    root: Path, rng: np.random.Generator, subject: str = "S06"
) -> tuple[Array, list[Camera[Array]], list[int]]:
    """One take of one subject as the data set has it; returns its joints, cameras before turning, and turns."""
    turns = [1, 3, 0, 2, 1, 1, 1]
    cameras = [
        replace(a_camera(rng, angle=45.0 * index), size=(1936, 1216) if turns[index] % 2 else (1216, 1936))
        for index in range(7)
    ]
    rows = [
        {
            "f": c.focal[None], "c": c.center[None], "k": np.array(c.distortion), "T": -c.rotation @ c.position,
            "R": c.rotation,
            "tpr": cv2.Rodrigues(c.rotation)[0][:, 0],
        }
        for c in cameras
    ]  # fmt: skip
    folder = root / "data" / "indoors" / subject / "soccer"
    folder.mkdir(parents=True)
    (folder.parent / "calib.pkl").write_bytes(pickle.dumps({"calibration": rows, "numtimesrot90clockwise": turns}))
    world = coco_body(rng)
    np.save(folder / "soccer0001.npy", world)
    late = np.arange(7) * 2
    timing = {
        "video_path": ("indoors", subject, "soccer0001"),
        "video_index": [np.arange(FRAMES) + 100 + k for k in late],
        "times_ms": [np.arange(FRAMES) * 1000 / 90 + 5000 for _ in late],
    }
    (folder / "soccer0001_timing.pkl").write_bytes(pickle.dumps(timing))
    return world, cameras, turns


def pixel_pose(points: Array, camera: Camera[Array]) -> tuple[Array, Array]:
    """LCN's recipe: pixels with z at the scale of a 2 m box around the root, and its millimeters a pixel."""
    mm, root = points * 1000, points[:, :1] * 1000
    xy = project(mm, camera.focal) + camera.center
    ratio = camera.focal[0] / root[..., 2] + 1 / 2000
    return np.concatenate([xy, ratio[..., None] * (mm[..., 2:] - root[..., 2:])], axis=-1), 1 / ratio[:, 0]


def write_human36m(path: Path, body: Array) -> dict[str, Array]:
    """Two takes of S9 and two cameras, as the prepared file orders them, and the same by S1 and S5 to train on."""
    table: dict[str, list] = {key: [] for key in ("joint_2d", "confidence", "joint3d_image", "camera_name", "source")}
    table |= {"joints_2.5d_image": [], "2.5d_factor": [], "action": []}
    points = {}
    for act, action in (("02", "Direction"), ("05", "Greet")):
        for number, view in enumerate(("54138969", "55011271"), start=1):
            rotation, translation = around(70.0 * number)
            points[view] = body @ rotation.T + translation
            pixels, factor = pixel_pose(points[view], human36m.lens(view))
            table["joint_2d"].extend(pixels[..., :2])
            table["confidence"].extend(np.full((FRAMES, 17, 1), 0.8))
            table["joint3d_image"].extend(pixels)
            table["joints_2.5d_image"].extend(pixels * factor[:, None, None])
            table["2.5d_factor"].extend(factor)
            table["camera_name"].extend([view] * FRAMES)
            table["source"].extend([f"s_09_act_{act}_subact_02_ca_{number:02d}"] * FRAMES)
            table["action"].extend([action] * FRAMES)
    plain = {key: np.array(value) for key, value in table.items()}
    shared = [key for key in plain if key not in ("joints_2.5d_image", "2.5d_factor", "action")]
    train = {key: np.concatenate([plain[key], plain[key]]) for key in shared}
    train["source"] = np.char.replace(train["source"], "s_09", np.repeat(["s_01", "s_05"], len(plain["source"])))
    path.write_bytes(pickle.dumps({"train": train, "test": plain}))
    return points


def to_3dhp(values: Array) -> Array:
    out = np.empty_like(values)
    out[:, mpi_inf_3dhp._TO_H36M] = values
    return out


def write_c3d(path: Path, labels: list[str], points: Array, rate: float, unit: str = "mm") -> None:
    """A C3D file of points (T, N, 3); NaN is a gap."""
    import ezc3d

    file = ezc3d.c3d()
    values = {"LABELS": labels, "UNITS": [unit], "RATE": [rate]}
    for name, value in values.items():
        file["parameters"]["POINT"][name]["value"] = value
    data = np.ones((4, points.shape[1], len(points)))
    data[:3] = np.nan_to_num(points).transpose(2, 1, 0)
    file["data"]["points"] = data
    file["data"]["meta_points"]["residuals"] = np.where(np.isnan(points).any(axis=-1), -1.0, 0.0).T[None]
    path.parent.mkdir(parents=True, exist_ok=True)
    file.write(str(path))


def write_aspset(root: Path, body: Array, unit: str = "mm") -> tuple[Path, Array]:
    """One clip, and the position of its cameras' common place: (C3D file, joints (T, 17, 3) m before each camera)."""
    rotation, translation = around(40.0)
    outer = np.eye(4)
    outer[:3, :3], outer[:3, 3] = rotation, translation * 1000
    inner = np.array([[3000.0, 0, 1920, 0], [0, 3010, 1080, 0], [0, 0, 1, 0]])
    for view in aspset.VIEWS:
        path = root / f"trainval/cameras/04ac/04ac-{view}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {"intrinsic_matrix": inner.ravel().tolist(), "extrinsic_matrix": outer.ravel().tolist()}
        path.write_text(json.dumps(content))
    labels = sorted(aspset._JOINTS)
    columns = [aspset._JOINTS.index(label) for label in labels]
    clip = root / "trainval/joints_3d/04ac/04ac-0026.c3d"
    write_c3d(clip, labels, body[:, columns] * {"mm": 1000, "cm": 100}[unit], 50.0, unit)
    (root / "splits.csv").write_text("04ac,0026,train,all\n04ac,0030,val,all\n04ac,0027,test,mid\n")
    return clip, body @ rotation.T + translation
