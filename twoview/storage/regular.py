"""Files that are files: a pipe, a device, a folder or a circle of links in their place is refused, not waited for."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from twoview.errors import FormatError, StorageError, TwoViewError
from twoview.texts import SAVE_AS, decoded

MOST_TEXT = 4 << 30  # bytes of a text file

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def real_path(path: Path | str) -> Path:
    """Where a path leads, absolute and without links; a circle of links, which `Path.resolve` fails at, stays."""
    return Path(os.path.realpath(path))


def make_folder(folder: Path) -> None:
    """Make a folder with those above it. Raises StorageError where that cannot be, with what stands in its way."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as reason:
        file = next((one for one in (folder, *folder.parents) if os.path.lexists(one)), folder)
        raise StorageError(
            f"the folder {folder} cannot be made: {file} is a file", hint="name another folder, or rename that file"
        ) from reason


def regular_file(path: Path | str, error: type[TwoViewError] = FormatError) -> Path:
    """The path, if a regular file is there. Raises `error` for anything else, without opening it."""
    regular_size(path, error)
    return Path(path)


def regular_size(path: Path | str, error: type[TwoViewError] = FormatError) -> int:
    """Bytes of the regular file that is there. Raises as `regular_file` does."""
    try:
        found = os.stat(path)
    except FileNotFoundError as reason:
        raise error(f"no such file: {path}", hint="check the path; names with spaces need quotes") from reason
    except (OSError, ValueError) as reason:  # a circle of links, no permission; a zero in the name
        raise error(
            f"cannot read {path}: {getattr(reason, 'strerror', '') or reason}",
            hint="check the path and its permissions",
        ) from reason
    if not stat.S_ISREG(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "something else")
        raise error(f"{path} is {kind}; expected a file", hint="give the path of a file")
    return found.st_size


def read_text(path: Path | str, *, most: int = MOST_TEXT, error: type[TwoViewError] = FormatError) -> str:
    """A text file in UTF-8. Raises `error` for what is no file, for over `most` bytes, and for another encoding."""
    size = regular_size(path, error)
    try:
        data = b""
        if size <= most:
            with open(path, "rb", buffering=0) as file:
                data = file.readall()
    except OSError as reason:
        raise error(f"cannot read {path}: {reason.strerror}", hint="check the path and its permissions") from reason
    if size > most:
        raise error(f"{path} has {size / 2**20:.0f} MiB; the most read is {most / 2**20:.0f}")
    try:
        return decoded(data)
    except ValueError as reason:
        raise error(f"{path} is {reason}", hint=SAVE_AS) from reason
