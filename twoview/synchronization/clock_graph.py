"""Several views on one clock: what is known of each pair is solved together, and pairs that contradict are left out.

Each pair says `time in first = offset_s + rate * time in second`, with standard errors. Rates are solved first, then
offsets, both by weighted least squares; around every loop of views the answers have to close.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np
from numpy import ndarray as Array

from twoview.errors import SyncError
from twoview.timeline import ClockMap, ClockQuality, Sync

_CLOSES_S = 0.010  # sound comes from several places, so that three views close only within some milliseconds
_CLOSES_SIGMA = 4.0
_WORSE = 3.0  # how much more doubtful than any other a pair must be to be the one that is wrong
_PLAIN_SE_S, _PLAIN_SE_PPM = 0.005, 50.0  # where a pair does not tell


@dataclass(frozen=True, eq=False)
class Relation:
    """What is known of the clocks of two views, with what a picture of it needs.

    clock     from the second view's clock to the first's; middle_s the second's time in the middle of the overlap
    refusal   why it cannot be relied on; empty where it can
    time, delay, used  (K,) stretches: seconds of the second view, seconds that each lies off the clock, whether used
    lags, heights      (L,) the correlation: offset in s (at the start of both), height in `unit`
    """

    first: str
    second: str
    clock: ClockMap
    quality: ClockQuality
    refusal: str = ""
    middle_s: float = 0.0
    time: Array = field(default_factory=lambda: np.zeros(0))
    delay: Array = field(default_factory=lambda: np.zeros(0))
    used: Array = field(default_factory=lambda: np.zeros(0, bool))
    lags: Array = field(default_factory=lambda: np.zeros(0))
    heights: Array = field(default_factory=lambda: np.zeros(0))
    unit: str = "standard deviations"

    @property
    def name(self) -> str:
        """Both views."""
        return f"{self.first} and {self.second}"


def copies(first: str, second: str) -> str:
    """What to say of two views that are copies of one recording."""
    return f"{first} and {second} are the same recording: a second phone has to film too"


def inverse(clock: ClockMap) -> ClockMap:
    """The map the other way."""
    return ClockMap(-clock.offset_s / clock.rate, 1 / clock.rate)


def chained(outer: ClockMap, inner: ClockMap) -> ClockMap:
    """The map that applies `inner` first, then `outer`."""
    return ClockMap(outer.offset_s + outer.rate * inner.offset_s, outer.rate * inner.rate)


def solve(
    relations: Sequence[Relation], reference: str, method: str, *, hint: str = "", warnings: Sequence[str] = ()
) -> Sync:
    """One clock for all views of the relations.

    Raises SyncError where a view has no reliable relation to the others, or where relations contradict each other and
    none of them is clearly the doubtful one.
    """
    views = tuple(dict.fromkeys([reference, *(view for r in relations for view in (r.first, r.second))]))
    reliable = [r for r in relations if not r.refusal]
    _check_connected(reliable, relations, views, method, hint)
    kept, left_out = _consistent(reliable, views)
    clocks, offset_se, drift_se = _solved(kept, views)
    loop = max((abs(_gap(r, clocks)) for r in kept), default=0.0) if len(kept) >= len(views) else math.nan
    said = [*warnings]
    for r in left_out:
        off = _gap(r, clocks)
        said.append(f"{r.name} contradict the other pairs by {off * 1000:+.1f} ms and were not used together")
    said += [f"{r.name} could not be compared directly: {r.refusal}" for r in relations if r.refusal]
    quality = {
        view: replace(_quality(view, reference, kept), offset_se_s=offset_se[view], drift_se_ppm=drift_se[view])
        for view in views[1:]
    }
    return Sync(reference, clocks, method, quality, tuple(said), loop)


def _check_connected(
    reliable: Sequence[Relation], relations: Sequence[Relation], views: Sequence[str], method: str, hint: str
) -> None:
    known = _reached(reliable, views[0])
    lost = [view for view in views if view not in known]
    if lost:
        reasons = [f"{r.name}: {r.refusal}" for r in relations if r.refusal and (r.first in lost) != (r.second in lost)]
        whom = f"{', '.join(lost)} and {', '.join(v for v in views if v in known)}"
        raise SyncError(f"{whom} cannot be related by {method}: {'; '.join(reasons)}", hint=hint)


def _reached(relations: Sequence[Relation], start: str) -> set[str]:
    known, grown = {start}, True
    while grown:
        more = {view for r in relations if {r.first, r.second} & known for view in (r.first, r.second)}
        grown = not more <= known
        known |= more
    return known


def _consistent(relations: Sequence[Relation], views: Sequence[str]) -> tuple[list[Relation], list[Relation]]:
    """The relations that close around all loops, and those that had to be left out for it."""
    kept = list(relations)
    for count in range(len(relations) - len(views) + 2):
        choices = []
        for out in combinations(kept, count):
            rest = [r for r in kept if r not in out]
            if _reached(rest, views[0]) >= set(views) and _closes(rest, views):
                choices.append((math.prod(_doubt(r) for r in out), out, rest))
        if choices:
            choices.sort(key=lambda choice: -choice[0])
            if len(choices) > 1 and choices[0][0] < _WORSE * choices[1][0]:
                raise SyncError(_contradiction(kept, views), hint="relate the views two by two, and look at sync.png")
            return choices[0][2], list(choices[0][1])
    raise SyncError(_contradiction(kept, views), hint="relate the views two by two, and look at sync.png")


def _doubt(relation: Relation) -> float:
    return max(1.0 - relation.quality.confidence, 1e-4)


def _closes(relations: Sequence[Relation], views: Sequence[str]) -> bool:
    clocks, *_ = _solved(relations, views)
    return all(abs(_gap(r, clocks)) <= max(_CLOSES_S, _CLOSES_SIGMA * _offset_se(r)) for r in relations)


def _contradiction(relations: Sequence[Relation], views: Sequence[str]) -> str:
    clocks, *_ = _solved(relations, views)
    worst = max(abs(_gap(r, clocks)) for r in relations)
    pairs = ", ".join(f"{r.first}-{r.second} {r.clock.offset_s:+.3f} s" for r in relations)
    return f"the pairs contradict each other by {worst * 1000:.0f} ms, and none is clearly the wrong one: {pairs}"


def _gap(relation: Relation, clocks: Mapping[str, ClockMap]) -> float:
    """Seconds by which a relation and the clocks differ in the middle of its overlap."""
    at = relation.middle_s
    return float(
        clocks[relation.first].to_session(relation.clock.to_session(at)) - clocks[relation.second].to_session(at)
    )


def _offset_se(relation: Relation) -> float:
    error = relation.quality.offset_se_s
    return max(error, 1e-5) if math.isfinite(error) else _PLAIN_SE_S


def _drift_se(relation: Relation) -> float:
    error = relation.quality.drift_se_ppm
    return max(error, 0.01) if math.isfinite(error) else _PLAIN_SE_PPM


def _solved(
    relations: Sequence[Relation], views: Sequence[str]
) -> tuple[dict[str, ClockMap], dict[str, float], dict[str, float]]:
    """Clocks of all views (the first is the reference), standard errors of their offsets in s and drifts in ppm."""
    step = np.array([math.log(r.clock.rate) for r in relations])
    logs, drift_se = _least_squares(relations, views, step, np.array([_drift_se(r) * 1e-6 for r in relations]))
    rates = {view: math.exp(value) for view, value in logs.items()}
    apart = np.array([
        rates[r.first] * float(r.clock.to_session(r.middle_s)) - rates[r.second] * r.middle_s for r in relations
    ])  # fmt: skip
    offsets, offset_se = _least_squares(relations, views, apart, np.array([_offset_se(r) for r in relations]))
    clocks = {view: ClockMap(offsets[view], rates[view]) for view in views}
    return clocks, offset_se, {view: error * 1e6 for view, error in drift_se.items()}


def _least_squares(
    relations: Sequence[Relation], views: Sequence[str], apart: Array, error: Array
) -> tuple[dict[str, float], dict[str, float]]:
    """Values of all views (0 for the first) whose differences, second minus first, are nearest to `apart` (P,)."""
    rows = np.zeros((len(relations), len(views)))
    for row, relation in zip(rows, relations, strict=True):
        row[views.index(relation.second)] += 1
        row[views.index(relation.first)] -= 1
    rows = rows[:, 1:] / error[:, None]
    normal = rows.T @ rows
    values = np.linalg.solve(normal, rows.T @ (apart / error))
    errors = np.sqrt(np.diag(np.linalg.inv(normal)))
    named = [dict(zip(views, [0.0, *row.tolist()], strict=True)) for row in (values, errors)]
    return named[0], named[1]


def _quality(view: str, reference: str, relations: Sequence[Relation]) -> ClockQuality:
    """Of the surest chain of pairs from the reference: the product of their confidences, else its weakest link's."""
    best: dict[str, ClockQuality] = {reference: ClockQuality(1.0)}
    for _ in relations:
        for r in relations:
            for here, there in ((r.first, r.second), (r.second, r.first)):
                if here not in best:
                    continue
                sure = best[here].confidence * r.quality.confidence
                if there not in best or sure > best[there].confidence:
                    weakest = r.quality if here == reference else min(best[here], r.quality, key=_sureness)
                    best[there] = replace(weakest, confidence=sure)
    return best[view]


def _sureness(quality: ClockQuality) -> float:
    return quality.confidence
