"""A take: one event recorded by all phones, as 2D poses of each view and the clocks that relate them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy import ndarray as Array

from twoview.errors import TrainingError
from twoview.poses import Poses2D, Poses3D
from twoview.skeleton import H36M17
from twoview.timeline import Sync, common_grid


@dataclass(frozen=True)
class Take:
    """One event recorded by all phones: the 2D poses of each view, and how their clocks relate.

    truth  3D labels of each view in camera axes (origin "camera", meters), if there are any; no phone gives them
    focal  px, of the cameras that the truth belongs to; default: `framing.DEFAULT_FOCAL`
    focal_mm  35 mm equivalent, of the views whose file says it
    athlete  name; takes of different athletes share no bones. "" where nobody is named
    height_m  standing height of the athlete, for results in meters; 0 where it is not known, and in training
    """

    name: str
    poses: Mapping[str, Poses2D]
    sync: Sync
    truth: Mapping[str, Poses3D] | None = None
    focal: Mapping[str, float] | None = None
    focal_mm: Mapping[str, float] = field(default_factory=dict)
    athlete: str = ""
    height_m: float = 0.0

    def __repr__(self) -> str:
        return f"Take({self.name!r}, views {', '.join(self.views)}, {self.sync!r})"

    @property
    def views(self) -> tuple[str, ...]:
        """Names of the views."""
        return tuple(self.poses)


@dataclass(frozen=True, eq=False)
class ResampledTake:
    """The 2D poses of a take on one even grid of session time. V views, S moments, J joints (Human3.6M-17).

    take       the take, with the views of the grid alone
    rate       moments per second
    time       (S,) s           session clock
    view_time  view -> (S,) s   the same moments on each view's own clock
    xy         (V, S, J, 2) px  0 where unseen
    score      (V, S, J)        0 where unseen
    size       (V, 2) px        width, height
    """

    take: Take
    rate: float
    time: Array
    view_time: Mapping[str, Array]
    xy: Array
    score: Array
    size: Array

    @property
    def views(self) -> tuple[str, ...]:
        """Names of the views, in the order of the arrays."""
        return self.take.views


def resample(take: Take, rate: float, views: Sequence[str] | None = None) -> ResampledTake:
    """A take at all session times that its views (those of `views` that it has) share, `rate` moments per second.

    Hold-out, triangulation and training read this one grid. The only place where unseen joints (NaN) become zeros with
    score 0. Raises SyncError where views do not overlap.
    """
    names = [view for view in (views or take.views) if view in take.poses]
    poses = {view: take.poses[view].to(H36M17) for view in names}
    time = common_grid(take.sync, {view: own.time for view, own in poses.items()}, rate=rate)
    view_time = {view: take.sync.to_view(view, time) for view in names}
    seen = [poses[view].at(view_time[view]) for view in names]
    return ResampledTake(
        replace(take, poses=LoadedLater(names, take.poses.__getitem__)),
        rate,
        time,
        view_time,
        np.stack([np.nan_to_num(own.xy) for own in seen]),
        np.stack([own.score for own in seen]),
        np.array([own.size for own in seen], dtype=np.float64),
    )


class LoadedLater(Mapping[str, Any]):
    """Views of a take that are loaded on each access, so that thousands of takes fit in memory."""

    def __init__(self, views: Sequence[str], load: Callable[[str], Any]) -> None:
        self._views, self._load = tuple(views), load

    def __getitem__(self, view: str) -> Any:
        if view not in self._views:
            raise KeyError(view)
        return self._load(view)

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)


def check_views(takes: Sequence[Take]) -> None:
    """Raises TrainingError for takes with a single view, or with the same view twice."""
    for take in takes:
        if len(take.poses) < 2:
            only = ", ".join(take.views) or "none"
            raise TrainingError(
                f"take {take.name!r} has one view ({only}); consistency needs two", hint="twoview sync a.mp4 b.mp4"
            )
        first, *others = take.poses.values()
        if any(_same(first, other) for other in others):
            raise TrainingError(f"the views of take {take.name!r} are the same video", hint="film from two sides")


def _same(a: Poses2D, b: Poses2D) -> bool:
    """Whether two views are one: the same file, or the same joints to the pixel."""
    return bool(a.source.video and a.source.video == b.source.video) or (
        a.xy.shape == b.xy.shape and bool(np.isfinite(a.xy).any()) and np.array_equal(a.xy, b.xy, equal_nan=True)
    )
