"""One clock for several views: the relations of all pairs are solved together; pairs that contradict are left out.

A relation is `time in first = offset_s + rate * time in second`, with standard errors. Rates are solved first, then
offsets, both by weighted least squares; around every loop of views the relations have to close.
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
_LESS_CERTAIN = 3.0  # a pair is left out as wrong if its error probability is this many times that of any other
_DEFAULT_SE_S, _DEFAULT_SE_PPM = 0.005, 50.0  # for pairs without standard errors


@dataclass(frozen=True, eq=False)
class Relation:
    """How the clocks of two views relate, and the evidence. Rely on it only where `refusal` is empty.

    clock              from the second view's clock to the first's; quality as in a Sync
    refusal            why the clock cannot be relied on; empty where it can
    copies             whether both are copies of one recording
    middle_s           middle of what both views recorded, seconds of the second view
    time, delay, used  (K,) windows: middles in seconds of the second view; how much later than `clock` says each is in
                       the first view, seconds; whether the window agrees with the clock
    lags, heights      (L,) correlation: offset in seconds (at the start of both), height in `unit`
    """

    first: str
    second: str
    clock: ClockMap
    quality: ClockQuality
    refusal: str = ""
    copies: bool = False
    middle_s: float = 0.0
    time: Array = field(default_factory=lambda: np.zeros(0))
    delay: Array = field(default_factory=lambda: np.zeros(0))
    used: Array = field(default_factory=lambda: np.zeros(0, bool))
    lags: Array = field(default_factory=lambda: np.zeros(0))
    heights: Array = field(default_factory=lambda: np.zeros(0))
    unit: str = "standard deviations"

    @property
    def name(self) -> str:
        """The two views, for messages."""
        return f"{self.first} and {self.second}"


def copies_warning(first: str, second: str) -> str:
    """The warning about two views that are copies of one recording."""
    return f"{first} and {second} are the same recording: give the file of the other phone"


def inverse(clock: ClockMap) -> ClockMap:
    """The inverse map."""
    return ClockMap(-clock.offset_s / clock.rate, 1 / clock.rate)


def chained(outer: ClockMap, inner: ClockMap) -> ClockMap:
    """The map that applies `inner` first, then `outer`."""
    return ClockMap(outer.offset_s + outer.rate * inner.offset_s, outer.rate * inner.rate)


def solve(
    relations: Sequence[Relation], reference: str, method: str, *, hint: str = "", warnings: Sequence[str] = ()
) -> Sync:
    """The clocks of all views in `relations` that agree best with them.

    Raises SyncError where a view has no reliable relation to the others, or where relations contradict each other and
    none of them is clearly the wrong one.
    """
    views = tuple(dict.fromkeys([reference, *(view for r in relations for view in (r.first, r.second))]))
    reliable = [r for r in relations if not r.refusal]
    known = _reached(reliable, reference)
    lost = [view for view in views if view not in known]
    if lost:
        reasons = [f"{r.name}: {r.refusal}" for r in relations if r.refusal and (r.first in lost) != (r.second in lost)]
        whom = f"{', '.join(lost)} and {', '.join(v for v in views if v in known)}"
        raise SyncError(f"{whom} cannot be related by {method}: {'; '.join(reasons)}", hint=hint)
    kept, left_out = _consistent(reliable, views)
    clocks, offset_se, drift_se = _solved(kept, views)
    loop = max((abs(_gap(r, clocks)) for r in kept), default=0.0) if len(kept) >= len(views) else math.nan
    warnings = [*warnings, *(copies_warning(r.first, r.second) for r in relations if r.copies)]
    for r in left_out:
        gap_ms = _gap(r, clocks) * 1000
        warnings.append(f"{r.name} contradict the other pairs by {gap_ms:+.1f} ms; this pair was not used")
    warnings += [f"{r.name} could not be compared directly: {r.refusal}" for r in relations if r.refusal]
    quality = {
        view: replace(_quality(view, reference, kept), offset_se_s=offset_se[view], drift_se_ppm=drift_se[view])
        for view in views[1:]
    }
    return Sync(reference, clocks, method, quality, tuple(warnings), loop)


def _reached(relations: Sequence[Relation], start: str) -> set[str]:
    known, grown = {start}, True
    while grown:
        more = {view for r in relations if {r.first, r.second} & known for view in (r.first, r.second)}
        grown = not more <= known
        known |= more
    return known


def _consistent(relations: Sequence[Relation], views: Sequence[str]) -> tuple[list[Relation], list[Relation]]:
    """The relations that close around all loops, and those that had to be left out to achieve that."""
    kept = list(relations)
    for count in range(len(relations) - len(views) + 2):
        choices = []
        for out in combinations(kept, count):
            rest = [r for r in kept if r not in out]
            if _reached(rest, views[0]) >= set(views) and _closes(rest, views):
                wrong = math.prod(max(1.0 - r.quality.confidence, 1e-4) for r in out)  # probability of an error in all
                choices.append((wrong, out, rest))
        if choices:
            choices.sort(key=lambda choice: -choice[0])
            if len(choices) == 1 or choices[0][0] >= _LESS_CERTAIN * choices[1][0]:
                return choices[0][2], list(choices[0][1])
            break
    raise SyncError(_contradiction(kept, views), hint="relate the views two by two, and look at sync.png")


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
    return max(error, 1e-5) if math.isfinite(error) else _DEFAULT_SE_S


def _solved(
    relations: Sequence[Relation], views: Sequence[str]
) -> tuple[dict[str, ClockMap], dict[str, float], dict[str, float]]:
    """Clocks of all views (the first is the reference), standard errors of their offsets in s and of drifts in ppm."""
    step = np.array([math.log(r.clock.rate) for r in relations])
    ppm = np.array([r.quality.drift_se_ppm for r in relations])
    ppm = np.where(np.isfinite(ppm), np.maximum(ppm, 0.01), _DEFAULT_SE_PPM)
    logs, drift_se = _least_squares(relations, views, step, ppm * 1e-6)
    rates = {view: math.exp(value) for view, value in logs.items()}
    difference = np.array([
        rates[r.first] * float(r.clock.to_session(r.middle_s)) - rates[r.second] * r.middle_s for r in relations
    ])  # fmt: skip
    offsets, offset_se = _least_squares(relations, views, difference, np.array([_offset_se(r) for r in relations]))
    clocks = {view: ClockMap(offsets[view], rates[view]) for view in views}
    return clocks, offset_se, {view: error * 1e6 for view, error in drift_se.items()}


def _least_squares(
    relations: Sequence[Relation], views: Sequence[str], difference: Array, error: Array
) -> tuple[dict[str, float], dict[str, float]]:
    """Values of all views (0 for the first) whose differences, second minus first, fit `difference` (P,) best.

    Also their standard errors; error (P,) are those of the differences.
    """
    rows = np.zeros((len(relations), len(views)))
    for row, relation in zip(rows, relations, strict=True):
        row[views.index(relation.second)] += 1
        row[views.index(relation.first)] -= 1
    rows = rows[:, 1:] / error[:, None]
    normal = rows.T @ rows
    values = np.linalg.solve(normal, rows.T @ (difference / error))
    errors = np.sqrt(np.diag(np.linalg.inv(normal)))
    named = [dict(zip(views, [0.0, *row.tolist()], strict=True)) for row in (values, errors)]
    return named[0], named[1]


def _quality(view: str, reference: str, relations: Sequence[Relation]) -> ClockQuality:
    """Quality of the most certain chain of pairs from the reference: product of confidences, rest of the weakest."""
    best: dict[str, ClockQuality] = {reference: ClockQuality(1.0)}
    for _ in relations:
        for r in relations:
            for here, there in ((r.first, r.second), (r.second, r.first)):
                if here not in best:
                    continue
                confidence = best[here].confidence * r.quality.confidence
                if there not in best or confidence > best[there].confidence:
                    weakest = r.quality if here == reference else min(best[here], r.quality, key=lambda q: q.confidence)
                    best[there] = replace(weakest, confidence=confidence)
    return best[view]
