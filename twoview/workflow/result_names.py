"""Where the results of a video go: under its name, which no other video's results get."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from twoview.errors import FormatError, StorageError
from twoview.storage import records
from twoview.storage.locks import locked
from twoview.storage.names import name_from
from twoview.storage.regular import real_path
from twoview.storage.session import Session


def beside(out: Path, suffix: str) -> Path:
    """A file of the results whose path without suffix is `out`."""
    return out.with_name(out.name + suffix)


@contextmanager
def result_of(session: Session, source: Path) -> Iterator[Path]:
    """Where a session's results of a file go (no suffix), see `result_in`."""
    with result_in(session.results, source, lock=session.folder / ".locks" / "results") as out:
        yield out


@contextmanager
def result_in(folder: Path, source: Path, *, lock: Path | None = None) -> Iterator[Path]:
    """Where in a folder the results of a file go (no suffix): its stem, with its folders' names before it if taken.

    The name is the file's from then on, by its content, as `<name>.result.json` says; if the block fails before
    anything is made under the name, it is free again.
    """
    fingerprint, stem = records.fingerprint(source), source.stem
    folders = real_path(source).parent.parts[1:]
    names = ["_".join([*folders[len(folders) - depth :], stem]) for depth in range(len(folders) + 1)]
    names.append(f"{stem[:100]}_{fingerprint.partition('-')[2]}")
    with locked(lock or folder / ".results.lock", "the names of the results"):
        owners = {name: owner(folder / name) for name in map(name_from, names)}
        name = next(name for name, owner in owners.items() if owner in ("", fingerprint))
        out = folder / name
        claim = beside(out, ".result.json")
        if not claim.exists():
            content = {**records.header("result", inputs={"clip": fingerprint}), "file": source.name}
            with suppress(StorageError):  # from a folder that cannot be written results can still be loaded
                records.write_json(claim, content)
    try:
        yield out
    except BaseException:
        if all(path == claim for path in folder.glob(f"{glob.escape(name)}.*")):
            with suppress(StorageError, OSError):
                records.remove(claim)
                folder.rmdir()
        raise


def owner(out: Path) -> str:
    """The fingerprint of the file whose results have this name; "" for a name that is free."""
    kept = ((beside(out, ".result.json"), "clip"), (beside(out, ".2d.npz"), "video"), (beside(out, ".npz"), "clip"))
    for path, what in kept:
        with suppress(FormatError, AttributeError, KeyError, TypeError):
            if path.exists():
                return str(records.read_header(path)["inputs"][what])
    return ""
