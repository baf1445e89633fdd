"""A sheet of takes: a table that says which file is which view of which take, and whom it shows; for thousands of them.

Every row is checked before anything is written: a sheet is registered as a whole or not at all.
"""

from __future__ import annotations

import csv
import difflib
import glob
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from twoview.errors import FormatError, SessionError, StorageError, VideoError
from twoview.progress import OnProgress, Progress, report
from twoview.storage import records
from twoview.storage.names import check_name
from twoview.storage.regular import read_text, real_path, regular_file
from twoview.storage.session import TALLEST_M, Athlete, Session, ViewFile, is_height, open_session
from twoview.workflow.synchronization import SyncOptions

NEEDED = ("take", "view", "file")
COLUMNS = (*NEEDED, "athlete", "height", "timestamps", "distance")
FORMS = f"columns {', '.join(NEEDED)}, and if known {', '.join(COLUMNS[len(NEEDED) :])}; one row for each video"
_SEPARATORS = ";\t,"
_MOST = 1 << 28  # bytes of a sheet
_NAMED = 5  # mistakes in a message


@dataclass(frozen=True)
class SheetRow:
    """One view of a take. row is its line in the sheet; height_m and distance_m are 0 where the sheet has none."""

    row: int
    take: str
    view: str
    file: Path
    athlete: str = ""
    height_m: float = 0.0
    timestamps: Path | None = None
    distance_m: float = 0.0


@dataclass(frozen=True)
class SheetTake:
    """A take of a sheet: its rows, by view, and whom it shows, if the sheet says so."""

    rows: Mapping[str, SheetRow]
    athlete: Athlete = field(default_factory=Athlete)

    @property
    def options(self) -> SyncOptions:
        """What the sheet knows about the clocks of the take."""
        times = [row.timestamps for row in self.rows.values() if row.timestamps is not None]
        distance = {view: row.distance_m for view, row in self.rows.items() if row.distance_m}
        return SyncOptions(timestamps=tuple(dict.fromkeys(times)), distance=distance)


class _Mistakes:
    """What is wrong with the rows of a sheet, all of it said at once."""

    def __init__(self, path: Path) -> None:
        self.path, self.found = path, list[tuple[int, str]]()

    def add(self, row: int, text: str) -> None:
        """Row 0 is the sheet as a whole."""
        self.found.append((row, text))

    def check(self) -> None:
        """Raise SessionError if there are any."""
        if not self.found:
            return
        lines = [
            f"{self.path}, row {row}: {text}" if row else f"{self.path}: {text}" for row, text in sorted(self.found)
        ]
        more = [f"{len(lines) - _NAMED} more"] if len(lines) > _NAMED else []
        raise SessionError(
            "\nand: ".join([*lines[:_NAMED], *more]), hint=f"nothing was registered. A sheet has {FORMS}"
        )


def read_sheet(path: Path | str) -> dict[str, SheetTake]:
    """Take -> what a sheet says of it. Raises SessionError with the row of every mistake.

    A table in UTF-8 whose cells are separated by commas, semicolons or tabs, with headings in any order and case. Paths
    are relative to the sheet; a pattern such as `*/serve1_a.mp4` has to match one file.
    """
    path = Path(path)
    mistakes, rows = _Mistakes(path), list[SheetRow]()
    folder = real_path(path).parent
    for number, cells in _table(path, mistakes):
        row = _row(number, cells, folder, mistakes)
        if row is not None:
            rows.append(row)
    mistakes.check()
    takes: dict[str, dict[str, SheetRow]] = {}
    files: dict[Path, SheetRow] = {}
    for row in rows:
        own = takes.setdefault(row.take, {})
        if row.view in own:
            mistakes.add(row.row, f"view {row.view} of take {row.take} is in row {own[row.view].row}, too")
        elif row.file in files:
            mistakes.add(row.row, f"{row.file} is in row {files[row.file].row}, too")
        own.setdefault(row.view, row)
        files.setdefault(row.file, row)
    athletes = _athletes(takes, mistakes)
    for take, own in takes.items():
        times = [row.timestamps for row in own.values()]
        if any(times) and not all(times):
            row = next(row for row in own.values() if row.timestamps is None)
            mistakes.add(row.row, f"no timestamps, and other views of take {take} have them")
    mistakes.check()
    return {take: SheetTake(own, athletes[take]) for take, own in takes.items()}


def _table(path: Path, mistakes: _Mistakes) -> Iterator[tuple[int, dict[str, str]]]:
    """Line and cells, by column, of every row that is not empty."""
    text = read_text(path, most=_MOST, error=SessionError)
    first = next((line for line in text.splitlines() if line.strip()), "")
    mark = max(_SEPARATORS, key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark, skipinitialspace=True)
    columns: list[str] = []
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if not columns:
                columns = _columns(cells, mistakes)
                mistakes.check()
                continue
            if len(cells) > len(columns) and any(cell.strip() for cell in cells[len(columns) :]):
                mistakes.add(reader.line_num, f"{len(cells)} cells, and there are {len(columns)} columns")
                continue
            found = {name: cell.strip() for name, cell in zip(columns, cells, strict=False) if name}
            for name in ("height", "distance"):
                if mark != ",":
                    found[name] = found.get(name, "").replace(",", ".")
            yield reader.line_num, found
    except csv.Error as error:
        mistakes.add(reader.line_num, str(error))
    if not columns:
        mistakes.add(0, "it is empty")


def _columns(cells: Sequence[str], mistakes: _Mistakes) -> list[str]:
    """The name of every column; "" for one that is not read."""
    names = [cell.strip().casefold().removesuffix("(m)").removesuffix("_m").strip() for cell in cells]
    for name in NEEDED:
        if name not in names:
            mistakes.add(0, f"it has no column {name}; its columns are {', '.join(filter(None, names)) or 'none'}")
    for name in COLUMNS:
        if names.count(name) > 1:
            mistakes.add(0, f"it has {names.count(name)} columns {name}")
    for name in names:
        near = difflib.get_close_matches(name, COLUMNS, n=1, cutoff=0.7)
        if name not in COLUMNS and near and near[0] not in names:
            mistakes.add(0, f"column {name!r}: is {near[0]} meant?")
    return [name if name in COLUMNS else "" for name in names]


def _row(number: int, cells: Mapping[str, str], folder: Path, mistakes: _Mistakes) -> SheetRow | None:
    """A row whose files are there; None where something is wrong with it."""
    before = len(mistakes.found)
    for name in NEEDED:
        if not cells.get(name):
            mistakes.add(number, f"no {name}")
    for name in ("take", "view", "athlete"):
        try:
            check_name(cells[name], name) if cells.get(name) else None
        except SessionError as error:
            mistakes.add(number, error.message)
    files = {name: _file(folder, cells[name], number, mistakes) for name in ("file", "timestamps") if cells.get(name)}
    meters = {name: _meters(name, cells.get(name, ""), number, mistakes) for name in ("height", "distance")}
    if len(mistakes.found) > before:
        return None
    file = files["file"]
    assert file is not None
    return SheetRow(
        number, check_name(cells["take"], "take"), check_name(cells["view"], "view"), file,
        check_name(cells["athlete"], "athlete") if cells.get("athlete") else "",
        meters["height"], files.get("timestamps"), meters["distance"],
    )  # fmt: skip


def _file(folder: Path, text: str, number: int, mistakes: _Mistakes) -> Path | None:
    """The one file that a cell names, by its path from the sheet or by a pattern."""
    named = os.path.normpath(os.path.join(folder, os.path.expanduser(text)))
    if glob.has_magic(named) and not os.path.lexists(named):
        found = sorted(path for path in glob.iglob(named, recursive=True) if not os.path.isdir(path))
        if len(found) != 1:
            few = ", ".join(os.path.relpath(path, folder) for path in found[:3]) + (", ..." if len(found) > 3 else "")
            matches = f"{len(found)} files, {few}: one is needed" if found else "no file"
            mistakes.add(number, f"{text!r} matches {matches}")
            return None
        named = found[0]
    try:
        return real_path(regular_file(named, SessionError))
    except SessionError as error:
        mistakes.add(number, error.message)
        return None


def _meters(name: str, text: str, number: int, mistakes: _Mistakes) -> float:
    """A number of meters; 0 for an empty cell."""
    if not text:
        return 0.0
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf") or (name == "height" and not is_height(value)):
        also = f", up to {TALLEST_M:g}" if name == "height" else ""
        mistakes.add(number, f"{name} {text!r} is no number of meters{also}")
        return 0.0
    return value


def _athletes(takes: Mapping[str, Mapping[str, SheetRow]], mistakes: _Mistakes) -> dict[str, Athlete]:
    """Take -> whom it shows. A height in one row of an athlete counts in all of them; two heights are a mistake."""
    names: dict[str, SheetRow] = {}
    heights: dict[str, SheetRow] = {}
    for take, rows in takes.items():
        for row in rows.values():
            if row.athlete:
                known = names.setdefault(take, row)
                if known.athlete != row.athlete:
                    mistakes.add(row.row, f"take {take} shows {row.athlete}, and in row {known.row} {known.athlete}")
    for take, rows in takes.items():
        whose = f"athlete {names[take].athlete}" if take in names else f"take {take}"
        for row in rows.values():
            if row.height_m:
                known = heights.setdefault(whose, row)
                if known.height_m != row.height_m:
                    mistakes.add(
                        row.row, f"{whose} is {row.height_m:g} m tall, and in row {known.row} {known.height_m:g} m"
                    )
    found = {}
    for take in takes:
        name = names[take].athlete if take in names else ""
        tall = heights.get(f"athlete {name}" if name else f"take {take}")
        found[take] = Athlete(name, tall.height_m if tall else 0.0)
    return found


def register(
    folder: Path | str, path: Path | str, *, on_progress: OnProgress | None = None
) -> tuple[Session, dict[str, SheetTake]]:
    """The session (made if need be) with all takes of a sheet in it, and the takes.

    A video that a take has already, at the same place and of the same size, is not looked at again. Raises SessionError
    with the row of every mistake, before anything is written.
    """
    takes, session = read_sheet(path), open_session(folder, create=True)
    mistakes = _Mistakes(Path(path))
    athletes = _with_known_heights(session, takes, mistakes)
    videos: dict[str, dict[str, ViewFile]] = {}
    rows, done = sum(len(take.rows) for take in takes.values()), 0
    for name, take in takes.items():
        known = session.takes.get(name, {})
        if len({*known, *take.rows}) < 2:
            (row,) = take.rows.values()
            mistakes.add(row.row, f"take {name} has one view, {row.view}; clocks relate two or more")
        for view, row in take.rows.items():
            file = known.get(view)
            if file is None or not _is_same(file, row.file):
                try:
                    videos.setdefault(name, {})[view] = _probed(row.file)
                except (VideoError, StorageError) as error:
                    mistakes.add(row.row, error.message)
            done += 1
            report(on_progress, Progress("look at videos", done, rows, "videos"))
    mistakes.check()
    changed = {
        name: (videos.get(name, {}), athletes[name])
        for name in takes
        if name in videos or name not in session.takes or session.athlete(name) != athletes[name]
    }
    return (session.add_takes(changed) if changed else session), takes


def _with_known_heights(session: Session, takes: Mapping[str, SheetTake], mistakes: _Mistakes) -> dict[str, Athlete]:
    """Take -> whom it shows: as the sheet says, and what it leaves open as the session's takes do."""
    known: dict[str, tuple[float, str]] = {}  # by athlete; a take that the sheet does not have counts first
    for name in sorted(session.takes, key=lambda name: name in takes):
        with suppress(FormatError):  # a damaged take says nothing
            other = session.athlete(name)
            if other.name and other.height_m:
                known.setdefault(other.name, (other.height_m, name))
    found = {}
    for name, take in takes.items():
        earlier = session.athlete(name) if name in session.takes else Athlete()
        own = replace(take.athlete, name=take.athlete.name or earlier.name)
        height, of = known.get(own.name, (0.0 if own.name else earlier.height_m, name))
        if own.height_m and height and own.height_m != height and of not in takes:
            row = next(iter(take.rows.values()))
            mistakes.add(row.row, f"athlete {own.name} is {own.height_m:g} m tall, and {height:g} m in take {of}")
        found[name] = replace(own, height_m=own.height_m or height)
    return found


def _is_same(known: ViewFile, file: Path) -> bool:
    return known.path == file and known.fingerprint.partition("-")[0] == str(file.stat().st_size)


def _probed(file: Path) -> ViewFile:
    from twoview.media.video import probe

    info = probe(file)
    return ViewFile(file, info.size, str(info.rate), records.fingerprint(file), info.phone, info.focal_mm)
