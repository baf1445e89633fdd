"""Clocks by hand: a known offset, one event found in every view, or the capture times that a recorder app wrote.

The values are used exactly as given and not checked against sound; the Sync names the method.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy import ndarray as Array

from twoview.errors import SyncError
from twoview.synchronization.capture_times import read_timestamps
from twoview.synchronization.several_views import chained, inverse
from twoview.timeline import ClockMap, ClockQuality, Sync

_UNEVEN_S = 0.005  # a frame this far from the line of its video is uneven


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

    files   view name -> table of capture times, see `capture_times` (one file may hold all views)
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


def _line(shown: Array, captured: Array) -> tuple[ClockMap, Array]:
    """The line from frame times (T,) to capture times (T,), and the distance (T,) of each from it, seconds."""
    rate, offset = np.polyfit(shown - shown[0], captured - captured[0], 1) if len(shown) > 2 else (
        float(np.ptp(captured) / np.ptp(shown)), 0.0)  # fmt: skip
    clock = ClockMap(float(captured[0] + offset - rate * shown[0]), float(rate))
    return clock, np.abs(captured - clock.to_session(shown))
