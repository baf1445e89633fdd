"""Plain text: csv for spreadsheets and data frames, json for other programs."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np

from twoview.formats.markers import IN_WORDS
from twoview.poses import Poses3D
from twoview.storage.records import header


def write_csv(poses: Poses3D, path: Path) -> None:
    """Write one row per frame and joint: frame, time_s, joint, x, y, z with the unit in the name; a gap is empty."""
    unit = poses.unit
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["frame", "time_s", "joint", f"x_{unit}", f"y_{unit}", f"z_{unit}"])
        for frame, (time, joints) in enumerate(zip(poses.time, poses.xyz, strict=True)):
            for name, place in zip(poses.skeleton.joints, joints, strict=True):
                known = [f"{value:.5f}" for value in place] if np.isfinite(place).all() else ["", "", ""]
                rows.writerow([frame, f"{time:.6f}", name, *known])


def write_json(poses: Poses3D, path: Path) -> None:
    """Write one object: unit, axes, joints, their parents, time (T) and xyz (T, J, 3); a gap is null."""
    xyz = np.round(poses.xyz.astype(np.float64), 5)
    places = xyz.astype(object)
    places[np.isnan(xyz)] = None
    content = {
        **header("poses3d-json"),
        "view": poses.view,
        "made_with": poses.source.made_by,
        "unit": poses.unit,
        "origin": poses.origin,
        "filter": poses.filter,
        "axes": IN_WORDS[poses.axes],
        "skeleton": {
            "name": poses.skeleton.name,
            "joints": list(poses.skeleton.joints),
            "parents": list(poses.skeleton.parents),
        },
        "time": np.round(poses.time, 6).tolist(),
        "xyz": places.tolist(),
    }
    path.write_text(json.dumps(content, allow_nan=False) + "\n", encoding="utf-8")
