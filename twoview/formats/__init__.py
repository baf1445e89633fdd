"""Files that other programs read: 3D poses as tables, as marker files and as a web page.

A writer is any function `f(poses, path)` with a row in FORMATS. `write` adds what all formats need: a file is written
whole or not at all, formats whose readers expect meters refuse poses without a scale, and poses whose world is known
are put into its axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from twoview import plugins
from twoview.errors import FormatError

if TYPE_CHECKING:
    from twoview.poses import Axes, Poses2D, Poses3D

# Name (and file suffix) -> "module:function".
FORMATS: dict[str, str] = {
    "csv": "twoview.formats.tables:write_csv",
    "json": "twoview.formats.tables:write_json",
    "trc": "twoview.formats.trc:write_trc",
    "mot": "twoview.formats.angles:write_mot",
    "c3d": "twoview.formats.c3d:write_c3d",
    "bvh": "twoview.formats.bvh:write_bvh",
    "dlc.csv": "twoview.formats.keypoints:write_dlc",
    "nc": "twoview.formats.keypoints:write_netcdf",
    "html": "twoview.visualization.viewer:write_page",
}
METRIC = ("trc", "c3d", "bvh")  # their readers expect meters
EVEN = ("trc", "c3d", "bvh")  # they have one rate and no times
IN_CAMERA = ("html",)  # they show poses as the camera sees them
UPRIGHT = ("mot",)  # their readers expect y up
NAMED = ("trc",)  # they contain their own name, which their writers take as `name`


def format_of(path: Path | str) -> str:
    """The format that a file's suffix names; "" for none."""
    suffixes = Path(path).suffixes
    endings = ("".join(suffixes[start:]).lstrip(".").lower() for start in range(len(suffixes)))
    return next((ending for ending in endings if ending in FORMATS), "")


def check(formats: Sequence[str], *, unit: str = "m") -> None:
    """Raise for formats that `write` would refuse poses of that unit in: before anything is computed.

    Raises FormatError for an unknown format, and for one that needs meters where the unit is not "m".
    """
    for name in formats:
        if name not in FORMATS:
            raise FormatError(f"unknown format {name!r}", hint=f"choose one of {', '.join(FORMATS)}")
        if name in METRIC and unit != "m":
            raise FormatError(
                f"without the athlete's height poses have no scale (unit {unit!r}), and {name} files are in meters",
                hint="give the athlete's height in meters: --height 1.78",
            )


def axes_note(poses: Poses3D, formats: Sequence[str], axes: Axes) -> tuple[str, ...]:
    """That files in these formats are in camera axes although others were asked for, in a sentence."""
    placed = [name for name in formats if name not in IN_CAMERA]
    if poses.unit != "m" or poses.world is not None or axes == "camera" or not placed:
        return ()
    return (f"{', '.join(placed)}: in camera axes, since it is not known where the floor is",)


def notes(poses: Poses3D, formats: Sequence[str]) -> tuple[str, ...]:
    """What files in these formats hold other than the poses, in plain sentences: other rows, bones of one length."""
    from twoview.formats.c3d import MOST_COUNTED
    from twoview.formats.even import at_even_rate

    even = [name for name in formats if name in EVEN]
    if not even or not len(poses):
        return ()
    made = at_even_rate(poses)
    said = [f"{', '.join(even)}: {made.note}; csv and json keep the frames"] if made.note else []
    if "c3d" in even and (missed := len(made.poses) - MOST_COUNTED) > 0:
        said.append(
            f"c3d: a program that reads the number of frames in the header alone misses the last {missed} of "
            f"{len(made.poses)}; ezc3d and c3d read all"
        )
    if "bvh" in even:
        from twoview.formats.bvh import bvh_note  # it loads SciPy

        said += [f"bvh: {note}"] if (note := bvh_note(made.poses)) else []
    return tuple(said)


def save(poses: Poses2D | Poses3D, path: Path | str) -> Path:
    """Write poses to the file that the suffix names, and return its path: `.npz`, or of 3D poses any of FORMATS."""
    from twoview.poses import Poses2D
    from twoview.storage import records

    path = Path(path)
    if path.suffix == ".npz":
        records.save(path, poses)
        return path
    if isinstance(poses, Poses2D):
        raise FormatError(
            f"2D poses are kept as .npz, not {path.suffix or 'without a suffix'}",
            hint="other tools' formats of 2D: `twoview detect --format openpose,coco`",
        )
    return write(poses, path)


def write(poses: Poses3D, path: Path | str, format: str = "", *, axes: Axes = "y-up", force: bool = False) -> Path:
    """Write poses to a file and return its path.

    format  a name in FORMATS; default: the suffix of the path
    axes    of the world, see `in_world`, where poses have one; else, and with "camera", those of the camera
    force   write screen units into a format whose readers expect meters

    Raises FormatError for an unknown format, no poses, or poses without a scale; StorageError when the disk is full;
    MissingBackend when a format needs a package that is not installed.
    """
    from twoview.storage.records import atomic

    path = Path(path)
    name = format or format_of(path) or path.suffix.lstrip(".").lower()
    check([name], unit="m" if force else poses.unit)
    if not len(poses):
        raise FormatError(f"there is no pose to write to {path}", hint="was an athlete found in the video?")
    if poses.world is not None and poses.unit == "m" and name not in IN_CAMERA:
        from twoview.biomechanics.world import in_world

        poses = in_world(poses, "y-up" if axes == "z-up" and name in UPRIGHT else axes)
    writer = plugins.load(FORMATS[name], "format", FormatError)
    more = {"name": path.name} if name in NAMED else {}
    with atomic(path) as temporary:
        writer(poses, temporary, **more)
    return path
