"""The session folder: its takes, the views of each take, the file of every stage, and what is still missing.

A take is one event filmed by all phones; a view name means the same phone in every take. Every take has a file of its
own, `takes/<take>/take.json`, so that commands that work on different takes at once never write the same file.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from twoview.errors import FormatError, SessionError
from twoview.storage import records
from twoview.storage.locks import locked
from twoview.storage.names import DEFAULT_FOLDER, check_name, natural, nearest, stays_inside
from twoview.storage.regular import real_path

TALLEST_M = 3.0


@dataclass(frozen=True)
class ViewFile:
    """One phone's video of one take.

    path  of the video; kept relative to the session folder and absolute
    size  (width, height) of the upright picture in pixels; rate is the nominal frames per second, as "30000/1001"
    phone maker and model of the phone; "" where the file does not say
    focal_mm  focal length, 35 mm equivalent, that the phone wrote; 0 where the file does not say
    """

    path: Path
    size: tuple[int, int]
    rate: str
    fingerprint: str
    phone: str = ""
    focal_mm: float = 0.0


@dataclass(frozen=True)
class Athlete:
    """Whom a take shows: a name ("" where none is known), and the standing height in m (0 where it is not known)."""

    name: str = ""
    height_m: float = 0.0


@dataclass(frozen=True)
class TakeStatus:
    """How far a take is: its views, those whose video is gone, whether their clocks are known, and views detected."""

    views: tuple[str, ...]
    missing: tuple[str, ...]
    synchronized: bool
    detected: tuple[str, ...]


@dataclass(frozen=True)
class Session:
    """A session folder as it stands. Its takes are read when they are asked for; `with_take` changes nothing on disk.

    takes  take -> view name -> video; a take whose file is damaged raises FormatError when it is asked for
    """

    folder: Path
    takes: Mapping[str, Mapping[str, ViewFile]] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Session({str(self.folder)!r}, {len(self.takes)} takes)"

    # --- what is in it -------------------------------------------------------------------------------------------

    @property
    def views(self) -> tuple[str, ...]:
        """Every view name that occurs in any take that can be read, in order of first appearance."""
        return tuple(_view_counts(self.takes))

    def views_of_others(self, take: str) -> tuple[str, ...]:
        """Every view name that occurs in a take other than this one."""
        counts = self.takes.view_counts if isinstance(self.takes, _Takes) else _view_counts(self.takes)
        own = self.take(take)
        return tuple(view for view, count in counts.items() if count > (view in own))

    def take(self, name: str) -> Mapping[str, ViewFile]:
        """View name -> video of one take. Raises SessionError with the known takes, FormatError for a damaged file."""
        if name not in self.takes:
            raise SessionError(
                f"no take {name!r} in {self.folder}; it has {nearest(name, self.takes)}", hint="twoview show"
            )
        return self.takes[name]

    def views_of(self, fingerprint: str) -> Sequence[tuple[str, str]]:
        """Take and view of every video with that content, of the takes that can be read."""
        known = self.takes.by_content if isinstance(self.takes, _Takes) else _by_content(self.takes)
        return known.get(fingerprint, ())

    def athlete(self, name: str) -> Athlete:
        """Whom a take shows. Raises as `take` does."""
        self.take(name)
        return self.takes.athlete(name) if isinstance(self.takes, _Takes) else Athlete()

    def athletes(self) -> dict[str, list[str]]:
        """Athlete's name -> names of the takes that can be read; "" for those of nobody who is named."""
        found: dict[str, list[str]] = {}
        for name in self.takes:
            with suppress(FormatError):
                found.setdefault(self.athlete(name).name, []).append(name)
        return found

    def choose_takes(
        self, takes: Sequence[str] | None = None, without: Sequence[str] = (), athlete: str | None = None
    ) -> list[str]:
        """Names of these takes (default: all) but those `without`, of one athlete alone where one is named.

        Raises SessionError for a name that is no take's or no athlete's.
        """
        for name in (*(takes or ()), *without):
            if name not in self.takes:
                self.take(name)
        wanted, left_out = set(self.takes if takes is None else takes), set(without)
        if athlete is not None:
            known = self.athletes()
            if athlete not in known:
                raise SessionError(
                    f"no take of {self.folder} shows {athlete!r}; it has {nearest(athlete, filter(None, known))}",
                    hint="twoview show",
                )
            wanted &= set(known[athlete])
        chosen = [name for name in self.takes if name in wanted and name not in left_out]
        if not chosen:
            raise SessionError(f"no take of {self.folder} is left", hint="twoview show")
        return chosen

    def check_views(self, wanted: Sequence[str] | None) -> tuple[str, ...]:
        """The view names asked for, or all. Raises SessionError for a name that no take has."""
        if wanted is None:
            return self.views
        known = self.views
        unknown = [view for view in wanted if view not in known]
        if unknown:
            raise SessionError(
                f"no view {unknown[0]!r} in {self.folder}; it has {nearest(unknown[0], known)}",
                hint=f"twoview sync VIDEO VIDEO --views {','.join(wanted)}",
            )
        return tuple(wanted)

    # --- where things are ----------------------------------------------------------------------------------------

    def take_folder(self, take: str) -> Path:
        """Everything that is known about a take."""
        return self.folder.joinpath("takes", take)

    def take_path(self, take: str) -> Path:
        """The views of a take and their videos."""
        return self.folder.joinpath("takes", take, "take.json")

    def sync_path(self, take: str) -> Path:
        """Sync of a take's views."""
        return self.folder.joinpath("takes", take, "sync.json")

    def detection_path(self, take: str, view: str) -> Path:
        """Poses2D of one view, in the detector's skeleton."""
        return self.folder.joinpath("takes", take, "detections", f"{view}.npz")

    def run_folder(self, name: str) -> Path:
        """One fine-tuning run: config, log, state, report. Raises SessionError for what is no name."""
        path = self.folder / "runs" / name
        known = stays_inside(name) and path.is_dir()  # older versions allowed more names
        if known:
            _refuse_links(path)
        return path if known else self.folder / "runs" / check_name(name, "run")

    @property
    def model_path(self) -> Path:
        """The model that `infer` uses by default."""
        return self.folder / "model.pt"

    @property
    def results(self) -> Path:
        """Poses3D and pictures of inferred clips."""
        return self.folder / "results"

    # --- changing it ---------------------------------------------------------------------------------------------

    def lock(self, take: str, *, wait: bool = True) -> AbstractContextManager[None]:
        """Work on a take alone, see `locks.locked`."""
        return locked(self.folder / ".locks" / f"take-{take}", f"take {take!r}", wait=wait)

    def lock_videos(self, videos: Mapping[str, ViewFile]) -> AbstractContextManager[None]:
        """Look alone for the take that holds these videos."""
        content = sorted(video.fingerprint for video in videos.values())
        name = hashlib.sha256(" ".join(content).encode()).hexdigest()[:24]
        return locked(self.folder / ".locks" / f"videos-{name}", f"the same videos, {', '.join(videos)}")

    def with_take(self, name: str, videos: Mapping[str, ViewFile], athlete: Athlete | None = None) -> Session:
        """The session with one more take, or with these videos in the take of that name; not written to disk.

        athlete  whom it shows; default: as before

        Raises SessionError for what is no name.
        """
        known = self.takes.get(name, {})
        athlete = athlete or (self.athlete(name) if known else Athlete())
        name = name if known else check_name(name, "take")
        checked = {view if view in known else check_name(view, "view"): video for view, video in videos.items()}
        return Session(self.folder, _Takes({**_loaders(self.takes), name: _Read({**known, **checked}, athlete)}))

    def alone(self, name: str) -> Session:
        """The session as if it had this take alone: all that a worker on it has to know."""
        return Session(self.folder, _Takes({name: _Read(self.take(name), self.athlete(name))}))

    def add_take(self, name: str, videos: Mapping[str, ViewFile], athlete: Athlete | None = None) -> Session:
        """The same, written to disk."""
        with self.lock(name):
            added = open_session(self.folder, create=True).with_take(name, videos, athlete)
            added.keep_take(name)
        return added

    def add_takes(self, takes: Mapping[str, tuple[Mapping[str, ViewFile], Athlete]]) -> Session:
        """The same for thousands of takes, each with whom it shows: only their own files are read and written."""
        split_old_file(self.folder)
        for name, (videos, athlete) in takes.items():
            with self.lock(name):
                path = self.take_path(name)
                known = (
                    {name: os.path.join(real_path(self.folder), "takes", name, "take.json")} if path.exists() else {}
                )
                Session(self.folder, _Takes(known)).with_take(name, videos, athlete).keep_take(name)
        return open_session(self.folder)

    def keep_take(self, name: str) -> None:
        """Write the file of a take, unless the file says the same. The take must be locked."""
        split_old_file(self.folder)
        self.replace_take(name, self.take(name))

    def replace_take(self, name: str, videos: Mapping[str, ViewFile]) -> None:
        """Write the file of a take with these views alone. The take must be locked."""
        path, content = self.take_path(name), _take_to_json(self.folder, videos, self.athlete(name))
        with suppress(FormatError):
            if records.read_json(path) == content:
                return
        records.write_json(path, content)

    def status(self, take: str) -> TakeStatus:
        """Which files of a take there are."""
        videos, exists = self.take(take), os.path.exists
        return TakeStatus(
            tuple(videos),
            missing=tuple(view for view, video in videos.items() if not exists(video.path)),
            synchronized=exists(self.sync_path(take)),
            detected=tuple(view for view in videos if exists(self.detection_path(take, view))),
        )


def open_session(folder: Path | str = DEFAULT_FOLDER, *, create: bool = False) -> Session:
    """The session in a folder. Raises SessionError if there is none, unless `create`; FormatError for a damaged one."""
    folder = Path(folder)
    for inside in (folder, folder / "takes", folder / "runs"):
        _refuse_links(inside)
    old = _read_old_file(folder)
    names = _listed(folder)
    others = (folder / name for name in ("model.pt", "runs"))  # of takes that were removed, or never came along
    if old is None and not names and not create and not any(path.exists() for path in others):
        raise SessionError(f"no session in {folder}", hint="start one with `twoview sync a.mp4 b.mp4`")
    real = real_path(folder)
    own = {name: os.path.join(real, "takes", name, "take.json") for name in names}
    earlier = {name: _Read(views) for name, views in (old or {}).items()}
    return Session(folder, _Takes({**earlier, **own}))


def is_height(value: object) -> bool:
    """Whether this is the height of an athlete in m, or 0, which stands for none that is known."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= TALLEST_M


# --- takes on disk -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Read:
    """What the file of a take says."""

    views: Mapping[str, ViewFile]
    athlete: Athlete = Athlete()


class _Takes(Mapping[str, Mapping[str, ViewFile]]):
    """Takes by name, in natural order; the file of a take, at a path as text, is read when the take is asked for."""

    def __init__(self, takes: Mapping[str, str | _Read]) -> None:
        self.loaders = {name: takes[name] for name in sorted(takes, key=natural)}

    def __getitem__(self, name: str) -> Mapping[str, ViewFile]:
        return self._read(name).views

    def athlete(self, name: str) -> Athlete:
        """Whom a take shows."""
        return self._read(name).athlete

    @cached_property
    def by_content(self) -> Mapping[str, Sequence[tuple[str, str]]]:
        """`_by_content`, found once for thousands of videos."""
        return _by_content(self)

    @cached_property
    def view_counts(self) -> Mapping[str, int]:
        """`_view_counts`, found once for thousands of takes."""
        return _view_counts(self)

    def _read(self, name: str) -> _Read:
        found = self.loaders[name]
        if isinstance(found, str):
            found = self.loaders[name] = _read_take(found)
        return found

    def __contains__(self, name: object) -> bool:
        return name in self.loaders

    def __iter__(self) -> Iterator[str]:
        return iter(self.loaders)

    def __len__(self) -> int:
        return len(self.loaders)


def _by_content(takes: Mapping[str, Mapping[str, ViewFile]]) -> dict[str, list[tuple[str, str]]]:
    """Fingerprint of a video -> take and view that it is, of the takes that can be read."""
    found: dict[str, list[tuple[str, str]]] = {}
    for name in takes:
        with suppress(FormatError):
            for view, file in takes[name].items():
                found.setdefault(file.fingerprint, []).append((name, view))
    return found


def _view_counts(takes: Mapping[str, Mapping[str, ViewFile]]) -> dict[str, int]:
    """View name, in order of first appearance -> of how many takes that can be read it is a view."""
    found: dict[str, int] = {}
    for name in takes:
        with suppress(FormatError):
            for view in takes[name]:
                found[view] = found.get(view, 0) + 1
    return found


def _loaders(takes: Mapping[str, Mapping[str, ViewFile]]) -> Mapping[str, str | _Read]:
    return takes.loaders if isinstance(takes, _Takes) else {name: _Read(views) for name, views in takes.items()}


def _refuse_links(folder: Path | str) -> None:
    """Raise SessionError for a link to a folder: in a session from a stranger, what is written would go anywhere."""
    with suppress(OSError), os.scandir(folder) as entries:  # what cannot be read is refused where it is needed
        for entry in entries:
            if entry.is_symlink() and os.path.isdir(entry.path):  # a link to itself is none
                raise SessionError(
                    f"{entry.path} is a link to another folder, and a session keeps its files inside",
                    hint="put the folder itself there; a link to the whole session works",
                )


def _listed(folder: Path) -> list[str]:
    """Names of the takes that have a file of their own."""
    try:
        with os.scandir(folder / "takes") as entries:
            return [entry.name for entry in entries if os.path.lexists(os.path.join(entry.path, "take.json"))]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise SessionError(f"cannot read {folder / 'takes'}: {error.strerror}", hint="check its permissions") from error


def _read_take(path: str) -> _Read:
    """The views of a take, and whom it shows. Raises FormatError for a damaged file."""
    own = os.path.dirname(path)
    _refuse_links(own)
    content = records.read_json(path)
    hint = f"delete it, and run `twoview sync` with the videos of this take and --take {os.path.basename(own)!r}"
    if content["format"] != "take":
        raise FormatError(f"{path} is a {content['format']!r} file, not a take", hint=hint)
    views = _views(path, os.path.dirname(os.path.dirname(own)), content.get("views"), hint)
    name, height = content.get("athlete", ""), content.get("height_m", 0.0)
    if not (isinstance(name, str) and (not name or stays_inside(name)) and is_height(height)):
        raise FormatError(f"{path} is damaged: athlete {name!r}, {height!r} m", hint=hint)
    return _Read(views, Athlete(name, float(height)))


def _views(path: Path | str, folder: Path | str, rows: Any, hint: str) -> dict[str, ViewFile]:
    """The views in a take's rows, which the file at `path` holds for the session in `folder`."""
    try:
        outside = [view for view in rows if not stays_inside(view)]
        found = {} if outside else {view: _video(folder, row) for view, row in rows.items()}
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{path} is damaged: {type(error).__name__} {error}", hint=hint) from error
    if outside:
        raise FormatError(f"{path} names a view {outside[0]!r}, which is no name", hint=hint)
    return found


def _video(folder: Path | str, row: Mapping[str, Any]) -> ViewFile:
    width, height = (int(value) for value in row["size"])
    fingerprint, rate = row["fingerprint"], row["rate"]
    phone = row.get("phone", "")
    if not all(isinstance(text, str) for text in (fingerprint, rate, phone)):
        raise TypeError("fingerprint, rate and phone are text")
    focal = float(row.get("focal_mm", 0.0))
    if not 0 <= focal < math.inf:
        raise ValueError(f"focal_mm is {focal}")
    return ViewFile(_located(folder, row, fingerprint), (width, height), rate, fingerprint, phone, focal)


def _located(folder: Path | str, row: Mapping[str, Any], fingerprint: str) -> Path:
    """Where a video is: relative to the session, where it was, or beside or in the session; the first of its size."""
    root, relative, absolute = str(folder), row.get("path"), row.get("absolute")
    if relative is None and absolute is None:
        raise KeyError("path")
    size, existing, first = fingerprint.partition("-")[0], list[str](), ""
    for place in _places(root, relative, absolute):
        first = first or place
        with suppress(OSError):
            if str(os.stat(place).st_size) == size:
                return Path(place)
            existing.append(place)
    return Path((existing or [first])[0])


def _places(root: str, relative: str | None, absolute: str | None) -> Iterator[str]:
    """Places of a video, the likeliest first."""
    first = os.path.normpath(os.path.join(root, relative)) if relative is not None else ""
    if first:
        yield first
    last = os.path.normpath(absolute) if absolute is not None else first
    if last != first:
        yield last
    name = re.split(r"[/\\]", first or last)[-1]
    yield os.path.join(os.path.dirname(root), name)
    yield os.path.join(root, name)


def _take_to_json(folder: Path, videos: Mapping[str, ViewFile], athlete: Athlete) -> dict[str, Any]:
    who: dict[str, Any] = {"athlete": athlete.name} if athlete.name else {}
    who |= {"height_m": athlete.height_m} if athlete.height_m else {}
    return {**records.header("take"), **who, "views": {view: _row(folder, video) for view, video in videos.items()}}


def _row(folder: Path, video: ViewFile) -> dict[str, Any]:
    path = Path(os.path.abspath(video.path))
    row: dict[str, Any] = {
        "absolute": str(path),
        "size": list(video.size),
        "rate": video.rate,
        "fingerprint": video.fingerprint,
    }
    row |= {"phone": video.phone} if video.phone else {}
    row |= {"focal_mm": video.focal_mm} if video.focal_mm else {}
    with suppress(ValueError):  # on another drive than the session there is no relative path
        row["path"] = Path(os.path.relpath(path, real_path(folder))).as_posix()
    return row


# --- sessions of older versions ------------------------------------------------------------------------------------


def _read_old_file(folder: Path) -> dict[str, Mapping[str, ViewFile]] | None:
    """The takes in the session.json of an older version, which held all of them; None where there is no such file."""
    path = folder / "session.json"
    if not os.path.lexists(path):
        return None
    hint = "put the file back, or start another session with --session"
    content = records.read_json(path)
    if content["format"] != "session":
        raise SessionError(f"{path} is a {content['format']!r} file, not a session")
    takes = content.get("takes")
    if not isinstance(takes, Mapping):
        raise FormatError(f"{path} is damaged: it names no takes", hint=hint)
    outside = [take for take in takes if not stays_inside(take)]
    if outside:
        raise FormatError(f"{path} names a take {outside[0]!r}, which is no name", hint=hint)
    return {take: _views(path, real_path(folder), rows, hint) for take, rows in takes.items()}


def split_old_file(folder: Path) -> None:
    """Give every take in the session.json of an older version a file of its own, and remove session.json."""
    path = folder / "session.json"
    if not path.exists():
        return
    with locked(folder / ".locks" / "session", "the file of an older version"):
        for take, videos in (_read_old_file(folder) or {}).items():
            own = folder / "takes" / take / "take.json"
            if not own.exists():
                records.write_json(own, _take_to_json(folder, videos, Athlete()))
        path.unlink(missing_ok=True)
