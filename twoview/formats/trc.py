"""TRC: text files of marker trajectories, which OpenSim reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from twoview.formats.markers import at_even_rate, marker_names, y_up
from twoview.poses import Poses3D

_KEYS = ("DataRate", "CameraRate", "NumFrames", "NumMarkers", "Units", "OrigDataRate", "OrigDataStartFrame",
         "OrigNumFrames")  # fmt: skip


def write_trc(poses: Poses3D, path: Path) -> None:
    """Write markers in meters, y up, at the true rate; a gap is empty. Times are those of the view's clock."""
    even, rate = at_even_rate(poses)
    names = marker_names(even.skeleton)
    speed = f"{rate:.6f}".rstrip("0").rstrip(".")
    values = (speed, speed, str(len(even)), str(len(names)), "m", speed, "1", str(len(even)))
    axes = "\t".join(f"X{n}\tY{n}\tZ{n}" for n in range(1, len(names) + 1))
    lines = [
        f"PathFileType\t4\t(X/Y/Z)\t{poses.view or 'poses'}.trc",
        "\t".join(_KEYS),
        "\t".join(values),
        "Frame#\tTime\t" + "\t\t\t".join(names) + "\t\t",
        f"\t\t{axes}",
    ]
    for number, (time, joints) in enumerate(zip(even.time, y_up(even.xyz), strict=True), 1):
        numbers = ("" if np.isnan(value) else f"{value:.6f}" for value in joints.ravel())
        lines.append(f"{number}\t{time:.6f}\t" + "\t".join(numbers))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
