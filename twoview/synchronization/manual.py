"""Clocks by hand: a known offset, one event found in every view, or the capture times that a recorder app wrote.

The values are used exactly as given and not checked against sound; the Sync names the method.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy import ndarray as Array

from twoview.errors import SyncError
from twoview.synchronization.several_views import chained, inverse
from twoview.timeline import ClockMap, ClockQuality, Sync

_UNITS = ((1e6, 1e-9), (1e3, 1e-6), (1.0, 1e-3), (0.0, 1.0))  # smallest step between frames -> seconds per unit
_UNEVEN_S = 0.005  # a frame this far from the line of its video is uneven
_FORMS = "one line per frame: its capture time, or cam_id,frame_time; in s, ms, us or ns"


def by_offset(offsets: Mapping[str, float], reference: str, *, slowdown: Mapping[str, float] | None = None) -> Sync:
    """Clocks of views that began `offsets` seconds after the reference: session time = offset + view time.

    offsets   of every view but the reference
    slowdown  seconds of a view's clock that one real second takes (slow motion); default 1
    """
    slow = {view: (slowdown or {}).get(view, 1.0) for view in (reference, *offsets)}
    clocks = {view: ClockMap(offset, slow[reference] / slow[view]) for view, offset in offsets.items()}
    return Sync(reference, {reference: ClockMap(), **clocks}, "offset")


def by_event(moments: Mapping[str, float], reference: str, *, slowdown: Mapping[str, float] | None = None) -> Sync:
    """Clocks from the moments, in seconds of each view's own clock, at which all views show one event."""
    slow = {view: (slowdown or {}).get(view, 1.0) for view in moments}
    clocks = {}
    for view, moment in moments.items():
        rate = slow[reference] / slow[view]
        clocks[view] = ClockMap(moments[reference] - rate * moment, rate)
    return Sync(reference, {**clocks, reference: ClockMap()}, "event")


def by_timestamps(files: Mapping[str, Path], frames: Mapping[str, Array], reference: str) -> Sync:
    """Clocks of views whose recorder wrote the capture time of each frame, on a clock that all phones shared.

    files   view name -> CSV: one time per line, or `cam_id,frame_time` lines (one file may hold all views)
    frames  view name -> presentation times (T,) of the video's frames, seconds

    The clock of each view is the line through the capture times of its frames. Raises SyncError where the numbers of
    lines and frames differ: one frame more or less would shift everything.
    """
    to_shared, quality, warnings = {}, {}, []
    for place, (view, path) in enumerate(files.items()):
        captured, shown = read_timestamps(path, view, place), frames[view]
        if len(captured) != len(shown):
            raise SyncError(
                f"{path} has {len(captured)} times for view {view}, and its video has {len(shown)} frames",
                hint="use the untouched video and log of one recording, or --at with an event both show",
            )
        to_shared[view], away = _line(shown, captured)
        quality[view] = ClockQuality(1.0, overlap_s=float(np.ptp(captured)), residual_s=float(np.median(away)),
                                     windows=(int((away < _UNEVEN_S).sum()), len(away)))  # fmt: skip
        if away.max() > _UNEVEN_S:
            warnings.append(
                f"{view}: capture times are up to {away.max() * 1000:.0f} ms off the times in the video, "
                "which are not those of capture"
            )
    back = inverse(to_shared[reference])
    clocks = {view: chained(back, clock) for view, clock in to_shared.items()}
    del quality[reference]
    return Sync(reference, {**clocks, reference: ClockMap()}, "timestamps", quality, tuple(warnings))


def read_timestamps(path: Path | str, view: str = "", place: int = 0) -> Array:
    """Capture times (T,) in seconds of one view from a recorder's CSV; the step between frames gives the unit.

    Of several cameras in a file, the one called `view`, else number `place` in the order of first appearance.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            rows = [[cell.strip() for cell in row] for row in csv.reader(file) if any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SyncError(f"{path} cannot be read as capture times: {error}", hint=_FORMS) from error
    if rows and _number(rows[0][-1]) is None:
        rows = rows[1:]  # a heading
    cameras = list(dict.fromkeys(row[0] for row in rows if len(row) > 1))
    if len(cameras) > 1:
        if view not in cameras and place >= len(cameras):
            raise SyncError(f"{path} has no camera {view!r}; it has {', '.join(cameras)}", hint=_FORMS)
        wanted = view if view in cameras else cameras[place]
        rows = [row for row in rows if row[0] == wanted]
    numbers = [_number(row[-1]) for row in rows]
    wrong = next((index for index, value in enumerate(numbers) if value is None), None)
    if wrong is not None:
        raise SyncError(f"{path}: {rows[wrong][-1]!r} is not a time", hint=_FORMS)
    if len(numbers) < 2:
        raise SyncError(f"{path} has {len(numbers)} times, and two are needed", hint=_FORMS)
    first = numbers[0] or 0
    steps = np.diff(np.array([float((value or 0) - first) for value in numbers]))
    if (steps <= 0).any():
        raise SyncError(f"{path}: the times do not increase at line {int(np.argmax(steps <= 0)) + 2}", hint=_FORMS)
    unit = next(unit for least, unit in _UNITS if float(np.median(steps)) >= least)
    return float(first) * unit + np.concatenate([[0.0], np.cumsum(steps)]) * unit


def _number(text: str) -> int | float | None:
    for kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            continue
        return value if math.isfinite(value) else None
    return None


def _line(shown: Array, captured: Array) -> tuple[ClockMap, Array]:
    """The line from frame times (T,) to capture times (T,), and the distance (T,) of each from it, seconds."""
    rate, offset = np.polyfit(shown - shown[0], captured - captured[0], 1) if len(shown) > 2 else (
        float(np.ptp(captured) / np.ptp(shown)), 0.0)  # fmt: skip
    clock = ClockMap(float(captured[0] + offset - rate * shown[0]), float(rate))
    return clock, np.abs(captured - clock.to_session(shown))
