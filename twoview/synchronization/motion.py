"""Clocks from the athlete's motion: detections of one body by two views, no sound, calibration or special gesture."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np
from numpy import ndarray as Array
from scipy.special import stdtr

from twoview.config import SyncConfig
from twoview.errors import SyncError
from twoview.poses import Poses2D
from twoview.progress import OnProgress, Progress, report
from twoview.synchronization import clock_graph
from twoview.synchronization.clock_graph import Relation
from twoview.synchronization.motion_matching import RATE, Fit, Moves, coarse, lowest, moves, refine
from twoview.timeline import ClockMap, ClockQuality, Sync

_SAME = (-3.55, -2.47, 4.17, -22.2)  # log odds of one motion: per log of share, misfit, seconds; and constant
_LEAST_MISFIT = 0.003  # a body fits no better with a real detector
_LEAST, _MOST_LIKENESS = 0.5, 0.9  # probability relied on; how near a rival's evidence may come
_MOST_LEFT = 0.5  # of the movement may be left over: else hardly anything moved
_SE_FACTOR, _SE_LEAST_S = 1.3, 0.0003  # stretches of a take are not quite independent
_APART_S = 0.1  # answers nearer than this are one
_USUAL_DRIFT_PPM = 40.0  # of two phones; a short take cannot tell it, and is taken to have none
_DRIFT_FROM_S = 30.0
_HALF_FRAME_S = 1 / 60  # at 30 frames a second
_REACH_S = 0.08  # how far the motion is sought from where the sound says
_FAR_S = 0.025  # sound's way and phones' lags together seldom exceed this


@dataclass(frozen=True, eq=False)
class MotionMatch:
    """The likeliest answer with its evidence. Rely on it only where `refusal` is empty.

    clock          from b's clock to a's; quality as in a Sync
    middle_s       middle of what both saw, seconds of b
    time, delay    (K,) s  middles of stretches in b; how much later than `clock` says each is in a
    used           (K,)    stretches that agree
    lags, heights  (L,) the coarse curve: offset in s, evidence in nats
    share          of the movement that one geometry leaves over, 1 where the views are unrelated
    misfit         median distance of the joints from that geometry, sizes of the body
    likeness       evidence for the best other answer, against this one's
    """

    clock: ClockMap
    quality: ClockQuality
    refusal: str
    middle_s: float = 0.0
    time: Array = field(default_factory=lambda: np.zeros(0))
    delay: Array = field(default_factory=lambda: np.zeros(0))
    used: Array = field(default_factory=lambda: np.zeros(0, bool))
    lags: Array = field(default_factory=lambda: np.zeros(0))
    heights: Array = field(default_factory=lambda: np.zeros(0))
    share: float = 1.0
    misfit: float = 1.0
    likeness: float = 0.0


def match(
    a: Poses2D, b: Poses2D, config: SyncConfig | None = None, *, stretch: tuple[float, float] = (1.0, 1.0)
) -> MotionMatch:
    """Relate two detections. Never raises for what it sees: `refusal` says why an answer cannot be relied on.

    stretch  seconds of each view's clock that one real second takes: 8 for 240 frames a second played at 30
    """
    config = config or SyncConfig()
    views = moves(a, stretch[0]), moves(b, stretch[1])
    for view, name in zip(views, (a.view or "the first view", b.view or "the second view"), strict=True):
        if view.seconds < config.min_overlap_s:
            seen = f"{name} shows the athlete for {view.seconds:.1f} s"
            return MotionMatch(ClockMap(), ClockQuality(0.0), f"{seen}, and {config.min_overlap_s:g} s are needed")
    lags, heights, found = coarse(*views, 0.9 * config.min_overlap_s)
    fits = [fit for lag in found if (fit := refine(*views, lag)) is not None]
    if not fits:
        return MotionMatch(ClockMap(), ClockQuality(0.0), "nothing in the two motions fits together")
    fits.sort(key=lambda fit: -fit.evidence)
    started = views[0].start - views[1].start
    return _judged(views, stretch, fits, stretch[0] * (started + lags / RATE), heights)


def nudge(
    a: Poses2D, b: Poses2D, clock: ClockMap, *, reach_s: float = _REACH_S, stretch: tuple[float, float] = (1.0, 1.0)
) -> tuple[float, float]:
    """How much later in a than `clock` says the motion of b is, up to `reach_s`, and its standard error; seconds.

    The refinement of a clock from sound: it takes off what the sound's way and a phone's own lag put on. NaN where
    the motion shows nothing, or nothing within reach.
    """
    drift = clock.rate * stretch[1] / stretch[0]  # without slow motion
    views = moves(a, stretch[0]), moves(replace(b, time=b.time * drift), stretch[1])
    lag = (clock.offset_s / stretch[0] - views[0].start + views[1].start) * RATE
    reach = math.ceil(reach_s * RATE)
    fit = refine(*views, lag, reach=reach)
    if fit is None or fit.share > _MOST_LEFT or abs(fit.lag - lag) > reach:
        return math.nan, math.nan
    return stretch[0] * (fit.lag - lag) / RATE, stretch[0] * _standard_error(fit)


@dataclass(frozen=True, eq=False)
class Evidence:
    """A sync with what every pair of views says, also those not relied on."""

    sync: Sync
    relations: tuple[Relation, ...]


def relate(
    poses: Mapping[str, Poses2D],
    *,
    reference: str | None = None,
    stretch: Mapping[str, float] | None = None,
    config: SyncConfig | None = None,
    on_progress: OnProgress | None = None,
) -> Evidence:
    """How the clocks of views relate, from their detections (view name -> poses), with the evidence.

    Raises SyncError, with the reason, rather than giving an offset that cannot be relied on.
    """
    reference = reference or next(iter(poses))
    slow, pairs, relations = stretch or {}, list(combinations(poses, 2)), []
    for done, (first, second) in enumerate(pairs):
        report(on_progress, Progress("compare motion", done, len(pairs), "pairs"))
        both = slow.get(first, 1.0), slow.get(second, 1.0)
        m = match(poses[first], poses[second], config, stretch=both)
        relations.append(Relation(first, second, m.clock, m.quality, m.refusal, m.middle_s, m.time, m.delay, m.used,
                                  m.lags, m.heights, "evidence (nats)"))  # fmt: skip
    report(on_progress, Progress("compare motion", len(pairs), len(pairs), "pairs"))
    return Evidence(clock_graph.solve(relations, reference, "motion", hint=_BY_HAND), tuple(relations))


_BY_HAND = "give it by hand: twoview sync a.mp4 b.mp4 --at a=12.30 --at b=4.10"


def check(
    sync: Sync,
    poses: Mapping[str, Poses2D],
    *,
    stretch: Mapping[str, float] | None = None,
    config: SyncConfig | None = None,
) -> Sync:
    """The same sync, with what the motion says of each view beside it; a warning where they are half a frame apart."""
    slow, quality, warnings = stretch or {}, dict(sync.quality), list(sync.warnings)
    for view, found in sync.quality.items():
        if view not in poses or sync.reference not in poses:
            continue
        both = slow.get(sync.reference, 1.0), slow.get(view, 1.0)
        m = match(poses[sync.reference], poses[view], config, stretch=both)
        if m.refusal:
            continue
        late = float(m.clock.to_session(m.middle_s) - sync.to_session(view, m.middle_s))
        quality[view] = replace(found, motion_s=late, motion_se_s=m.quality.offset_se_s)
        if abs(late) > _HALF_FRAME_S:
            ours, theirs = (float(c.to_session(m.middle_s)) - m.middle_s for c in (sync.clocks[view], m.clock))
            warnings.append(
                f"{view}: {sync.method} and motion disagree by {late * 1000:+.0f} ms, more than half a frame: "
                f"it began {ours:.3f} s after {sync.reference} by {sync.method}, {theirs:.3f} s by motion"
            )
    return replace(sync, quality=quality, warnings=tuple(warnings))


def refined(sync: Sync, poses: Mapping[str, Poses2D], *, stretch: Mapping[str, float] | None = None) -> Sync:
    """A sync from sound with its offsets set by motion: without the sound's way and the phones' own lags.

    Drift stays what the sound said. Raises SyncError where a view shows too little motion for it.
    """
    slow, clocked, quality, warnings = stretch or {}, dict(sync.clocks), dict(sync.quality), list(sync.warnings)
    for view in sync.views[1:]:
        both = slow.get(sync.reference, 1.0), slow.get(view, 1.0)
        late, error = nudge(poses[sync.reference], poses[view], sync.clocks[view], stretch=both)
        if math.isnan(late):
            raise SyncError(
                f"{view} shows too little motion to refine its clock within {_REACH_S * 1000:.0f} ms of the sound's",
                hint="leave --refine out",
            )
        clocked[view] = replace(sync.clocks[view], offset_s=sync.clocks[view].offset_s + late)
        if view in quality:
            quality[view] = replace(quality[view], motion_s=0.0, motion_se_s=error, offset_se_s=error)
        if abs(late) > _FAR_S:
            warnings.append(f"{view}: motion is {late * 1000:+.0f} ms off the sound; more than phones usually are")
    return replace(sync, clocks=clocked, quality=quality, method=f"{sync.method}+motion", warnings=tuple(warnings))


def _judged(
    views: tuple[Moves, Moves], stretch: tuple[float, float], fits: list[Fit], lags: Array, heights: Array
) -> MotionMatch:
    """The best fit with its confidence, or with the reason why it should not be relied on."""
    best, (a, b) = fits[0], views
    others = [fit for fit in fits if abs(fit.lag - best.lag) > _APART_S * RATE]
    likeness = max(others[0].evidence, 0.0) / max(best.evidence, 1e-9) if others else 0.0
    same = _same_motion(best)
    error = _standard_error(best)
    right, refusal = _right(error, len(best.curve)), ""
    if same < _LEAST:
        refusal = (
            f"too little shared motion: at best {max(1 - best.share, 0):.0%} of it agrees for {best.seconds:.1f} s, "
            f"with joints {best.misfit:.1%} of the body off; {same:.0%} sure, and {_LEAST:.0%} is needed"
        )
    elif likeness > _MOST_LIKENESS:
        apart = abs(others[0].lag - best.lag) / RATE
        refusal = f"the motion repeats itself: two delays {apart:.2f} s apart fit alike ({likeness:.0%})"
    elif same * right < _LEAST:
        refusal = (
            f"the motion is too gentle to tell the moment: ± {error * 1000:.0f} ms, and half a frame is "
            f"{_HALF_FRAME_S * 1000:.0f} ms"
        )
    time = b.start + best.time / RATE
    delay = np.array([lowest(best.steps, row) - best.lag for row in best.curve]) / RATE
    weight = np.array([_bend(row) for row in best.curve])
    drift, drift_se = _drift(time, delay, weight, best.seconds)
    middle = float(np.average(time, weights=weight + 1e-9))
    late = a.start - b.start + best.lag / RATE
    delay -= drift * (time - middle)
    used = (np.abs(delay) < _HALF_FRAME_S) & (weight > 0)
    quality = ClockQuality(
        same * right * _unique(likeness), stretch[0] * error, drift_se * 1e6, best.seconds,
        (int(used.sum()), len(used)), float(np.median(np.abs(delay[used]))) if used.any() else math.nan,
    )  # fmt: skip
    rate = (1 + drift) * stretch[0] / stretch[1]
    clock = ClockMap(stretch[0] * (late - drift * middle), rate)
    where = stretch[1] * time
    return MotionMatch(clock, quality, refusal, stretch[1] * middle, where, stretch[0] * delay, used, lags, heights,
                       best.share, best.misfit, likeness)  # fmt: skip


def _same_motion(fit: Fit) -> float:
    """Chance that both views show one motion at that delay, as fitted on `tests/benchmarks/motionsync.py`."""
    if fit.share > _MOST_LEFT:
        return 0.0
    per_share, per_misfit, per_second, odds = _SAME
    odds += per_share * math.log(fit.share) + per_misfit * math.log(max(fit.misfit, _LEAST_MISFIT))
    return 1 / (1 + math.exp(-np.clip(odds + per_second * math.log(fit.seconds), -50, 50)))


def _right(error_s: float, stretches: int) -> float:
    """Chance that an answer with this standard error, from so many stretches, is right within half a frame."""
    return float(2 * stdtr(stretches - 1, _HALF_FRAME_S / error_s) - 1)


def _unique(likeness: float) -> float:
    return 1 / (1 + math.exp(20 * (likeness - 1.0)))


def _bend(curve: Array) -> float:
    """How sharp a curve's lowest place is: its second difference, 0 at the border."""
    at = int(np.argmin(curve))
    if not 2 <= at < len(curve) - 2:
        return 0.0
    return max(float(curve[at - 2] - 2 * curve[at] + curve[at + 2]), 0.0)


def _standard_error(fit: Fit) -> float:
    """Of the delay in seconds, by leaving out one stretch at a time."""
    whole, count = fit.curve.sum(axis=0), len(fit.curve)
    without = np.array([lowest(fit.steps, whole - row) for row in fit.curve]) / RATE
    error = float(np.sqrt((count - 1) / count * np.square(without - without.mean()).sum()))
    return max(_SE_FACTOR * error, _SE_LEAST_S)


def _drift(time: Array, delay: Array, weight: Array, seconds: float) -> tuple[float, float]:
    """Drift and its standard error, drawn towards none by what phones usually have; for a short take just that."""
    usual = _USUAL_DRIFT_PPM * 1e-6
    keep = weight > 0
    if seconds < _DRIFT_FROM_S or keep.sum() < 4:
        return 0.0, usual
    time, delay, weight = time[keep], delay[keep], weight[keep]
    away = np.abs(delay - np.median(delay))
    near = away <= max(4 * 1.4826 * float(np.median(away)), 0.005)
    time, delay, weight = time[near], delay[near], weight[near]
    centered = time - np.average(time, weights=weight)
    spread = float((weight * centered**2).sum())
    slope = float((weight * centered * delay).sum()) / max(spread, 1e-9)
    rest = delay - np.average(delay, weights=weight) - slope * centered
    variance = float((weight * rest**2).sum()) / max(len(rest) - 2, 1) / max(spread, 1e-9)
    share = usual**2 / (usual**2 + variance)
    return share * slope, float(np.sqrt(share * variance))
