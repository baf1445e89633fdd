"""Joint angles as a table, and as the .mot file of coordinates that OpenSim moves a model by."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from twoview.biomechanics.angles import ANGLES, SIDES, Angles, angles
from twoview.errors import FormatError
from twoview.poses import Poses3D


def write_angles_csv(found: Angles, path: Path) -> None:
    """Write one row per frame: frame, time_s and every angle in degrees, `right_knee_flexion_deg`; a gap is empty."""
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["frame", "time_s", *(f"{name}_deg" for name in found.degrees)])
        for frame, time in enumerate(found.time):
            values = (values[frame] for values in found.degrees.values())
            rows.writerow([frame, f"{time:.6f}", *("" if np.isnan(v) else f"{v:.3f}" for v in values)])


def write_mot(poses: Poses3D, path: Path) -> None:
    """Write the angles of poses as OpenSim's coordinates in degrees, see `write_angles_mot`."""
    write_angles_mot(angles(poses), path)


def write_angles_mot(found: Angles, path: Path) -> None:
    """Write the angles that are coordinates of OpenSim's full-body models, in degrees; a gap is NaN.

    Raises FormatError where there are none.
    """
    columns = {}
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
