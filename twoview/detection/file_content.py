"""What readers of other tools' files share: people by frame, tables, names with numbers, and what is wrong where."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from twoview.errors import FormatError
from twoview.storage import records
from twoview.storage.regular import MOST_TEXT, read_text

DAMAGE = (KeyError, TypeError, IndexError, AttributeError, ValueError, OverflowError, RecursionError)
COUNTED_FROM = "counted_from"  # entry that twoview adds to files whose layout does not say how frames are counted


class Row(NamedTuple):
    """One person in one frame of a file.

    values  x, y and score of every joint, flat or in rows
    names   of the joints; () where the file does not name them
    """

    frame: int
    person: int
    values: Any
    names: tuple[str, ...] = ()


@dataclass
class Content:
    """What a reader finds in a file, see `readers.ImportedPeople`.

    counted  numbers of all frames in the file, with people or without
    """

    rows: list[Row] = field(default_factory=list)
    counted: list[int] = field(default_factory=list)
    first: int | None = None
    remarks: list[str] = field(default_factory=list)

    def add(self, frame: int, person: int, values: Any, names: tuple[str, ...] = ()) -> None:
        """One more person."""
        self.counted.append(frame)
        self.rows.append(Row(frame, person, values, names))


@contextmanager
def at(place: str) -> Iterator[None]:
    """What wrong content raises in the block becomes a FormatError that names the place."""
    try:
        yield
    except KeyError as error:
        raise FormatError(f"{place}: {error} is missing", hint=RIGHT_FILE) from error
    except DAMAGE as error:
        raise FormatError(f"{place}: {_plain(error)}", hint=RIGHT_FILE) from error


RIGHT_FILE = "is it the right file, and complete?"


def _plain(error: Exception) -> str:
    """Why content is wrong, without Python's words for it."""
    text = str(error)
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, TypeError | AttributeError | IndexError):
        return "its entries are of another kind than this format has"
    if found := re.search(r"(?:could not convert string to float|invalid literal for .*): (.*)", text):
        return f"{found[1]} is no number"
    return text or "it is in another format"


def read_json(path: Path) -> Any:
    """The content of a JSON file, which may be large."""
    return records.load_json(path, most=MOST_TEXT)


_NUMBERED = re.compile(r"(.*?)(\d+)(_keypoints)?$")


def numbered(name: str, path: Path) -> tuple[str, int]:
    """What names the clip, and the last number, in the name of a frame: `clip`, 12 of `clip_000000000012_keypoints`."""
    found = _NUMBERED.match(re.sub(r"\.(jpe?g|png|bmp|json)$", "", Path(name).name, flags=re.IGNORECASE))
    if not found:
        raise FormatError(f"{path}: {name!r} has no frame number in its name")
    return found[1].strip("_-. "), int(found[2])


def of_one_clip(names: Iterable[str], clip: str, path: Path) -> dict[str, int]:
    """Name of a file or picture -> frame number, of one video alone.

    Raises FormatError where there are several videos and none is called `clip`.
    """
    numbers = {name: numbered(name, path) for name in names}
    clips = dict(Counter(name for name, _ in numbers.values()))
    if len(clips) > 1:
        same = [name for name in clips if name.lower() == clip.lower()]
        same = same or [name for name in clips if clip and _key(name) == _key(clip)]
        if len(same) != 1:
            listed = ", ".join(f"{name or 'numbers alone'} ({count} frames)" for name, count in list(clips.items())[:5])
            raise FormatError(
                f"{path} holds the frames of {len(clips)} videos: {listed}"
                + (f"; none of them is called {clip}" if clip else ""),
                hint="put the files of this video alone into a folder, and name that",
            )
        numbers = {name: found for name, found in numbers.items() if found[0] == same[0]}
    twice = [number for number, count in Counter(number for _, number in numbers.values()).items() if count > 1]
    if twice:
        both = [name for name, (_, number) in numbers.items() if number == twice[0]][:2]
        raise FormatError(f"{path} has frame {twice[0]} twice: {' and '.join(both)}")
    return {name: number for name, (_, number) in numbers.items()}


def _key(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()


def read_table(path: Path, *, most: int | None = None) -> list[list[str]]:
    """The rows of a table whose cells are separated by commas, semicolons or tabs; empty ones are left out."""
    text = read_text(path, most=MOST_TEXT)
    head = text[:10_000].partition("\n")[0]
    mark = max(",;\t", key=head.count)
    rows = []
    try:
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=mark):
            if any(cell.strip() for cell in row):
                rows.append(row)
            if len(rows) == most:
                break
    except csv.Error as error:
        raise FormatError(f"{path} is no table: {error}", hint=RIGHT_FILE) from error
    return rows


def number(text: str) -> float:
    """A number, NaN for an empty cell; a comma may stand for the point."""
    text = text.strip()
    return float(text.replace(",", ".")) if text else float("nan")
