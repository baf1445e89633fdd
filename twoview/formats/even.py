"""An even frame rate for files that have one rate and no times: TRC, C3D, BVH."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy import ndarray as Array

from twoview.errors import FormatError
from twoview.poses import MAX_GAP_S, Poses3D

_UNEVEN = 0.02  # frame intervals by which times may differ from an even grid
_MISSED = 1.75  # usual intervals from which on a frame is missing between two
_TICKS_S = (1 / 600, 1 / 1000)  # to which QuickTime and Matroska files round their times
_MOST_ROWS = 1_000_000  # of a file made from fewer frames: four hours at 60 frames per second


@dataclass(frozen=True, eq=False)
class Even:
    """Poses at an even rate.

    poses   their times are an even grid
    rate    rows per second, which may be fractional
    frames  frames of the poses that they were made from
    kept    rows that are one of these frames, with its values; the others are interpolated
    empty   rows in which nothing is known because the frames around them are too far apart
    """

    poses: Poses3D
    rate: float
    frames: int
    kept: int
    empty: int = 0

    @property
    def note(self) -> str:
        """What was done to times that were not even, in one sentence; "" where every row is a frame."""
        rows = len(self.poses)
        if self.kept == rows == self.frames:
            return ""
        between = rows - self.kept - self.empty
        empty = f", and {self.empty} in gaps of over {MAX_GAP_S:g} s are empty" if self.empty else ""
        return (
            f"{rows} rows at {rate_text(self.rate)} per second from {self.frames} frames of uneven times: "
            f"{between} are interpolated{empty}"
        )

    @property
    def frame_rate(self) -> float:
        """Frames per second that there were, on average."""
        return self.rate * (self.frames - 1) / max(len(self.poses) - 1, 1) if self.frames > 1 else self.rate


def rate_text(rate: float) -> str:
    """A rate with up to six decimals: 29.97003, 30."""
    return f"{rate:.6f}".rstrip("0").rstrip(".")


def at_even_rate(poses: Poses3D) -> Even:
    """The poses at an even rate: the video's own, also where frames are missing.

    Frames whose times lie on the even grid keep their values, and rows between them are interpolated. Where the times
    follow no grid, all rows are. Raises FormatError for frames so far apart that the file would be mostly empty.
    """
    frames = len(poses)
    if frames < 2:
        return Even(poses, 1.0, frames, frames)
    steps = np.diff(poses.time)
    step = float(np.median(steps))
    if steps.sum() / step > max(_MOST_ROWS, 2 * frames):
        raise FormatError(
            f"{frames} frames over {steps.sum():.0f} s would be {steps.sum() / step:.0f} rows",
            hint="write csv or json, which keep the times of the frames",
        )
    for _ in range(2):  # a median of rounded times is off by up to half a tick, their line is not
        passed = np.where(steps < _MISSED * step, 1, np.rint(steps / step)).astype(int)
        place = np.concatenate([[0], np.cumsum(passed)])
        start, step = _line(place, poses.time)
    grid = start + np.arange(place[-1] + 1) * step
    follows = np.abs(grid[place] - poses.time).max() <= max(_UNEVEN * step, _rounding(poses.time))
    if not follows:
        grid = np.linspace(poses.time[0], poses.time[-1], len(grid))
    even = _spread(poses, place, grid) if follows else poses.at(grid)
    kept = frames if follows else int(np.isin(grid, poses.time).sum())
    empty = _empty(even) - _empty(poses)
    return Even(even, (len(grid) - 1) / float(grid[-1] - grid[0]), frames, kept, max(empty, 0))


def _empty(poses: Poses3D) -> int:
    return int(np.isnan(poses.xyz).all(axis=(1, 2)).sum())


def _line(place: Array, time: Array) -> tuple[float, float]:
    """Start and step in seconds of the even grid nearest to the times (T,) of its places (T,), in least squares."""
    middle, center = place.mean(), time.mean()
    step = float(((place - middle) * (time - center)).sum() / ((place - middle) ** 2).sum())
    return float(center - step * middle), step


def _rounding(time: Array) -> float:
    """By how many seconds the times (T,) of an even video can be off because its file rounds them; 0 if it does not."""
    since = time - time[0]
    return max((tick for tick in _TICKS_S if np.abs(since - np.rint(since / tick) * tick).max() < 1e-6), default=0.0)


def _spread(poses: Poses3D, place: Array, grid: Array) -> Poses3D:
    """The poses with each frame at its place (T,) on the grid (S,), and what lies between interpolated."""
    on_grid = replace(poses, time=grid[place])
    return on_grid if len(grid) == len(poses) else on_grid.at(grid)
