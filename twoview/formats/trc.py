"""TRC: text files of marker trajectories, which OpenSim reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from twoview.formats.even import at_even_rate, rate_text
from twoview.formats.markers import marker_names, marker_places
from twoview.poses import Poses3D

_KEYS = ("DataRate", "CameraRate", "NumFrames", "NumMarkers", "Units", "OrigDataRate", "OrigDataStartFrame",
         "OrigNumFrames")  # fmt: skip


def write_trc(poses: Poses3D, path: Path, *, name: str = "") -> None:
    """Write markers in meters, in the world's axes or y up, at the true rate; a gap is empty.

    Times are those of the view's clock.

    name  of the file, for its first line; default: that of the path. Rate and number of the frames before they were
          made even are OrigDataRate and OrigNumFrames.
    """
    made = at_even_rate(poses)
    even, rate = made.poses, rate_text(made.rate)
    names = marker_names(even.skeleton)
    values = (rate, rate, str(len(even)), str(len(names)), "m", rate_text(made.frame_rate), "1", str(made.frames))
    axes = "\t".join(f"X{n}\tY{n}\tZ{n}" for n in range(1, len(names) + 1))
    lines = [
        f"PathFileType\t4\t(X/Y/Z)\t{name or path.name}",
        "\t".join(_KEYS),
        "\t".join(values),
        "Frame#\tTime\t" + "\t\t\t".join(names) + "\t\t",
        f"\t\t{axes}",
    ]
    for number, (time, joints) in enumerate(zip(even.time, marker_places(even), strict=True), 1):
        numbers = ("" if np.isnan(value) else f"{value:.6f}" for value in joints.ravel())
        lines.append(f"{number}\t{time:.6f}\t" + "\t".join(numbers))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
