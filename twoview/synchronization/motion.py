"""Clocks from the athlete's motion: detections of one body in two views; no sound, calibration or special gesture."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations

import numpy as np
from numpy import ndarray as Array
from scipy.special import stdtr, stdtrit

from twoview.config import SyncConfig
from twoview.errors import SyncError
from twoview.poses import Poses2D
from twoview.progress import OnProgress, Progress, report
from twoview.synchronization import several_views
from twoview.synchronization.motion_clocks import (
    RATE,
    Candidate,
    Trajectories,
    coarse_lags,
    lowest,
    refine,
    trajectories,
)
from twoview.synchronization.several_views import Relation
from twoview.timeline import HALF_FRAME_S, ClockMap, ClockQuality, Sync, probability_within

_LOG_ODDS = (-3.55, -2.47, 4.17, -22.2)  # of one motion: per log of share, misfit and seconds; constant
_LEAST_MISFIT = 0.003  # no body fits better with a real detector
_LEAST_PROBABILITY, _MOST_LIKENESS = 0.5, 0.9  # limits of what is accepted; likeness: a rival's evidence, of the best's
_MOST_SHARE = 0.5  # of the movement may remain as residual; above, hardly anything moved
_SE_FACTOR, _LEAST_SE_S = 1.3, 0.0003  # windows of a take are not quite independent
_RESTART, _LEAST_DELAY_SE_S = 6, 0.0008  # grid points; errors that are the same in all windows
_WITHIN_TWO = 0.977  # share of normal errors below two standard errors
_SAME_ANSWER_S = 0.1  # answers nearer than this are one
_USUAL_DRIFT_PPM = 40.0  # of two phones; takes shorter than _DRIFT_FROM_S do not show it and are taken to have none
_DRIFT_FROM_S = 30.0
_REACH_S = 0.08  # largest difference from the sound that a refinement searches
_USUAL_SOUND_S = 0.0075  # error of a clock by sound whose allowance is not known
_CONTRADICTS = 4.0  # standard errors of the motion by which the sound's clock must be off to be doubted
_HARMLESS_S, _SURE = 0.002, 4.0  # see `_combined`
_UNUSUAL_S = 0.025  # travel time of the sound and delays inside phones together seldom exceed this
_BY_HAND = "give it by hand: `twoview sync a.mp4 b.mp4 --at a=12.30 --at b=4.10`"


def relate_poses(
    poses: Mapping[str, Poses2D],
    *,
    reference: str | None = None,
    slowdown: Mapping[str, float] | None = None,
    config: SyncConfig | None = None,
    on_progress: OnProgress | None = None,
) -> tuple[Sync, list[Relation]]:
    """The clocks of views (view name -> poses), and the relations of all pairs that they rest on.

    Raises SyncError, with the reason, where no offset can be relied on.
    """
    slow, pairs, relations = slowdown or {}, list(combinations(poses, 2)), []
    for done, (first, second) in enumerate(pairs):
        report(on_progress, Progress("compare motion", done, len(pairs), "pairs"))
        both = slow.get(first, 1.0), slow.get(second, 1.0)
        relation = match_poses(poses[first], poses[second], config, slowdown=both)
        relations.append(replace(relation, first=first, second=second, unit="evidence (nats)"))
    report(on_progress, Progress("compare motion", len(pairs), len(pairs), "pairs"))
    return several_views.solve(relations, reference or next(iter(poses)), "motion", hint=_BY_HAND), relations


def add_by_motion(
    sync: Sync,
    view: str,
    poses: Mapping[str, Poses2D],
    *,
    slowdown: Mapping[str, float] | None = None,
    config: SyncConfig | None = None,
) -> Sync:
    """The same sync with the clock of one more view, related by its motion to the view of the sync that it fits best.

    Raises SyncError, with the reasons, where it fits none.
    """
    slow, found = slowdown or {}, []
    for known in (one for one in sync.views if one in poses):
        both = slow.get(known, 1.0), slow.get(view, 1.0)
        found.append(replace(match_poses(poses[known], poses[view], config, slowdown=both), first=known, second=view))
    kept = [relation for relation in found if not relation.refusal]
    if not kept:
        reasons = "; ".join(f"{relation.name}: {relation.refusal}" for relation in found)
        raise SyncError(f"{view} cannot be related by motion: {reasons}", hint=_BY_HAND)
    best = max(kept, key=lambda relation: relation.quality.confidence)
    before = sync.quality.get(best.first, ClockQuality(1.0))
    error = math.hypot(best.quality.offset_se_s, 0.0 if math.isnan(before.error_s) else before.error_s / 2)
    quality = replace(best.quality, confidence=best.quality.confidence * before.confidence, offset_se_s=error)
    return replace(
        sync,
        clocks={**sync.clocks, view: several_views.chained(sync.clocks[best.first], best.clock)},
        quality={**sync.quality, view: quality},
    )


def compare_with_motion(
    sync: Sync,
    poses: Mapping[str, Poses2D],
    *,
    slowdown: Mapping[str, float] | None = None,
    config: SyncConfig | None = None,
) -> Sync:
    """The same sync, with each view's difference to the motion; a warning where they are clearly half a frame apart."""
    slow, quality, warnings = slowdown or {}, dict(sync.quality), list(sync.warnings)
    for view, known in sync.quality.items():
        if view not in poses or sync.reference not in poses:
            continue
        both = slow.get(sync.reference, 1.0), slow.get(view, 1.0)
        found = match_poses(poses[sync.reference], poses[view], config, slowdown=both)
        if found.refusal:
            continue
        at = found.middle_s
        delay = float(found.clock.to_session(at) - sync.to_session(view, at))
        quality[view] = replace(known, motion_s=delay, motion_se_s=found.quality.offset_se_s)
        if abs(delay) > max(HALF_FRAME_S, 2 * found.quality.offset_se_s):
            by_sync, by_motion = (float(c.to_session(at)) - at for c in (sync.clocks[view], found.clock))
            warnings.append(
                f"{view}: {sync.method} and motion disagree by {delay * 1000:+.0f} ms, more than half a frame: "
                f"{view} began {by_sync:.3f} s after {sync.reference} by {sync.method}, {by_motion:.3f} s by motion"
            )
    return replace(sync, quality=quality, warnings=tuple(warnings))


def refine_with_motion(
    sync: Sync, poses: Mapping[str, Poses2D], *, slowdown: Mapping[str, float] | None = None
) -> Sync:  # fmt: skip
    """A sync from sound with offsets corrected by motion: without the way of the sound and delays inside phones.

    Sound and motion are combined by their errors; the drift remains that of the sound. A view whose motion is known
    less well than its sound keeps the clock of the sound, with a warning. Raises SyncError where all views do.
    """
    slow, clocks, quality, warnings = slowdown or {}, dict(sync.clocks), dict(sync.quality), list(sync.warnings)
    kept = []
    for view in sync.views[1:]:
        both = slow.get(sync.reference, 1.0), slow.get(view, 1.0)
        delay, motion = (
            value / both[0]
            for value in motion_delay(poses[sync.reference], poses[view], sync.clocks[view], slowdown=both)
        )
        known = quality.get(view, ClockQuality(1.0))
        sound = _sound_error(known, both[0])
        if math.isnan(delay):
            kept.append(f"{view} shows too little motion within {_REACH_S * 1000:.0f} ms of the sound's clock")
            continue
        if motion > (max(sound, _USUAL_SOUND_S) if abs(delay) > _CONTRADICTS * motion else sound):
            kept.append(
                f"{view}: the motion knows the moment to ± {2000 * motion:.0f} ms, the sound to ± {2000 * sound:.0f} ms"
            )
            continue
        shift, error = _combined(delay, sound, motion)
        clocks[view] = replace(sync.clocks[view], offset_s=sync.clocks[view].offset_s + both[0] * shift)
        # The confidence of the sound is that of its delay and that of its error; the second is now another one.
        delay_right = min(known.confidence / max(probability_within(HALF_FRAME_S, sound), 1e-9), 1.0)
        quality[view] = replace(
            known, confidence=delay_right * probability_within(HALF_FRAME_S, error), offset_se_s=both[0] * error,
            travel_s=0.0, motion_s=both[0] * (delay - shift), motion_se_s=both[0] * motion,
        )  # fmt: skip
        if abs(delay) > _UNUSUAL_S:
            warnings.append(f"{view}: motion is {delay * 1000:+.0f} ms off the sound; more than phones usually are")
    if len(kept) == len(sync.views) - 1:
        raise SyncError(f"motion cannot correct the clocks: {'; '.join(kept)}", hint="leave --refine out")
    warnings += [f"{reason}: its clock stays that of the sound" for reason in kept]
    return replace(sync, clocks=clocks, quality=quality, method=f"{sync.method}+motion", warnings=tuple(warnings))


def _sound_error(known: ClockQuality, slowdown: float) -> float:
    """Standard error of a clock by sound in real seconds: the way of the sound is not known."""
    return _USUAL_SOUND_S if math.isnan(known.error_s) else max(known.error_s / 2 / slowdown, _LEAST_SE_S)


def _combined(delay: float, sound: float, motion: float) -> tuple[float, float]:
    """How far to move a clock of the sound towards the motion, and the standard error of the result; seconds.

    delay  of the motion against the sound; sound, motion: their standard errors

    The mean by both errors, but no farther than leaves the result worse than the sound by more than _HARMLESS_S only if
    the mean is _SURE standard errors off: what is moved beyond twice the error is on the far side of the truth.
    """
    sound = max(sound, abs(delay) / 2)  # far apart, the sound has an error that the allowance does not know
    weight = sound**2 / (sound**2 + motion**2)
    best, error = weight * abs(delay), motion * weight**0.5
    shift = min(best, _HARMLESS_S + max(2 * (best - _SURE * error), 0.0))
    return math.copysign(shift, delay), math.hypot(error, best - shift)


def motion_delay(
    a: Poses2D, b: Poses2D, clock: ClockMap, *, reach_s: float = _REACH_S, slowdown: tuple[float, float] = (1.0, 1.0)
) -> tuple[float, float]:
    """How much later than `clock` says the motion of b is in a, up to `reach_s`, and its standard error; seconds.

    Both are NaN where there is no motion, or no agreement within reach. In slow motion the geometry can take the place
    of a delay; then the answer depends on where the search began, which counts as an error.
    """
    drift = clock.rate * slowdown[1] / slowdown[0]  # without slow motion
    views = trajectories(a, slowdown[0]), trajectories(replace(b, time=b.time * drift), slowdown[1])
    lag = (clock.offset_s / slowdown[0] - views[0].start + views[1].start) * RATE
    reach = math.ceil(reach_s * RATE)
    found = refine(*views, lag, reach=reach)
    if found is None or found.share > _MOST_SHARE or abs(found.lag - lag) > reach:
        return math.nan, math.nan
    again = [refine(*views, found.lag + other, reach=_RESTART) for other in (-_RESTART / 2, _RESTART / 2)]
    lags = [found.lag, *(other.lag for other in again if other is not None)]
    own = _for_few_windows(_standard_error(found), found)
    error = math.hypot(own, float(np.ptp(lags)) / RATE, _LEAST_DELAY_SE_S)
    return slowdown[0] * (found.lag - lag) / RATE, slowdown[0] * error


def match_poses(
    a: Poses2D, b: Poses2D, config: SyncConfig | None = None, *, slowdown: tuple[float, float] = (1.0, 1.0)
) -> Relation:
    """How the clocks of two views relate. Never raises: `refusal` says why a relation cannot be relied on.

    slowdown  seconds of each view's clock that one real second takes: 8 for 240 frames per second played at 30
    """
    config = config or SyncConfig()
    views = trajectories(a, slowdown[0]), trajectories(b, slowdown[1])
    for view, name in zip(views, (a.view or "the first view", b.view or "the second view"), strict=True):
        if view.seconds < config.min_overlap_s:
            shown = f"{name} shows the athlete for {view.seconds:.1f} s"
            refusal = f"{shown}, and {config.min_overlap_s:g} s are needed"
            return Relation(a.view, b.view, ClockMap(), ClockQuality(0.0), refusal)
    lags, heights, likeliest = coarse_lags(*views, 0.9 * config.min_overlap_s)
    candidates = [found for lag in likeliest if (found := refine(*views, lag)) is not None]
    if not candidates:
        refusal = "nothing in the two motions fits together"
        return Relation(a.view, b.view, ClockMap(), ClockQuality(0.0), refusal)
    candidates.sort(key=lambda candidate: -candidate.evidence)
    lags_s = slowdown[0] * (views[0].start - views[1].start + lags / RATE)
    relation = _judge(views, slowdown, candidates)
    return replace(relation, first=a.view, second=b.view, lags=lags_s, heights=heights)


def _judge(
    views: tuple[Trajectories, Trajectories], slowdown: tuple[float, float], candidates: list[Candidate]
) -> Relation:
    """The relation by the first candidate, with its confidence or with the reason why it should be refused."""
    best, (a, b) = candidates[0], views
    others = [c for c in candidates if abs(c.lag - best.lag) > _SAME_ANSWER_S * RATE]
    likeness = max(others[0].evidence, 0.0) / max(best.evidence, 1e-9) if others else 0.0
    same = _same_motion(best)
    error, refusal = _standard_error(best), ""
    # Probability that an offset with this standard error, from so many windows, is right within half a frame.
    right = float(2 * stdtr(len(best.curve) - 1, HALF_FRAME_S / error) - 1)
    if same < _LEAST_PROBABILITY:
        refusal = (
            f"too little shared motion: at best {max(1 - best.share, 0):.0%} of it agrees for {best.seconds:.1f} s, "
            f"with joints {best.misfit:.1%} of the body off; {same:.0%} sure, and {_LEAST_PROBABILITY:.0%} is needed"
        )
    elif likeness > _MOST_LIKENESS:
        apart = abs(others[0].lag - best.lag) / RATE
        refusal = f"the motion repeats itself: two delays {apart:.2f} s apart fit alike ({likeness:.0%})"
    elif same * right < _LEAST_PROBABILITY:
        refusal = (
            f"the motion is too gentle to find the moment: ± {error * 1000:.0f} ms, and half a frame is "
            f"{HALF_FRAME_S * 1000:.0f} ms"
        )
    time = b.start + best.time / RATE
    delay = np.array([lowest(best.steps, row) - best.lag for row in best.curve]) / RATE
    weight = np.array([_sharpness(row) for row in best.curve])
    drift, drift_se = _drift(time, delay, weight, best.seconds)
    middle = float(np.average(time, weights=weight + 1e-9))
    offset = a.start - b.start + best.lag / RATE
    delay -= drift * (time - middle)
    used = (np.abs(delay) < HALF_FRAME_S) & (weight > 0)
    unique = 1 / (1 + math.exp(20 * (likeness - 1.0)))  # probability that the best candidate is the right one
    quality = ClockQuality(
        same * right * unique, slowdown[0] * _for_few_windows(error, best), drift_se * 1e6, best.seconds,
        (int(used.sum()), len(used)), float(np.median(np.abs(delay[used]))) if used.any() else math.nan,
    )  # fmt: skip
    clock = ClockMap(slowdown[0] * (offset - drift * middle), (1 + drift) * slowdown[0] / slowdown[1])
    return Relation(
        "", "", clock, quality, refusal,
        middle_s=slowdown[1] * middle, time=slowdown[1] * time, delay=slowdown[0] * delay, used=used,
    )  # fmt: skip


def _same_motion(found: Candidate) -> float:
    """Probability that both views show one motion at that lag, fitted on `tests/benchmarks/motionsync.py`."""
    if found.share > _MOST_SHARE:
        return 0.0
    per_share, per_misfit, per_second, odds = _LOG_ODDS
    odds += per_share * math.log(found.share) + per_misfit * math.log(max(found.misfit, _LEAST_MISFIT))
    return 1 / (1 + math.exp(-np.clip(odds + per_second * math.log(found.seconds), -50, 50)))


def _sharpness(curve: Array) -> float:
    """How sharp the minimum of a curve is: its second difference, 0 at the border."""
    at = int(np.argmin(curve))
    if not 2 <= at < len(curve) - 2:
        return 0.0
    return max(float(curve[at - 2] - 2 * curve[at] + curve[at + 2]), 0.0)


def _standard_error(found: Candidate) -> float:
    """Standard error of the lag in seconds: a jackknife that leaves out one window at a time."""
    whole, count = found.curve.sum(axis=0), len(found.curve)
    without = np.array([lowest(found.steps, whole - row) for row in found.curve]) / RATE
    error = float(np.sqrt((count - 1) / count * np.square(without - without.mean()).sum()))
    return max(_SE_FACTOR * error, _LEAST_SE_S)


def _for_few_windows(error: float, found: Candidate) -> float:
    """A standard error that holds the truth as often as that of a normal error: few windows know their spread badly."""
    return error * float(stdtrit(len(found.curve) - 1, _WITHIN_TWO)) / 2


def _drift(time: Array, delay: Array, weight: Array, seconds: float) -> tuple[float, float]:
    """Drift and its standard error, with the usual drift of phones as prior; for a short take 0 and the usual drift."""
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
