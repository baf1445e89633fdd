"""Which track is the athlete: chosen from whole tracks, by all views together where several are likely, or by hand.

For the choice by hand people.png shows one row of small pictures per track.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path

import cv2
import numpy as np
from numpy import ndarray as Array

from twoview.detection.tracking import People, height_of, middle_of
from twoview.errors import DetectorError
from twoview.media.video import frames
from twoview.storage import records
from twoview.timeline import Sync

TIE = 0.4  # tracks with at least this share of the likeliest track's `athlete` may be the athlete too
MOST_TIED = 4
GRID_HZ = 10.0  # rate at which motion is compared between views
AGREEMENT = 2.0  # weight of the motions' correlation against the logarithm of the tracks' `athlete`

SIDE = 120  # px of one small picture
SHOTS = 8  # small pictures per row
MOST_ROWS = 12
MARGIN = 0.15  # around the person, as a share of its box


@dataclass(frozen=True)
class TrackSummary:
    """What the athlete is chosen by.

    start_s, end_s  seconds of the first and the last frame, on the view's clock
    coverage        share of the video's frames in which the track was seen
    size            median height over the picture's height, at most 1
    motion          how fast the joints move within the body, body sizes per second
    central         1 in the middle of the picture, 0 at its edge
    score           mean joint score, 0..1
    """

    track: int
    start_s: float
    end_s: float
    coverage: float
    size: float
    motion: float
    central: float
    score: float

    @property
    def athlete(self) -> float:
        """How likely this is the athlete: the product of coverage, size, score, closeness to the middle, and motion."""
        moving = 0.5 + min(self.motion, 1.0)
        return self.coverage * self.size * self.score * (0.5 + 0.5 * self.central) * moving


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
                _motion(own, height), float(np.clip(1 - np.median(off), 0, 1)), float(np.nanmean(own.score)),
            )
        )  # fmt: skip
    return sorted(rows, key=lambda row: (-row.athlete, row.track))


def _motion(own: People, height: float) -> float:
    """Speed of the joints about the body's center, body sizes per second: the 90th percentile over time."""
    step = np.diff(own.time[own.frame])
    near = (step > 0) & (step < 0.2)
    if not near.any():
        return 0.0
    inside = own.xy - np.nanmedian(own.xy, axis=1, keepdims=True)
    speed = np.linalg.norm(np.diff(inside, axis=0), axis=-1)[near] / step[near, None]
    return float(np.nanpercentile(np.nanmedian(speed, axis=1), 90)) / height


def choose(people: People, size: tuple[int, int], person: int | None = None) -> int:
    """The athlete's track: number `person`, or the likeliest of the whole video.

    Raises DetectorError where nobody was found, and for a number that no track has.
    """
    ranked = summarize(people, size)
    if not ranked:
        raise DetectorError(
            f"no person found in any of {len(people.time)} frames",
            hint="is the athlete at least 60 px tall and in view? look with `twoview show VIDEO`",
        )
    if person is None:
        return ranked[0].track
    if person not in people.tracks:
        known = ", ".join(str(row.track) for row in ranked)
        raise DetectorError(f"no person {person} in this video; there are {known}", hint="look at the people.png")
    return person


def choose_together(views: Mapping[str, tuple[People, tuple[int, int]]], sync: Sync) -> dict[str, int]:
    """View -> the athlete's track, chosen by all views of a take together.

    views  view name -> its people and the (width, height) of its pictures
    One person moves and rests at the same moments in every view: of the tracks that may be the athlete, those are
    chosen whose motion agrees best on the session clock.
    """
    tied: dict[str, list[TrackSummary]] = {}
    for view, (people, size) in views.items():
        choose(people, size)  # raises where nobody was found
        ranked = summarize(people, size)
        tied[view] = [row for row in ranked if row.athlete >= TIE * ranked[0].athlete][:MOST_TIED]
    motion = {
        (view, row.track): _activity(views[view][0].of(row.track), sync, view) for view in tied for row in tied[view]
    }

    def total(rows: tuple[TrackSummary, ...]) -> float:
        keys = [(view, row.track) for view, row in zip(tied, rows, strict=True)]
        agree = [_correlation(motion[a], motion[b]) for a, b in combinations(keys, 2)]
        likely = np.mean([np.log(max(row.athlete, 1e-9)) for row in rows])
        return float(likely + AGREEMENT * (np.mean(agree) if agree else 0.0))

    chosen = max(product(*tied.values()), key=total)
    return {view: row.track for view, row in zip(tied, chosen, strict=True)}


def _activity(own: People, sync: Sync, view: str) -> tuple[Array, Array]:
    """Session times (S,) on the common grid, and how fast the joints move within the body, body sizes per second."""
    time = sync.to_session(view, own.time[own.frame])
    inside = own.xy - np.nanmedian(own.xy, axis=1, keepdims=True)
    speed = np.nanmean(np.linalg.norm(np.diff(inside, axis=0), axis=-1), axis=1) / np.maximum(np.diff(time), 1e-3)
    speed = speed / np.maximum(height_of(own.box[1:]), 1.0)
    cells = np.round((time[1:] + time[:-1]) / 2 * GRID_HZ).astype(int)
    known = np.isfinite(speed)
    grid = np.unique(cells[known])
    return grid, np.array([np.median(speed[known & (cells == cell)]) for cell in grid])


def _correlation(a: tuple[Array, Array], b: tuple[Array, Array]) -> float:
    """Pearson's correlation where both were seen; 0 where that is less than a second."""
    _, in_a, in_b = np.intersect1d(a[0], b[0], return_indices=True)
    x, y = np.log1p(a[1][in_a]), np.log1p(b[1][in_b])
    if len(x) < GRID_HZ or x.std() < 1e-9 or y.std() < 1e-9:
        return 0.0
    return float(np.corrcoef(x, y)[0, 1])


# --- people.png ----------------------------------------------------------------------------------------------------


def draw_people(
    video: Path, size: tuple[int, int], people: People, summaries: list[TrackSummary], *, chosen: int, path: Path
) -> None:
    """Write one row per track, the likeliest athlete first: its number, when it was seen, pictures of it over time.

    size  (width, height) of the pictures that the people were found in
    """
    rows = [_row(video, size, people, summary, chosen == summary.track) for summary in summaries[:MOST_ROWS]]
    with records.atomic(path) as temporary:
        cv2.imwrite(str(temporary), np.vstack(rows)[..., ::-1])


def _row(video: Path, size: tuple[int, int], people: People, summary: TrackSummary, chosen: bool) -> Array:
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
        f"score {summary.score:.2f}",
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
