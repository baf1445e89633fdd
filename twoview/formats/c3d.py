"""C3D: the binary file of motion capture laboratories, written by ezc3d."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from twoview.errors import MissingBackend, StorageError
from twoview.formats.markers import at_even_rate, marker_names, y_up
from twoview.poses import Poses3D


def write_c3d(poses: Poses3D, path: Path) -> None:
    """Write points in meters, y up, at the true rate; a gap has the residual -1. Raises MissingBackend."""
    try:
        import ezc3d
    except ImportError as error:
        raise MissingBackend("c3d files need the package ezc3d", hint="pip install ezc3d") from error
    even, rate = at_even_rate(poses)
    places = np.moveaxis(y_up(even.xyz.astype(np.float64)), 0, -1)  # (J, 3, T)
    known = np.isfinite(places).all(axis=1)
    points = np.ones((4, len(even.skeleton), len(even)))
    points[:3] = np.where(known, places.swapaxes(0, 1), np.nan)
    file = ezc3d.c3d()
    about = file["parameters"]["POINT"]
    about["UNITS"]["value"] = ["m"]
    about["RATE"]["value"] = [rate]
    about["LABELS"]["value"] = marker_names(even.skeleton)
    file.add_parameter("POINT", "X_SCREEN", "+X")
    file.add_parameter("POINT", "Y_SCREEN", "+Y")
    file["data"]["points"] = points
    file["data"]["meta_points"]["residuals"] = np.where(known, 0.0, -1.0)[None]
    file.write(str(path))
    if path.stat().st_size < 4 * points.size:  # ezc3d does not report a full disk
        raise StorageError(f"ezc3d could not write {path}", hint="free some space or choose another folder")
