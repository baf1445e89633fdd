"""Time: the frames of one video, and how the clocks of several views relate.

Two clocks only: the *view* clock (a file's own presentation times, which need not start at 0) and the *session*
clock (the reference view's). `session = offset_s + rate * view`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from numpy import ndarray as Array

from twoview.errors import SyncError

HALF_FRAME_S = 1 / 60  # at 30 frames per second
USUAL_DRIFT_PPM = 50.0  # standard deviation of the drift of two phones of which nothing is known
_KNOWN_DRIFT_PPM = 30.0


def probability_within(limit_s: float, error_s: float) -> float:
    """Probability that a normal error is within a limit. error_s: standard error."""
    return math.erf(limit_s / max(error_s, 1e-9) / math.sqrt(2))


@dataclass(frozen=True, eq=False)
class Timeline:
    """True presentation times of a video's frames, seconds (T,), and its nominal rate."""

    seconds: Array
    rate: Fraction

    def __post_init__(self) -> None:
        value = np.array(self.seconds, dtype=np.float64)
        value.setflags(write=False)
        object.__setattr__(self, "seconds", value)

    def __len__(self) -> int:
        return len(self.seconds)


@dataclass(frozen=True)
class ClockMap:
    """`session = offset_s + rate * view`. A positive offset: this phone began later; a negative one is normal."""

    offset_s: float = 0.0
    rate: float = 1.0

    @property
    def drift_ppm(self) -> float:
        """How much faster session time runs than this view's clock, in parts per million."""
        return (self.rate - 1.0) * 1e6

    def to_session(self, view_time: Array | float) -> Array:
        """Session seconds of times on this view's clock."""
        return self.offset_s + self.rate * np.asarray(view_time, dtype=np.float64)

    def to_view(self, session_time: Array | float) -> Array:
        """Seconds on this view's clock of session times."""
        return (np.asarray(session_time, dtype=np.float64) - self.offset_s) / self.rate


@dataclass(frozen=True)
class ClockQuality:
    """Accuracy of one view's clock map. NaN where a method does not give a value.

    confidence    probability 0..1 that the clock is right within half a frame (at 30 fps)
    offset_se_s   standard error of the offset in the middle of the overlap, seconds; by sound, that of the sound alone
    drift_se_ppm  standard error of the drift; where the drift is unknown none is applied, and this is what phones have
    overlap_s     seconds that both views recorded
    windows       (used, total): windows of sound or motion that agree with the clock map
    residual_s    median absolute distance of those from the clock map, seconds
    motion_s      delay of the athlete's motion against this clock, where motion was compared too, seconds
    motion_se_s   standard error of that
    travel_s      allowance for the way of the sound, seconds: how far the clock may be off since the phones stand at
                  different distances from its source; 0 where no sound was used or motion removed it
    """

    confidence: float
    offset_se_s: float = float("nan")
    drift_se_ppm: float = float("nan")
    overlap_s: float = float("nan")
    windows: tuple[int, int] = (0, 0)
    residual_s: float = float("nan")
    motion_s: float = float("nan")
    motion_se_s: float = float("nan")
    travel_s: float = float("nan")

    @property
    def error_s(self) -> float:
        """Seconds that the clock stays within, 19 times in 20, in the middle of the overlap: both errors together."""
        return math.hypot(2 * self.offset_se_s, 0.0 if math.isnan(self.travel_s) else self.travel_s)

    @property
    def drift_known(self) -> bool:
        """Whether the drift was found, rather than taken to be none."""
        return self.drift_se_ppm < _KNOWN_DRIFT_PPM

    @property
    def end_error_s(self) -> float:
        """The same at the ends of the overlap, where the error of the drift counts too."""
        drift = 2e-6 * self.drift_se_ppm * self.overlap_s / 2
        return math.hypot(self.error_s, 0.0 if math.isnan(drift) else drift)


@dataclass(frozen=True)
class Sync:
    """The clocks of a take's views: the session clock is that of `reference`.

    method   "sound", "motion", "sound+motion", "offset", "event" or "timestamps"
    quality  per view but the reference
    warnings for the user
    loop_s   largest difference between a pair's own offset and that of all views together, seconds; NaN without a loop
    """

    reference: str
    clocks: Mapping[str, ClockMap]
    method: str = "sound"
    quality: Mapping[str, ClockQuality] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    loop_s: float = float("nan")

    def __post_init__(self) -> None:
        if self.reference not in self.clocks:
            raise ValueError(f"Sync: reference {self.reference!r} is not among the views {sorted(self.clocks)}")

    def __repr__(self) -> str:
        others = ", ".join(f"{view} began {self.clocks[view].offset_s:+.4f} s" for view in self.views[1:])
        return f"Sync(by {self.method}, reference {self.reference}{', ' if others else ''}{others})"

    @property
    def views(self) -> tuple[str, ...]:
        """Names of the views, the reference first."""
        return (self.reference, *(v for v in self.clocks if v != self.reference))

    def clock(self, view: str) -> ClockMap:
        """The clock map of one view. Raises SyncError if the view was not synchronized."""
        if view not in self.clocks:
            raise SyncError(
                f"view {view!r} is not in the sync, which has {', '.join(self.views)}",
                hint=f"after `twoview detect`: `twoview sync --motion`; by hand: `twoview sync --offset {view}=0.61`; "
                f"without it: --views {','.join(self.views)}",
            )
        return self.clocks[view]

    def to_session(self, view: str, view_time: Array | float) -> Array:
        """Session seconds of times on a view's clock."""
        return self.clock(view).to_session(view_time)

    def to_view(self, view: str, session_time: Array | float) -> Array:
        """Seconds on a view's clock of session times."""
        return self.clock(view).to_view(session_time)


def common_grid(sync: Sync, times: Mapping[str, Array], *, rate: float | None = None) -> Array:
    """Evenly spaced session times (S,) that all views of `times` have in common.

    times  view name -> its frame times on its own clock, seconds
    rate   grid points per second; default: that of the slowest view, so that nothing is made up

    Raises SyncError where the views do not overlap by at least two grid points.
    """
    spans, rates = [], []
    for view, own in times.items():
        session = sync.to_session(view, own)
        spans.append((float(session[0]), float(session[-1])))
        rates.append(1.0 / float(np.median(np.diff(session))) if len(session) > 1 else 1.0)
    start, end = max(s for s, _ in spans), min(e for _, e in spans)
    step = 1.0 / (rate if rate is not None else min(rates))
    if end - start < step:
        raise SyncError(
            f"views {', '.join(times)} share only {max(end - start, 0.0):.2f} s of time",
            hint="check the offset with `twoview show`, or start all phones before the athlete moves",
        )
    return start + step * np.arange(int(np.floor((end - start) / step + 1e-9)) + 1)
