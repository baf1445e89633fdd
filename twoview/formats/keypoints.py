"""Files of keypoints for studies of movement: DeepLabCut's csv of 3D places, and netCDF for the package movement."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import netcdf_file

from twoview.errors import FormatError
from twoview.formats.even import at_even_rate
from twoview.formats.markers import IN_WORDS
from twoview.poses import Poses3D

_INDIVIDUAL = "athlete"


def write_dlc(poses: Poses3D, path: Path) -> None:
    """Write one row per frame and columns x, y, z per joint, in the poses' axes and unit; a gap is empty.

    The format has no times: its first column counts frames.
    """
    axes = ("x", "y", "z")
    joints = poses.skeleton.joints
    scorer = poses.source.made_by or "twoview"
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["scorer", *[scorer] * (3 * len(joints))])
        rows.writerow(["bodyparts", *(joint for joint in joints for _ in axes)])
        rows.writerow(["coords", *axes * len(joints)])
        for frame, values in enumerate(poses.xyz.reshape(len(poses), -1)):
            rows.writerow([frame, *("" if np.isnan(value) else f"{value:.5f}" for value in values)])


def write_netcdf(poses: Poses3D, path: Path) -> None:
    """Write movement's dataset of poses: `position` (time, space, keypoints, individuals) and `confidence`.

    The poses' axes and unit, and the frames' own times in seconds; `fps` only where these are even. No confidence
    is known (NaN). netCDF 3, which xarray reads. Dimensions have the names of movement up to 0.16.
    """
    with netcdf_file(path, "w", version=2) as opened:
        file: Any = opened  # its attributes are the global attributes of the file
        for name, length in (
            ("time", len(poses)),
            ("space", 3),
            ("keypoints", len(poses.skeleton)),
            ("individuals", 1),
        ):
            file.createDimension(name, length)
        file.createVariable("time", "f8", ("time",))[:] = poses.time
        _write_names(file, "space", "xyz")
        _write_names(file, "keypoints", poses.skeleton.joints)
        _write_names(file, "individuals", [_INDIVIDUAL])
        position = file.createVariable("position", "f4", ("time", "space", "keypoints", "individuals"))
        position[:] = poses.xyz.swapaxes(1, 2)[..., None]
        position.units = poses.unit.encode()
        position.long_name = IN_WORDS[poses.axes].encode()
        confidence = file.createVariable("confidence", "f4", ("time", "keypoints", "individuals"))
        confidence[:] = np.full((len(poses), len(poses.skeleton), 1), np.nan)
        if poses.sigma is not None:
            sigma = file.createVariable("sigma", "f4", ("time", "keypoints", "individuals"))
            sigma[:] = poses.sigma[..., None]
            sigma.units = poses.unit.encode()
            sigma.long_name = b"standard deviation of a joint along an axis, relative to the root joint"
        file.ds_type, file.time_unit, file.source_software = b"poses", b"seconds", b"twoview"
        file.source_model, file.view = poses.source.made_by.encode(), poses.view.encode()
        with suppress(FormatError):  # frames too far apart for one rate
            even = at_even_rate(poses)
            if len(poses) > 1 and not even.note:
                file.fps = np.float64(even.rate)


def _write_names(file: Any, name: str, values: Sequence[str]) -> None:
    """A coordinate of texts; netCDF 3 has characters only."""
    texts = [value.encode() for value in values]
    width = max(map(len, texts))
    length = f"{name}_characters"
    file.createDimension(length, width)
    variable = file.createVariable(name, "S1", (name, length))
    variable[:] = np.array([list(text.ljust(width, b"\0")) for text in texts], dtype=np.uint8).view("S1")
    variable._Encoding = b"utf-8"
