"""Files that other programs read: 3D poses as tables, as marker files and as a web page.

A writer is any function `f(poses, path)` with a row in FORMATS. `write` adds what all formats need: a file is written
whole or not at all, and formats whose readers expect meters refuse poses without a scale.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from twoview import plugins
from twoview.errors import FormatError
from twoview.poses import Poses3D
from twoview.storage.records import atomic

Writer = Callable[[Poses3D, Path], None]

# Name (and file suffix) -> "module:function".
FORMATS: dict[str, str] = {
    "csv": "twoview.formats.tables:write_csv",
    "json": "twoview.formats.tables:write_json",
    "trc": "twoview.formats.trc:write_trc",
    "c3d": "twoview.formats.c3d:write_c3d",
    "html": "twoview.visualization.viewer:write_page",
}
METRIC = ("trc", "c3d")  # their readers expect meters


def write(poses: Poses3D, path: Path | str, format: str = "", *, force: bool = False) -> Path:
    """Write poses to a file and return its path.

    format  a name in FORMATS; default: the suffix of the path
    force   write screen units into a format whose readers expect meters

    Raises FormatError for an unknown format, no poses, or poses without a scale; StorageError when the disk is full;
    MissingBackend when a format needs a package that is not installed.
    """
    path = Path(path)
    name = format or path.suffix.lstrip(".").lower()
    if name not in FORMATS:
        raise FormatError(f"unknown format {name!r}", hint=f"choose one of {', '.join(FORMATS)}")
    if not len(poses):
        raise FormatError(f"there is no pose to write to {path}", hint="was an athlete found in the video?")
    if name in METRIC and poses.unit != "m" and not force:
        raise FormatError(
            f"{path.name}: these poses have no scale (unit {poses.unit!r}), and {name} files are in meters",
            hint="give the athlete's height in meters: --height 1.78",
        )
    writer: Writer = plugins.load(FORMATS[name], "format", FormatError)
    with atomic(path) as temporary:
        writer(poses, temporary)
    return path
