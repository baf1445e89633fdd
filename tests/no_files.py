"""What may stand in the place of a file and is none."""

from __future__ import annotations

import os
from pathlib import Path


def put_no_file(path: Path, kind: str) -> None:
    """Put a pipe, a circle (a link to itself), a folder or a device at a path; for any other kind nothing."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "circle":
        path.symlink_to(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
