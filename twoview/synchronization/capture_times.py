"""Capture times of frames from the tables that recorder apps write: one time per line, or a column among others.

The column of times is found by its heading or by its steps, their unit by the heading or by the steps, and where a
table holds several cameras, their column by its heading. What the phones' own clocks say is no more than a hint.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy import ndarray as Array

from twoview.errors import SyncError
from twoview.storage.regular import read_text

_UNITS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}
_LEAST_STEP = {"ns": 1e6, "us": 1e3, "ms": 1.0, "s": 0.0}  # between frames of up to 1000 per second
_STEPS_S = (1e-4, 5.0)  # between two frames
_TIME = re.compile(
    r"(capture|frame|sensor|exposure|presentation)?_?(time_?stamps?|times?|pts|t)(_(ns|us|ms|s|sec|seconds|nanos|micros|millis))?"
)
_SPELLED = {
    "sec": "s", "seconds": "s", "nanos": "ns", "micros": "us", "millis": "ms", "nanoseconds": "ns",
    "microseconds": "us", "milliseconds": "ms",
}  # fmt: skip
_CAMERA = re.compile(r"(cam|camera|port|device|view|phone)(_?(id|index|name|number))?")
_FORMS = "one row for each frame: its capture time in s, ms, us or ns, beside it the camera (cam_id) of several"
_MOST = 1 << 28  # bytes of a table
_PHONES_S = 60.0  # clocks of two phones, which set them by the network, are hardly ever more apart


def read_timestamps(path: Path | str, view: str = "", place: int = 0) -> Array:
    """Capture times (T,) in seconds of one view, from a recorder's table.

    Of several cameras in a file, the one called `view`, else number `place` in the order of first appearance.
    Raises SyncError where no column holds increasing times, and where several may be meant.
    """
    heading, rows = _table(Path(path))
    camera = _camera_column(heading, rows)
    if camera is not None:
        rows = _of_camera(rows, camera, view, place, path)
    column = _time_column(heading, rows, camera, path)
    cells = [row[column] if column < len(row) else "" for row in rows]
    numbers = [_number(cell) for cell in cells]
    wrong = next((index for index, value in enumerate(numbers) if value is None), None)
    if wrong is not None:
        raise SyncError(f"{path}: {cells[wrong]!r} is not a time", hint=_FORMS)
    if len(numbers) < 2:
        raise SyncError(f"{path} has {len(numbers)} times, and two are needed", hint=_FORMS)
    first = numbers[0] or 0
    steps = np.diff(np.array([float((value or 0) - first) for value in numbers]))
    if (steps <= 0).any():
        raise SyncError(f"{path}: the times do not increase at line {int(np.argmax(steps <= 0)) + 2}", hint=_FORMS)
    typical = float(np.median(steps))
    named = _unit(heading[column]) if column < len(heading) else ""
    unit = named or next(name for name, least in _LEAST_STEP.items() if typical >= least)
    if not _STEPS_S[0] <= typical * _UNITS[unit] <= _STEPS_S[1]:
        raise SyncError(
            f"{path}: between two frames there are {typical:g} {unit}, which is no time between frames",
            hint="is the unit in the heading right? " + _FORMS,
        )
    return float(first) * _UNITS[unit] + np.concatenate([[0.0], np.cumsum(steps)]) * _UNITS[unit]


def _table(path: Path) -> tuple[list[str], list[list[str]]]:
    """Heading ([] where there is none) and rows; cells are separated by semicolons, tabs, commas or blanks."""
    lines = [line for line in read_text(path, most=_MOST, error=SyncError).splitlines() if line.strip()]
    lines = [line for line in lines if not line.lstrip().startswith("#")]
    sample = lines[:20]
    mark = next((mark for mark in ";\t" if any(mark in line for line in sample)), ",")
    decimal = mark != "," or (
        len(lines) > 1 and "," not in lines[0] and _number(lines[0].strip()) is None
        and all(line.count(",") == 1 for line in sample[1:])
    )  # fmt: skip
    if decimal and mark == ",":
        rows = [[line.strip()] for line in lines]
    else:
        rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO("\n".join(lines)), delimiter=mark)]
    if mark == "," and all(len(row) == 1 and re.search(r"\d\s+-?\d", row[0]) for row in rows[:20]):
        rows = [row[0].split() for row in rows]
    if decimal:
        rows = [[re.sub(r"^(-?\d+),(\d+)$", r"\1.\2", cell) for cell in row] for row in rows]
    has_heading = bool(rows) and not any(_number(cell) is not None for cell in rows[0] if cell)
    has_heading = has_heading and (len(rows) == 1 or any(_number(cell) is not None for cell in rows[1]))
    return ([_plain(cell) for cell in rows[0]], rows[1:]) if has_heading else ([], rows)


def _plain(cell: str) -> str:
    """frame_time_ms of `Frame time [ms]`."""
    return re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cell.strip('" ')).lower()).strip("_")


def _unit(name: str) -> str:
    """The unit that a heading names, "" where it names none."""
    last = name.rpartition("_")[2]
    unit = _SPELLED.get(last, last)
    return unit if unit in _UNITS and last != name else ""


def _camera_column(heading: list[str], rows: list[list[str]]) -> int | None:
    named = next((i for i, name in enumerate(heading) if _CAMERA.fullmatch(name)), None)
    if named is not None or heading or not rows or len(rows[0]) != 2:
        return named
    firsts = [row[0] for row in rows]
    few = len(set(firsts)) < len(firsts) or any(_number(cell) is None for cell in firsts)
    return 0 if few else None


def _of_camera(rows: list[list[str]], column: int, view: str, place: int, path: Path | str) -> list[list[str]]:
    """The rows of one camera."""
    cameras = list(dict.fromkeys(row[column] for row in rows if column < len(row)))
    if len(cameras) < 2:
        return rows
    if view not in cameras and place >= len(cameras):
        raise SyncError(f"{path} has no camera {view!r}; it has {', '.join(cameras)}", hint=_FORMS)
    wanted = view if view in cameras else cameras[place]
    return [row for row in rows if column < len(row) and row[column] == wanted]


def _time_column(heading: list[str], rows: list[list[str]], camera: int | None, path: Path | str) -> int:
    """The column of times. Raises SyncError where several may be, with their names."""
    width = max((len(row) for row in rows), default=len(heading))
    others = [i for i in range(width) if i != camera]
    if len(others) <= 1:
        return others[0] if others else 0

    def which(fits: Callable[[int], bool]) -> list[int]:
        return [i for i in others if fits(i)]

    found = which(lambda i: i < len(heading) and bool(_TIME.fullmatch(heading[i])))
    if not found:
        found = which(lambda i: i < len(heading) and "time" in heading[i])
    if not found:
        found = which(lambda i: _increases([row[i] if i < len(row) else "" for row in rows]))
        found = [i for i in found if not _counts([row[i] for row in rows])] or found
    if len(found) > 1:  # of frame_time and system_time, the one of capture
        found = [i for i in found if re.match("(capture|frame|sensor|exposure)", heading[i])] if heading else found
    if len(found) != 1:
        names = [heading[i] if i < len(heading) else f"number {i + 1}" for i in others]
        raise SyncError(
            f"{path} has {len(others)} columns, and which holds the capture times is not clear: {', '.join(names)}",
            hint="call the column frame_time_ms, or leave it alone in the file\n" + _FORMS,
        )
    return found[0]


def _increases(cells: list[str]) -> bool:
    values = [_number(cell) for cell in cells]
    known = [value for value in values if value is not None]
    return len(known) == len(values) > 1 and all(b > a for a, b in pairwise(known))


def _counts(cells: list[str]) -> bool:
    values = [_number(cell) or 0 for cell in cells]
    return all(b - a == 1 for a, b in pairwise(values))


def _number(text: str) -> int | float | None:
    for kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            continue
        return value if math.isfinite(value) else None
    return None


def by_phones_clocks(filmed: Mapping[str, str], lasting: Mapping[str, float], reference: str) -> str:
    """What the phones' own clocks say of views whose sound says nothing; "" where a phone says nothing.

    filmed   view -> day and time that the phone wrote, ISO 8601
    lasting  view -> seconds of its video

    No more than a sentence for a person: the clocks of two phones are seconds apart, and some phones write when they
    began, others when they ended.
    """
    if not all(filmed.values()) or len({bool(datetime.fromisoformat(text).tzinfo) for text in filmed.values()}) > 1:
        return ""
    moments = {view: datetime.fromisoformat(text) for view, text in filmed.items()}
    parts, apart = [], False
    for view, moment in moments.items():
        after = (moment - moments[reference]).total_seconds()
        apart = apart or abs(after) > max(lasting.values()) + _PHONES_S
        if view != reference:
            parts.append(
                f"{view} was filmed about {_about(abs(after))} {'after' if after >= 0 else 'before'} {reference}"
            )
    said = f"by the phones' own clocks, which are seconds apart, {' and '.join(parts)}"
    return said + (": are these videos of one take?" if apart else "; look there for an event that all show")


def _about(seconds: float) -> str:
    """A time in the unit that says enough."""
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
