"""Who is who: people of single frames become tracks through the whole video.

Everyone found in one search is matched with everyone found in the next. A window is the frames after one search up to
and including the next; boxes between are interpolated, so that the frames of a window are independent of each other and
can run on several cores or as one batch. Only a person who was lost or has just appeared is tracked frame by frame.
When the whole video is known, tracks that one person left are joined.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy import ndarray as Array

from twoview.detection.estimation import LEAST_JOINT_SCORE, Picture, estimate, is_among, is_visible, person_crop
from twoview.detectors import CropDetector, Detector, Person, PersonCrop, TopDown
from twoview.machine import cores
from twoview.media.pixels import DecodedFrame, Pixels
from twoview.poses import Poses2D
from twoview.skeleton import Skeleton

FARTHEST = 1.0  # between two searches a person moves off the expected way by at most this share of its size
MOST_GAP_S = 3.0  # a track may be lost for so long and still be continued by a later one
ONE_BODY = 0.1  # median distance of joints, in body sizes, below which two tracks are one person
COLOR_STEP = 0.175  # tracks whose mean colors differ by more (0 to 1) are not joined
COLOR_SAMPLES = 12  # across and down the upper and the lower body, of whose colors the mean is taken
NO_COLORS = np.full(6, np.nan, np.float32)
MOST_ROWS = 1000  # rows kept as objects before they become arrays


@dataclass(frozen=True, eq=False)
class People:
    """Everyone in one view: one row per person and frame in which the person was seen.

    time    (T,)  seconds on the view's clock of every frame, with people or without
    frame   (M,)  index into time
    track   (M,)  number of the track that the row belongs to
    xy      (M, J, 2) px, score (M, J), box (M, 4) px
    colors  (M, 6) mean RGB, 0..1, of the upper and the lower body; NaN where not measured
    """

    time: Array
    frame: Array
    track: Array
    xy: Array
    score: Array
    box: Array
    colors: Array

    @classmethod
    def none(cls, joints: int) -> People:
        """Nobody yet."""
        shapes = {"xy": (0, joints, 2), "score": (0, joints), "box": (0, 4), "colors": (0, 6)}
        return cls(
            np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64), **{k: np.zeros(s) for k, s in shapes.items()}
        )

    def check(self) -> None:
        """Raises ValueError where the arrays, as read from a file, do not fit each other."""
        rows, joints = len(self.frame), self.xy.shape[1] if self.xy.ndim == 3 else 0
        shapes = {"time": (len(self.time),), "frame": (rows,), "track": (rows,), "xy": (rows, joints, 2),
                  "score": (rows, joints), "box": (rows, 4), "colors": (rows, 6)}  # fmt: skip
        for name, shape in shapes.items():
            value = getattr(self, name)
            kinds = "iu" if name in ("frame", "track") else "f"
            if value.shape != shape or value.dtype.kind not in kinds:
                raise ValueError(f"{name} is {value.dtype} {value.shape}, and {shape} was expected")
        if rows and not 0 <= self.frame.min() <= self.frame.max() < len(self.time):
            raise ValueError(f"frame {self.frame.max()} of {len(self.time)}")
        if not np.isfinite(self.time).all() or (np.diff(self.time) <= 0).any() or np.isinf(self.xy).any():
            raise ValueError("times that do not increase, or positions that are infinite")

    @property
    def tracks(self) -> tuple[int, ...]:
        """Numbers of all tracks, in order of first appearance."""
        return tuple(int(t) for t in dict.fromkeys(self.track[np.argsort(self.frame, kind="stable")]))

    def of(self, track: int) -> People:
        """The rows of one track, in order of time."""
        rows = np.flatnonzero(self.track == track)
        return self.rows(rows[np.argsort(self.frame[rows], kind="stable")])

    def rows(self, keep: Array) -> People:
        """Some of the rows; all frames stay."""
        names = ("frame", "track", "xy", "score", "box", "colors")
        return replace(self, **{name: getattr(self, name)[keep] for name in names})


@dataclass
class Tracker:
    """Gives people of successive searches their track numbers. Its state follows from the rows found so far.

    last      track -> (frame, person) where it was seen last
    velocity  track -> px per frame (2,)
    """

    next_track: int = 0
    last: dict[int, tuple[int, Person]] = field(default_factory=dict)
    velocity: dict[int, Array] = field(default_factory=dict)

    def match(self, frame: int, people: Sequence[Person]) -> dict[int, int]:
        """Track -> index in `people`, for the tracks that go on; nearest first, each used once."""
        costs = []
        for track, (before, person) in self.last.items():
            shift = self.velocity.get(track, np.zeros(2)) * (frame - before)
            for i, other in enumerate(people):
                costs.append((distance(person, other, shift), track, i))
        matched: dict[int, int] = {}
        for cost, track, i in sorted(costs):
            if cost < FARTHEST and track not in matched and i not in matched.values():
                matched[track] = i
        return matched

    def update(self, frame: int, track: int, person: Person) -> None:
        """Remember where a track is, and how fast it moves."""
        if track in self.last:
            before, old = self.last[track]
            self.velocity[track] = (center(person) - center(old)) / max(frame - before, 1)
        self.last[track] = (frame, person)

    def new(self) -> int:
        """A number that no track had before."""
        self.next_track += 1
        return self.next_track - 1

    def end(self, track: int) -> None:
        """Forget a track: nobody continues it."""
        self.last.pop(track, None)
        self.velocity.pop(track, None)


def center(person: Person) -> Array:
    """Median (2,) of the joints with a good score, or the middle of the box where there are none."""
    good = person.score >= LEAST_JOINT_SCORE
    middle: Array = np.median(person.xy[good], axis=0) if good.any() else (person.box[:2] + person.box[2:]) / 2
    return middle


def distance(a: Person, b: Person, shift: Array) -> float:
    """Distance of person b from person a moved by `shift` px (2,), as a share of the larger one's size."""
    size = max(float(np.max(a.box[2:] - a.box[:2])), float(np.max(b.box[2:] - b.box[:2])), 1.0)
    both = (a.score >= LEAST_JOINT_SCORE) & (b.score >= LEAST_JOINT_SCORE)
    if both.sum() < 3:
        return float(np.linalg.norm(center(b) - center(a) - shift)) / size
    return float(np.linalg.norm(b.xy[both] - a.xy[both] - shift, axis=-1).mean()) / size


# --- whole tracks ------------------------------------------------------------------------------------------------


def join(people: People) -> People:
    """Join the tracks that one person left: each is continued by one that begins near its end, of like size and colors.

    A gap of up to MOST_GAP_S is bridged, nearest in time first; the earliest number is kept. Two tracks may also lie on
    one body for a while; there the rows of the longer one stay.
    """
    tracks = {track: people.of(track) for track in people.tracks}
    links = []
    for a, before in tracks.items():
        for b, after in tracks.items():
            if a == b or after.frame[-1] <= before.frame[-1] or after.frame[0] <= before.frame[0]:
                continue
            gap = people.time[after.frame[0]] - people.time[before.frame[-1]]
            if (0 < gap <= MOST_GAP_S and _continues(before, after, gap)) or (gap <= 0 and _one_body(before, after)):
                links.append((gap, a, b))
    successor: dict[int, int] = {}
    for _, a, b in sorted(links):
        if a not in successor and b not in successor.values():
            successor[a] = b
    merged = people.track.copy()
    for a in tracks:
        if a in successor.values():
            continue
        chain = a
        while chain in successor:
            chain = successor[chain]
            merged[people.track == chain] = a
    return _one_row_each(replace(people, track=merged), people.track)


def _one_body(a: People, b: People) -> bool:
    """Whether two tracks lie on one body in the frames that they share."""
    shared, in_a, in_b = np.intersect1d(a.frame, b.frame, return_indices=True)
    if not len(shared):
        return False
    apart = np.nanmedian(np.linalg.norm(a.xy[in_a] - b.xy[in_b], axis=-1), axis=1)
    return bool(np.median(apart / np.maximum(height_of(a.box[in_a]), 1.0)) < ONE_BODY)


def _one_row_each(people: People, original: Array) -> People:
    """At most one row per track and frame: that of the longest of the `original` tracks (M,) that were joined."""
    rows_of = {track: int((original == track).sum()) for track in np.unique(original)}
    length = np.array([rows_of[track] for track in original])
    order = np.lexsort((-length, people.track, people.frame))
    rows = np.stack([people.frame[order], people.track[order]], axis=1)
    return people.rows(order[np.unique(rows, axis=0, return_index=True)[1]])


def _continues(before: People, after: People, gap: float) -> bool:
    """Whether the track `after`, which begins `gap` seconds later, is the same person by size, colors and place."""
    size_a, size_b = (
        float(np.median(height_of(p.box[s]))) for p, s in ((before, slice(-10, None)), (after, slice(10)))
    )
    if not 0.5 < size_a / max(size_b, 1.0) < 2.0:
        return False
    apart = np.abs(_usual_colors(before) - _usual_colors(after))
    if np.isfinite(apart).any() and np.nanmean(apart) > COLOR_STEP:
        return False
    step = np.linalg.norm(middle_of(after.box[:1]) - middle_of(before.box[-1:]))
    return bool(step / max(size_a, size_b) < 0.5 + 2.0 * gap)  # people move at most about two body heights per second


def _usual_colors(people: People) -> Array:
    """Median colors (6,) of some rows; NaN where they were not measured, as in imported detections."""
    known = people.colors[np.isfinite(people.colors).all(axis=1)]
    return np.median(known, axis=0) if len(known) else NO_COLORS


def height_of(box: Array) -> Array:
    """Longer sides (N,) of boxes (N, 4)."""
    longer: Array = np.maximum(box[:, 3] - box[:, 1], box[:, 2] - box[:, 0])
    return longer


def middle_of(box: Array) -> Array:
    """Centers (N, 2) of boxes (N, 4)."""
    middle: Array = (box[:, :2] + box[:, 2:]) / 2
    return middle


def poses_of_track(people: People, track: int, skeleton: Skeleton, size: tuple[int, int], *, least: float) -> Poses2D:
    """One track as Poses2D over all frames; joints below `least`, or outside the picture, are unseen."""
    joints = len(skeleton)
    xy, score = np.full((len(people.time), joints, 2), np.nan), np.zeros((len(people.time), joints))
    own = people.of(track)
    xy[own.frame], score[own.frame] = own.xy, own.score
    with np.errstate(invalid="ignore"):
        inside = ((xy > -0.5) & (xy < np.array(size) - 0.5)).all(axis=-1)
    unseen = ~inside | (score < max(least, 1e-6))
    return Poses2D(np.where(unseen[..., None], np.nan, xy), np.where(unseen, 0.0, score), people.time, skeleton, size)


# --- through a video -----------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """One person in one frame."""

    frame: int
    track: int
    person: Person
    colors: Array


Part = tuple[list[tuple[int, int]], Future[list[Person]]]


class VideoTracker:
    """Turns windows of pictures into rows of people. Its state follows from the rows, so that saved rows resume it."""

    def __init__(self, detector: Detector, people: People) -> None:
        self.detector = detector
        self.time = [float(t) for t in people.time]
        self.done = len(self.time)  # frames up to and with the last search whose window is done: what may be saved
        self.rows: list[Row] = []
        self._kept = people  # older rows, as arrays: a fifth of the memory
        self.tracker = Tracker(next_track=int(people.track.max()) + 1 if len(people.track) else 0)
        self._pool = ThreadPoolExecutor(cores())
        # Windows in whose frames the keypoint network still runs: pictures, index of the first frame, and in parts the
        # (frame, track) of each row with the people that the network will have found there.
        self._running: deque[tuple[Sequence[Picture], int, list[Part]]] = deque()

    def resume(self, every: int) -> None:
        """Set the tracker to its state after the last saved window of `every` frames."""
        kept, at_end = self._kept, len(self.time) - 1
        known = set(kept.track[kept.frame == at_end].tolist())
        for frame in (at_end - every, at_end):
            for i in np.flatnonzero(kept.frame == frame):
                if int(kept.track[i]) in known:
                    self.tracker.update(frame, int(kept.track[i]), Person(kept.xy[i], kept.score[i], kept.box[i]))

    def close(self) -> None:
        """End the worker threads."""
        self._pool.shutdown(cancel_futures=True)

    def people(self, frames: int | None = None) -> People:
        """All rows of the first `frames` frames as arrays; without a number of all frames, once they are done."""
        while frames is None and self._running:
            self._collect()
        time = np.array(self.time[:frames])
        old = replace(self._kept.rows(self._kept.frame < len(time)), time=time)
        rows = sorted((row for row in self.rows if row.frame < len(time)), key=lambda row: (row.frame, row.track))
        if not rows:
            return old
        new = {name: np.array([getattr(row, name) for row in rows]) for name in ("frame", "track", "colors")}
        new |= {name: np.array([getattr(row.person, name) for row in rows]) for name in ("xy", "score", "box")}
        if len(old.frame):
            new = {name: np.concatenate([getattr(old, name), values]) for name, values in new.items()}
        return People(time=time, **new)

    def advance(self, window: Sequence[Picture]) -> None:
        """Track everyone through one window and free its pictures; its network calls may still run afterwards."""
        first = len(self.time)
        self.time.extend(picture.time for picture in window)
        last, people = first + len(window) - 1, window[-1].people
        if people is None:  # the video ends before the next search
            for track in list(self.tracker.last):
                self._track_each_frame(window, first, track)
            return
        matched = self.tracker.match(last, people)
        ends = {track: (self.tracker.last[track][1].box, people[i].box) for track, i in matched.items()}
        lost = [track for track in self.tracker.last if track not in matched]
        for track, i in matched.items():
            self._record(last, track, people[i], window[-1])
        for track in lost:
            person = self._track_each_frame(window, first, track)
            self.tracker.end(track)
            if person is not None and not is_among(person, people):
                people.append(person)
                self._record(last, track, person, window[-1])
        for i in range(len(people)):
            if i not in matched.values() and not any(people[i] is p for _, p in self.tracker.last.values()):
                track = self.tracker.new()
                self._record(last, track, people[i], window[-1])
                self._track_each_frame(window[-2::-1], last - 1, track, step=-1)
        self._start_between(window, first, ends)
        waits = isinstance(self.detector, CropDetector)  # so that no core is idle while the next window is prepared
        while len(self._running) > waits:
            self._collect()

    # --- one window ------------------------------------------------------------------------------------------------

    def _start_between(self, window: Sequence[Picture], first: int, ends: dict[int, tuple[Array, Array]]) -> None:
        """Start the keypoint network in the frames before the window's last, for who is at both of its ends.

        ends  track -> its boxes (4,) at the start and at the end
        """
        detector = self.detector
        wanted: list[PersonCrop | tuple[Picture, Array]] = []
        where: list[tuple[int, int]] = []
        for i, picture in enumerate(window[:-1]):
            share = (i + 1) / len(window)
            for track, (start, end) in ends.items() if isinstance(detector, TopDown) else ():
                box = (1 - share) * start + share * end
                # Crops are small: they are made at once and can wait for a core. Pictures cannot.
                wanted.append(
                    person_crop(detector, picture, box) if isinstance(detector, CropDetector) else (picture, box)
                )
                where.append((first + i, track))
            if not wanted or isinstance(wanted[-1], PersonCrop):
                picture.drop()
        window[-1].drop()
        size = max(getattr(detector, "batch", 1), 1)
        parts = [slice(i, i + size) for i in range(0, len(wanted), size)]
        running = [(where[part], self._pool.submit(self._estimate, wanted[part])) for part in parts]
        self._running.append((window, first, running))

    def _estimate(self, wanted: Sequence[PersonCrop | tuple[Picture, Array]]) -> list[Person]:
        assert isinstance(self.detector, TopDown)
        crops = [one if isinstance(one, PersonCrop) else person_crop(self.detector, *one) for one in wanted]
        return estimate(self.detector, crops)

    def _collect(self) -> None:
        """Wait for the oldest window that is running, and make rows of its people."""
        window, first, parts = self._running.popleft()
        for where, people in parts:
            for (frame, track), person in zip(where, people.result(), strict=True):
                if is_visible(person):
                    self.rows.append(Row(frame, track, person, NO_COLORS))
            for picture in window[: where[-1][0] - first]:
                picture.drop()
        for picture in window:
            picture.drop()
        self.done = first + len(window)
        if len(self.rows) >= MOST_ROWS:
            self._kept = self.people(self.done)
            self.rows = [row for row in self.rows if row.frame >= self.done]

    def _track_each_frame(self, window: Sequence[Picture], first: int, track: int, *, step: int = 1) -> Person | None:
        """Rows of a track frame by frame, each box from the pose before; the person in the last frame, if still there.

        The frame of a search gets no row: there the caller decides.
        """
        if not isinstance(self.detector, TopDown):
            return None
        person = self.tracker.last[track][1]
        others = [p for t, (_, p) in self.tracker.last.items() if t != track]
        for i, picture in enumerate(window):
            (person,) = estimate(self.detector, [person_crop(self.detector, picture, person.box)])
            if not is_visible(person) or is_among(person, others):
                return None
            if step < 0 or picture.people is None:
                self.rows.append(Row(first + step * i, track, person, NO_COLORS))
        return person

    def _record(self, frame: int, track: int, person: Person, picture: Picture) -> None:
        self.tracker.update(frame, track, person)
        self.rows.append(Row(frame, track, person, colors_of(picture.pixels, person.box)))


def colors_of(pixels: DecodedFrame | Pixels, box: Array) -> Array:
    """Mean colors (6,) of the upper and the lower body inside a person's box, 0..1; NaN outside the picture."""
    corner, size = box[:2], box[2:] - box[:2]
    out = NO_COLORS.copy()
    for part, (low, high) in enumerate(((0.2, 0.5), (0.55, 0.85))):
        start, end = (np.clip(corner + size * share, 0, pixels.size) for share in ((0.3, low), (0.7, high)))
        if (end - start >= 1).all():
            scale = COLOR_SAMPLES / (end - start)
            matrix = np.column_stack([np.diag(scale), scale * (0.5 - start) - 0.5])
            colors = pixels.crop(matrix, (COLOR_SAMPLES, COLOR_SAMPLES))
            out[3 * part : 3 * part + 3] = colors.reshape(-1, 3).mean(axis=0) / 255
    return out
