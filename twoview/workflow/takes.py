"""Takes of a session removed and renamed, with everything that was made of them; videos are never touched."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from shlex import quote

from twoview.detection.writers import SUFFIXES
from twoview.errors import FormatError, SessionError, StorageError
from twoview.storage import records
from twoview.storage.names import check_name
from twoview.storage.session import Session, open_session, split_old_file
from twoview.timeline import Sync


def remove(session: Session, take: str, *, view: str | None = None) -> Session:
    """The session without a take, or without one view of it, and without what was made of it; videos stay.

    The clocks of the other views stay known, unless the view was their reference. Raises SessionError for an unknown
    take or view, and for a view without which the take would have a single one.
    """
    with session.lock(take):
        session = _split(session)
        if take not in session.takes:
            session.take(take)
        if view is None:
            _remove_folder(session, session.take_folder(take))
        else:
            _remove_view(session, take, view)
    return open_session(session.folder, create=True)


def rename(session: Session, old: str, new: str) -> Session:
    """The session with a take under another name. Raises SessionError for an unknown take and a name that is taken.

    A run that was stopped before knows its takes by their names and cannot be continued.
    """
    new = check_name(new, "take")
    first, second = sorted((old, new))
    with session.lock(first), session.lock(second):
        session = _split(session)
        if old not in session.takes:
            session.take(old)
        source, target = session.take_folder(old), session.take_folder(new)
        if target.exists() and not target.samefile(source):
            raise SessionError(f"{session.folder} has a take {new!r} already", hint=f"twoview remove {quote(new)}")
        with _writing(target):
            source.rename(target)
    return open_session(session.folder)


def _split(session: Session) -> Session:
    split_old_file(session.folder)
    return open_session(session.folder)


def _remove_view(session: Session, take: str, view: str) -> None:
    files = session.take(take)
    if view not in files:
        raise SessionError(f"take {take!r} has no view {view!r}; it has {', '.join(files)}", hint="twoview show")
    left = {name: file for name, file in files.items() if name != view}
    if len(left) < 2:
        raise SessionError(
            f"take {take!r} would have one view, {', '.join(left)}: clocks relate two or more",
            hint=f"twoview remove {quote(take)}",
        )
    session.replace_take(take, left)
    path, own = session.sync_path(take), session.detection_path(take, view)
    with _writing(session.take_folder(take)):
        for picture in (path.with_suffix(".png"), path.with_suffix(".mp4")):
            records.remove(picture)
        kept = _without(path, view)
        if kept is None:
            records.remove(path)
        else:
            sync, head = kept
            records.save(path, sync, inputs=head["inputs"], settings=head["settings"])
        tools = [own.with_name(f"{view}_{tool}{suffix}") for tool, suffix in SUFFIXES.items()]
        beside = (own.with_suffix(suffix) for suffix in (".people.npz", ".people.png", ".formats.json"))
        for file in (own, *beside, *tools):
            records.remove(file)
        shutil.rmtree(own.with_name(f"{view}_openpose"), ignore_errors=True)
        shutil.rmtree(session.take_folder(take) / "triangulated", ignore_errors=True)  # of all views together


def _without(path: Path, view: str) -> tuple[Sync, records.Header] | None:
    """A take's sync and its header without a view; None where the view is the reference, or there is no sync."""
    with suppress(FormatError):
        sync, head = records.load_as(path, Sync), records.read_header(path)
        if view != sync.reference:
            clocks = {name: clock for name, clock in sync.clocks.items() if name != view}
            quality = {name: known for name, known in sync.quality.items() if name != view}
            inputs = {name: fingerprint for name, fingerprint in head["inputs"].items() if name != view}
            return replace(sync, clocks=clocks, quality=quality), {**head, "inputs": inputs}
    return None


def _remove_folder(session: Session, folder: Path) -> None:
    """Remove a take's folder: gone at once, whatever stops the removal of its files."""
    gone = session.folder / f".removed-{os.getpid()}-{folder.name}"
    with _writing(folder):
        folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)
    with suppress(OSError):
        folder.parent.rmdir()  # of the last take


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"cannot change {path}: {error.strerror or error}", hint="close programs that show its files, and try again"
        ) from error
