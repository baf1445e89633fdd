"""Which track is the athlete, and how sure that is: by whole tracks, by all views of a take together, or by hand.

Each view says how likely each of its tracks is the athlete. Where the views are synchronized, every two tracks of
different views are compared: one body moves alike in both, at the same moments and under one geometry. Both together
give the probability of every combination of tracks, and so the sureness of a choice. For the choice by hand people.png
shows one row of small pictures per track.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations, product
from pathlib import Path

import numpy as np
from numpy import ndarray as Array

from twoview.detection.tracking import People, height_of, middle_of, poses_of_track
from twoview.errors import DetectorError
from twoview.media.opencv import cv2
from twoview.media.video import frames
from twoview.skeleton import Skeleton
from twoview.storage import records
from twoview.synchronization.motion_clocks import RATE, Trajectories, coarse_lags, refine, trajectories
from twoview.timeline import Sync

# Log odds per unit of what is measured, fitted by `tests/benchmarks/athletes.py --fit --seeds 16` on motion capture.
COVERAGE, SIZE, CENTRAL, MOTION = 1.42, 2.87, 3.99, 1.11  # that a track is the athlete
ONE_BODY, SHARE, MISFIT, EXCESS = -7.95, 0.48, 2.05, 1.27  # that two tracks of two views are one body

LARGE = 0.5  # of the picture's height: who is larger is no likelier for that
STILL, FAST = 0.1, 1.0  # body sizes per second: less is a detector's noise; who is faster is no likelier for that
STEP_S = 0.25  # time over which motion is measured
CROSSED = 0.1  # share of a box that another box covers: from here on its joints may be the other's

MOST_EVIDENCE = 5.0  # nats that two tracks' motion can say: a chance of 1 in 150 remains
SURELY_ONE = 0.9  # least probability that two tracks are one body, on which other views overrule a view
UNSEEN = 0.05  # probability that no track of a view shows the athlete well enough to be compared
MUCH_LESS = 2.0  # nats by which a track is too much less like an athlete for that
COMPARED, FEWER = 4, 3  # tracks per view that are compared with other views: the likeliest; with many views fewer
MOST_COMPARED_S = 120.0  # of the views' shared time
LEAST_COMPARED_S = 1.5
LEAST_MISFIT = 0.004  # of the body: no detector's joints fit one geometry better
CLOCK_ERROR_S = 0.1  # the clocks' difference may be wrong by this much
OTHER_MOMENTS_S = 0.5  # shifts in time from which on the motions should no longer agree

SIDE = 120  # px of one small picture
SHOTS = 8  # small pictures per row
MOST_ROWS = 12
MARGIN = 0.15  # around the person, as a share of its box


@dataclass(frozen=True, eq=False)
class Crowd:
    """Everyone in one view, as joined tracks; size (width, height) px of the pictures they were found in."""

    people: People
    skeleton: Skeleton
    size: tuple[int, int]


@dataclass(frozen=True)
class Choice:
    """The athlete in one view.

    track     number of the track
    people    number of tracks in the view
    sureness  probability that this is the athlete; 1 where chosen by hand, and where there is nobody else
    chances   track -> that probability, the likeliest first
    together  whether other views had a say
    by_hand   whether a person chose
    """

    track: int
    people: int
    sureness: float
    chances: Mapping[int, float]
    together: bool = False
    by_hand: bool = False


@dataclass(frozen=True)
class TrackSummary:
    """What the athlete is chosen by.

    start_s, end_s  seconds of the first and the last frame, on the view's clock
    coverage        share of the video's frames in which the track was seen
    size            median height over the picture's height, at most 1
    motion          how fast the joints move within the body, body sizes per second
    central         1 in the middle of the picture, 0 at its edge
    """

    track: int
    start_s: float
    end_s: float
    coverage: float
    size: float
    motion: float
    central: float

    @property
    def likeness(self) -> float:
        """Log odds, up to a constant of the view, that this is the athlete."""
        moving = np.log(STILL + min(self.motion, FAST))
        seen = COVERAGE * np.log(self.coverage) + SIZE * np.log(min(self.size, LARGE))
        return float(seen + CENTRAL * self.central + MOTION * moving)


def summarize(people: People, size: tuple[int, int]) -> list[TrackSummary]:
    """One summary per track, the likeliest athlete first. size (width, height) px of the picture."""
    rows = []
    for track in people.tracks:
        own = people.of(track)
        height = max(float(np.median(height_of(own.box))), 1.0)
        off = np.abs(middle_of(own.box) / np.array(size) - 0.5).max(axis=1) * 2
        rows.append(
            TrackSummary(
                track, float(people.time[own.frame[0]]), float(people.time[own.frame[-1]]),
                len(np.unique(own.frame)) / max(len(people.time), 1), min(height / size[1], 1.0),
                _motion(own, height, ~_crossed(people, own)), float(np.clip(1 - np.median(off), 0, 1)),
            )
        )  # fmt: skip
    return sorted(rows, key=lambda row: (-row.likeness, row.track))


def _motion(own: People, height: float, clear: Array) -> float:
    """Speed of the joints about the body's center, body sizes per second: the 90th percentile over time.

    clear  (N,) the frames in which nobody else's joints can be taken for this person's
    """
    time = own.time[own.frame]
    later = np.minimum(np.searchsorted(time, time + STEP_S - 1e-6), len(time) - 1)
    step = time[later] - time
    known = (step > 0) & (step < 2 * STEP_S) & clear & clear[later]
    if not known.any():
        return 0.0
    inside = own.xy - np.nanmedian(own.xy, axis=1, keepdims=True)
    speed = np.linalg.norm(inside[later] - inside, axis=-1)[known] / step[known, None]
    return float(np.nanpercentile(np.nanmedian(speed, axis=1), 90)) / height


def _crossed(people: People, own: People) -> Array:
    """Frames (N,) of a track in which somebody else's box covers part of its box."""
    crossed = np.zeros(len(own.frame), bool)
    area = np.maximum((own.box[:, 2:] - own.box[:, :2]).prod(axis=1), 1.0)
    for track in people.tracks:
        if track == own.track[0]:
            continue
        other = people.of(track)
        _, mine, theirs = np.intersect1d(own.frame, other.frame, return_indices=True)
        low = np.maximum(own.box[mine, :2], other.box[theirs, :2])
        high = np.minimum(own.box[mine, 2:], other.box[theirs, 2:])
        crossed[mine] |= np.clip(high - low, 0, None).prod(axis=1) > CROSSED * area[mine]
    return crossed


# --- the choice ----------------------------------------------------------------------------------------------------


def choose(people: People, size: tuple[int, int], person: int | None = None, *, least: float = 0.0) -> int:
    """The athlete's track: number `person`, or the likeliest of the whole video.

    least  sureness below which nobody is chosen
    Raises DetectorError where nobody was found, for a number that no track has, and where it is not sure enough.
    """
    return check_sure(choose_alone(people, size, person), least).track


def choose_alone(people: People, size: tuple[int, int], person: int | None = None) -> Choice:
    """The athlete by one view alone, or by hand.

    Raises DetectorError where nobody was found, and for a number that no track has.
    """
    ranked = summarize(people, size)
    if not ranked:
        raise DetectorError(
            f"no person found in any of {len(people.time)} frames",
            hint="is the athlete at least 60 px tall and in view? look with `twoview show VIDEO`",
        )
    chances = _chances(ranked)
    if person is None:
        return Choice(ranked[0].track, len(ranked), chances[ranked[0].track], chances)
    if person not in chances:
        known = ", ".join(str(row.track) for row in ranked)
        raise DetectorError(f"no person {person} in this video; there are {known}", hint="look at the people.png")
    return Choice(person, len(ranked), 1.0, chances, by_hand=True)


def _chances(ranked: list[TrackSummary]) -> dict[int, float]:
    """Track -> probability that it is the athlete, by one view alone."""
    odds = np.exp([row.likeness - ranked[0].likeness for row in ranked])
    return {row.track: float(odd / odds.sum()) for row, odd in zip(ranked, odds, strict=True)}


def check_sure(choice: Choice, least: float) -> Choice:
    """The same choice. Raises DetectorError where its sureness is below `least`, with the likeliest people."""
    if choice.by_hand or choice.sureness >= least:
        return choice
    likeliest = [f"person {track} ({chance:.0%})" for track, chance in list(choice.chances.items())[:3]]
    raise DetectorError(
        f"{choice.people} people, and who is the athlete is not clear: {', '.join(likeliest)}; {least:.0%} is needed",
        hint="look for the athlete's number in people.png, and name it: person=N",
    )


def choose_together(
    crowds: Mapping[str, Crowd], sync: Sync, *, by_hand: Mapping[str, int] | None = None
) -> dict[str, Choice]:
    """View -> the athlete, chosen by all views of a take together.

    by_hand  view -> track that a person chose

    A view is overruled only by tracks whose agreement cannot be chance, and never in favor of a track that is much less
    like an athlete than the one that it would take itself: there the sureness is low instead.
    Raises DetectorError where nobody was found in a view, and for a number by hand that no track has.
    """
    by_hand, views = by_hand or {}, list(crowds)
    alone = [choose_alone(crowd.people, crowd.size, by_hand.get(view)) for view, crowd in crowds.items()]
    most = COMPARED if len(crowds) < 3 else FEWER
    tracks = [list(dict.fromkeys((one.track, *one.chances)))[:most] for one in alone]
    moving = [
        [_trajectories(crowds[view], track, sync, view) for track in own]
        for view, own in zip(views, tracks, strict=True)
    ]
    same = {
        (a, b): _same(np.array([[one_body(x, y) for y in moving[b]] for x in moving[a]]))
        for a, b in combinations(range(len(views)), 2)
    }
    likely = [_likely(one, own) for one, own in zip(alone, tracks, strict=True)]
    chance = _marginals(likely, same)
    best = [int(row[:-1].argmax()) for row in chance]
    choices = {}
    for i, (view, one) in enumerate(zip(views, alone, strict=True)):
        row, at, own = chance[i], best[i], tracks[i].index(one.track)
        agree = [float(table[best[a], best[b]]) for (a, b), table in same.items() if i in (a, b)]
        if max(agree, default=0.0) < SURELY_ONE or np.log(likely[i][own] / likely[i][at]) > MUCH_LESS:
            at = own
        left = 1 - sum(one.chances[track] for track in tracks[i])  # the chances of tracks that were not compared
        chances = {**one.chances, **{t: (1 - left) * float(c) for t, c in zip(tracks[i], row[:-1], strict=True)}}
        chances = dict(sorted(chances.items(), key=lambda item: -item[1]))
        found = replace(one, track=tracks[i][at], sureness=chances[tracks[i][at]], chances=chances, together=True)
        choices[view] = one if one.by_hand or one.people == 1 else found
    return choices


def _likely(one: Choice, tracks: list[int]) -> Array:
    """Probability (N + 1,) of each track, by one view alone or by hand; the last: that no track shows the athlete."""
    if one.by_hand:
        return np.array([*(float(track == one.track) for track in tracks), 0.0])
    return np.array([*((1 - UNSEEN) * one.chances[track] for track in tracks), UNSEEN])


def _marginals(likely: list[Array], same: Mapping[tuple[int, int], Array]) -> list[Array]:
    """Probability of each track, and of no track, in each view: of all combinations with one of these per view."""
    combos = np.array(list(product(*(range(len(row)) for row in likely))))
    total = np.prod([row[combos[:, i]] for i, row in enumerate(likely)], axis=0)
    for (a, b), table in same.items():
        total = total * np.maximum(table[combos[:, a], combos[:, b]], 1e-6)
    total /= total.sum()
    return [np.bincount(combos[:, i], total, minlength=len(row)) for i, row in enumerate(likely)]


def _same(odds: Array) -> Array:
    """Probability (N + 1, M + 1) that track n of one view and m of another are one body; the last: nobody of the other.

    odds  (N, M) the log odds of each pair alone
    Nobody is two people: all ways to pair the tracks, each with one other at most, are weighed against each other.
    """
    count, others = odds.shape
    total, weights = 0.0, np.zeros((count + 1, others + 1))
    for chosen in product(range(others + 1), repeat=count):
        pairs = [(n, m) for n, m in enumerate(chosen) if m < others]
        alone = set(range(others)) - {m for _, m in pairs}
        if len(alone) == others - len(pairs):
            weight = float(np.exp(sum(odds[pair] for pair in pairs)))
            total += weight
            for pair in [*enumerate(chosen), *((count, m) for m in alone)]:
                weights[pair] += weight
    weights[count, others] = total  # of two views that both do not show the athlete nothing is known
    return weights / total


# --- do two tracks show one body? ----------------------------------------------------------------------------------


def _trajectories(crowd: Crowd, track: int, sync: Sync, view: str) -> Trajectories:
    """A track's joints on the session clock."""
    poses = poses_of_track(crowd.people, track, crowd.skeleton, crowd.size, least=1e-6)
    return trajectories(replace(poses, time=sync.to_session(view, poses.time)))


def one_body(a: Trajectories, b: Trajectories) -> float:
    """Log odds, from the motion alone, that two tracks on one clock show one body; 0 where they cannot be compared."""
    measured = compare(a, b)
    if measured is None:
        return 0.0
    share, misfit, excess = measured
    return float(np.clip(ONE_BODY + SHARE * share + MISFIT * misfit + EXCESS * excess, -MOST_EVIDENCE, MOST_EVIDENCE))


def compare(a: Trajectories, b: Trajectories) -> tuple[float, float, float] | None:
    """How two tracks on one clock agree, None where they share too little: share, misfit and excess, more is better.

    share and misfit  minus the logarithms of the movement's share that one epipolar geometry for all joints and frames
                      leaves unexplained, and of the joints' median distance from it, sizes of the body
    excess            how far the evidence of a common motion stands above that at all other shifts in time
    """
    a, b = _shared(a, b)
    seconds = min(a.seconds, b.seconds)
    if seconds < LEAST_COMPARED_S:
        return None
    lag = (b.start - a.start) * RATE
    with np.errstate(invalid="ignore"):  # at shifts that leave hardly any time
        lags, heights, _ = coarse_lags(a, b, 0.5 * seconds)
    heights = np.nan_to_num(heights)
    away = np.abs(lags - lag)
    here, elsewhere = heights[away <= CLOCK_ERROR_S * RATE], heights[away > OTHER_MOMENTS_S * RATE]
    found = refine(a, b, lag, reach=round(CLOCK_ERROR_S * RATE))
    if found is None or not len(here):
        return None
    excess = float(here.max() - elsewhere.max(initial=0.0))
    return -np.log(found.share), -np.log(max(found.misfit, LEAST_MISFIT)), float(np.arcsinh(excess / 5))


def _shared(a: Trajectories, b: Trajectories) -> tuple[Trajectories, Trajectories]:
    """Both in the middle MOST_COMPARED_S of the time that they share."""
    first, last = max(a.start, b.start), min(a.start + a.seconds, b.start + b.seconds)
    spare = max(last - first - MOST_COMPARED_S, 0.0) / 2
    return _cut(a, first + spare, last - spare), _cut(b, first + spare, last - spare)


def _cut(one: Trajectories, first: float, last: float) -> Trajectories:
    """The points from `first` to `last` s."""
    keep = slice(max(round((first - one.start) * RATE), 0), max(round((last - one.start) * RATE) + 1, 0))
    start = one.start + keep.start / RATE
    return Trajectories(start, one.xy[keep], one.seen[keep], one.scale[keep])


# --- people.png ----------------------------------------------------------------------------------------------------


def draw_people(video: Path, crowd: Crowd, choice: Choice, path: Path, *, least: float = 0.0) -> None:
    """Write one row per track, the likeliest athlete first: its number, when it was seen, pictures of it over time.

    least  sureness below which nobody is marked as the athlete
    """
    summaries = {row.track: row for row in summarize(crowd.people, crowd.size)}
    tracks = list(dict.fromkeys((choice.track, *choice.chances)))[:MOST_ROWS]
    rows = [_row(video, crowd, summaries[track], choice, sure=choice.sureness >= least) for track in tracks]
    with records.atomic(path) as temporary:
        cv2.imwrite(str(temporary), np.vstack(rows)[..., ::-1])


def _row(video: Path, crowd: Crowd, summary: TrackSummary, choice: Choice, *, sure: bool) -> Array:
    people, size, chosen = crowd.people, crowd.size, sure and summary.track == choice.track
    own = people.of(summary.track)
    picks = np.unique(np.linspace(0, len(own.frame) - 1, SHOTS).round().astype(int))
    shots = [_shot(video, size, float(people.time[own.frame[i]]), own.box[i]) for i in picks]
    shots += [np.full((SIDE, SIDE, 3), 245, np.uint8)] * (SHOTS - len(shots))
    label = np.full((SIDE, 190, 3), 255 if not chosen else (222, 240, 222), np.uint8)
    lines = [
        f"person {summary.track}" + ("  athlete" if chosen else ""),
        f"{summary.start_s:.1f} to {summary.end_s:.1f} s",
        f"in {summary.coverage:.0%} of frames",
        f"{summary.size:.0%} of the height",
        "chosen by hand" if chosen and choice.by_hand else f"athlete: {choice.chances[summary.track]:.0%}",
    ]
    for i, line in enumerate(lines):
        font = cv2.FONT_HERSHEY_SIMPLEX
        cv2.putText(label, line, (8, 22 + 21 * i), font, 0.55 if i == 0 else 0.45, (20, 20, 20), 1, cv2.LINE_AA)
    row = np.hstack([label, *shots])
    row[-1] = 200
    return row


def _shot(video: Path, size: tuple[int, int], time: float, box: Array) -> Array:
    """A square around a box at one moment, SIDE px wide."""
    frame = next(iter(frames(video, start=time, size=size)), None)
    if frame is None:
        return np.full((SIDE, SIDE, 3), 245, np.uint8)
    half = max((box[2:] - box[:2]).max() * (0.5 + MARGIN), 2.0)
    center = (box[:2] + box[2:]) / 2
    matrix = np.array([[SIDE / 2 / half, 0, 0], [0, SIDE / 2 / half, 0]])
    matrix[:, 2] = SIDE / 2 - center * matrix[0, 0]
    return cv2.warpAffine(frame.rgb, matrix, (SIDE, SIDE), flags=cv2.INTER_AREA, borderValue=(230, 230, 230))
