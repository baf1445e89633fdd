"""Joint angles as a table, and as the .mot file of coordinates that OpenSim moves a model by."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy import ndarray as Array
from scipy.spatial.transform import Rotation

from twoview.biomechanics.angles import ANGLES, SIDES, Angles, angles, pelvis_frame
from twoview.biomechanics.contacts import FEET
from twoview.errors import FormatError
from twoview.poses import Poses3D


def write_angles_csv(found: Angles, path: Path, *, contact: Array | None = None) -> None:
    """Write one row per frame: frame, time_s and every angle in degrees, `right_knee_flexion_deg`; a gap is empty.

    contact  (T, 2) bool, whether the right and the left foot stand on the floor, written as 1 and 0 in two more columns
    """
    feet = [] if contact is None else [f"{foot}_foot_on_floor" for foot in FEET]
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["frame", "time_s", *(f"{name}_deg" for name in found.degrees), *feet])
        for frame, time in enumerate(found.time):
            values = (values[frame] for values in found.degrees.values())
            stands = [] if contact is None else [int(down) for down in contact[frame]]
            rows.writerow([frame, f"{time:.6f}", *("" if np.isnan(v) else f"{v:.3f}" for v in values), *stands])


def write_mot(poses: Poses3D, path: Path) -> None:
    """Write the angles of poses as OpenSim's coordinates in degrees, and of poses in a world the pelvis's place in m.

    See `write_angles_mot`. The pelvis's axes are those of the hips and the trunk.
    """
    write_angles_mot(angles(poses), path, pelvis=_pelvis(poses) if poses.axes != "camera" else {})


def _pelvis(poses: Poses3D) -> dict[str, Array]:
    """OpenSim's six coordinates of the pelvis for poses in world axes with y up: turns about z, then x, then y."""
    right, up, forward = pelvis_frame(poses)
    axes = np.stack([forward, up, right], axis=-1)
    known = np.isfinite(axes).all(axis=(1, 2))
    turns = np.full((len(poses), 3), np.nan)
    if known.any():
        turns[known] = Rotation.from_matrix(axes[known]).as_euler("ZXY", degrees=True)
    turns[known, 2] = np.degrees(np.unwrap(np.radians(turns[known, 2])))
    names = ("pelvis_tilt", "pelvis_list", "pelvis_rotation", "pelvis_tx", "pelvis_ty", "pelvis_tz")
    root = poses.xyz[:, poses.skeleton.root].astype(np.float64)
    return dict(zip(names, np.concatenate([turns, root], axis=1).T, strict=True))


def write_angles_mot(found: Angles, path: Path, *, pelvis: Mapping[str, Array] | None = None) -> None:
    """Write the angles that are coordinates of OpenSim's full-body models, in degrees; a gap is NaN.

    pelvis  more coordinates by name, written first

    Raises FormatError where there are none.
    """
    columns = dict(pelvis or {})
    for name, about in ANGLES.items():
        coordinate, sign = about.opensim
        for side in SIDES if about.sided else ("",):
            own = f"{side}_{name}" if side else name
            if coordinate and own in found.degrees:
                columns[f"{coordinate}_{side[0]}" if side else coordinate] = sign * found.degrees[own]
    if not columns:
        raise FormatError("these poses have no joints between which OpenSim's coordinates are measured")
    values = np.stack(list(columns.values()), axis=1) + 0.0  # no "-0"
    lines = [
        "Coordinates", "version=1", f"nRows={len(values)}", f"nColumns={len(columns) + 1}", "inDegrees=yes", "",
        "endheader", "\t".join(["time", *columns]),
    ]  # fmt: skip
    for time, row in zip(found.time, values, strict=True):
        lines.append("\t".join([f"{time:.6f}", *("NaN" if np.isnan(v) else f"{v:.4f}" for v in row)]))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
