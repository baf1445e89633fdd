"""Which files a person means who names files, folders and patterns such as `*.mp4`."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable
from pathlib import Path

from twoview.errors import VideoError
from twoview.storage.names import natural
from twoview.storage.regular import real_path

# Endings of files that phones, cameras and programs write videos to.
SUFFIXES = frozenset(
    [
        ".mp4",
        ".mov",
        ".m4v",
        ".3gp",
        ".avi",
        ".mkv",
        ".webm",
        ".mts",
        ".m2ts",
        ".ts",
        ".mpg",
        ".mpeg",
        ".wmv",
        ".flv",
        ".ogv",
        ".insv",
        ".360",
    ]
)
_PATTERN = re.compile(r"[*?[]")


def video_files(named: Iterable[Path | str], *, leave_out: Iterable[Path] = ()) -> list[Path]:
    """The files that are meant, each once, in the order in which they are named.

    A folder stands for the videos in it, without those in its folders; a pattern for what it matches, also where no
    shell has looked it up. A file that is named stays, whatever it holds and whether or not it exists.

    leave_out  files that neither a folder nor a pattern stands for
    Raises VideoError for a folder without a video, and for a pattern that matches nothing.
    """
    others, found = {real_path(path) for path in leave_out}, dict[Path, Path]()
    for path in map(Path, named):
        if os.path.isdir(path):
            files = [file for file in videos_in(path) if real_path(file) not in others]
            if not files:
                raise VideoError(f"no video in the folder {path}", hint="name the files, or another folder")
        elif _PATTERN.search(str(path)) and not os.path.exists(path):
            files = [file for file in _matches(path) if real_path(file) not in others]
            if not files:
                raise VideoError(f"no file is named like {path}", hint="quote patterns with ** or {}; name the files")
        else:
            files = [path]
        for file in files:
            found.setdefault(real_path(file), file)
    return list(found.values())


def videos_in(folder: Path) -> list[Path]:
    """The videos of a folder in natural order; hidden files, as macOS writes on foreign disks, are none."""
    files = (path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith("."))
    return sorted((path for path in files if path.is_file()), key=lambda path: natural(path.name.lower()))


def _matches(pattern: Path) -> list[Path]:
    """Files that a pattern matches, and the videos in folders that it matches."""
    found = list[Path]()
    for path in map(Path, sorted(glob.glob(str(pattern), recursive=True), key=lambda name: natural(name.lower()))):
        found += videos_in(path) if os.path.isdir(path) else [path]
    return found
