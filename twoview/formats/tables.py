"""Plain text: csv for spreadsheets and data frames, json for other programs."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray as Array

from twoview.formats.markers import IN_WORDS
from twoview.poses import Poses3D
from twoview.storage.records import header


def write_csv(poses: Poses3D, path: Path) -> None:
    """Write one row per frame and joint: frame, time_s, joint, x, y, z with the unit in the name; a gap is empty.

    A last column has the joint's sigma where the poses know it.
    """
    unit, sigma = poses.unit, poses.sigma
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["frame", "time_s", "joint", f"x_{unit}", f"y_{unit}", f"z_{unit}",
                       *([] if sigma is None else [f"sigma_{unit}"])])  # fmt: skip
        for frame, (time, joints) in enumerate(zip(poses.time, poses.xyz, strict=True)):
            for joint, (name, place) in enumerate(zip(poses.skeleton.joints, joints, strict=True)):
                known = [f"{value:.5f}" for value in place] if np.isfinite(place).all() else ["", "", ""]
                if sigma is not None:
                    own = sigma[frame, joint]
                    known.append(f"{own:.5f}" if np.isfinite(own) else "")
                rows.writerow([frame, f"{time:.6f}", name, *known])


def write_json(poses: Poses3D, path: Path) -> None:
    """Write one object: unit, axes, joints, their parents, time (T), xyz (T, J, 3), sigma (T, J); a gap is null."""
    sigma = {} if poses.sigma is None else {"sigma": _with_nulls(poses.sigma)}
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
        "xyz": _with_nulls(poses.xyz),
        **sigma,
    }
    path.write_text(json.dumps(content, allow_nan=False) + "\n", encoding="utf-8")


def _with_nulls(values: Array) -> Any:
    """Numbers as lists, rounded to five decimals; NaN is null."""
    rounded = np.round(values.astype(np.float64), 5)
    plain = rounded.astype(object)
    plain[np.isnan(rounded)] = None
    return plain.tolist()
