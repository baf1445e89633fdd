"""Who is who: people of single frames become tracks through the whole clip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from twoview.detectors import Person

Array = np.ndarray

FARTHEST = 1.0  # a person moves at most this share of its size, off the expected way, between two searches
SURE = 0.2  # joints below this score do not tell where a person is
MOST_GAP_S = 3.0  # a track may be lost for so long and still be continued by a later one
ONE_BODY = 0.1  # median distance of joints, in body sizes, below which two tracks are one person
LOOKS = 0.35  # tracks whose mean colours differ more (0 to 1) are not joined


@dataclass(frozen=True, eq=False)
class People:
    """Everyone in one view: one row per person and frame in which it was seen.

    time   (T,)  seconds on the view's clock of every frame, with people or without
    frame  (M,)  index into time;  track (M,) whose row it is
    xy     (M, J, 2) px, score (M, J), box (M, 4) px
    looks  (M, 6) mean RGB, 0..1, of the upper and the lower body; NaN where not measured
    """

    time: Array
    frame: Array
    track: Array
    xy: Array
    score: Array
    box: Array
    looks: Array

    @classmethod
    def none(cls, joints: int) -> People:
        """Nobody yet."""
        shapes = {"xy": (0, joints, 2), "score": (0, joints), "box": (0, 4), "looks": (0, 6)}
        return cls(
            np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64), **{k: np.zeros(s) for k, s in shapes.items()}
        )

    @property
    def tracks(self) -> tuple[int, ...]:
        """Ids of all tracks, in order of first appearance."""
        return tuple(int(t) for t in dict.fromkeys(self.track[np.argsort(self.frame, kind="stable")]))

    def of(self, track: int) -> People:
        """The rows of one track, in order of time."""
        rows = np.flatnonzero(self.track == track)
        return self.rows(rows[np.argsort(self.frame[rows], kind="stable")])

    def rows(self, keep: Array) -> People:
        """Some of the rows; all frames stay."""
        names = ("frame", "track", "xy", "score", "box", "looks")
        return replace(self, **{name: getattr(self, name)[keep] for name in names})


@dataclass
class Tracker:
    """Gives people of successive searches their track ids. What it knows follows from the rows found so far."""

    next_id: int = 0
    last: dict[int, tuple[int, Person]] = field(default_factory=dict)  # track -> (frame, where)
    speed: dict[int, Array] = field(default_factory=dict)  # track -> px a frame

    def match(self, frame: int, people: Sequence[Person]) -> dict[int, int]:
        """Track id -> index in `people`, for the tracks that go on; nearest first, each used once."""
        costs = []
        for track, (before, person) in self.last.items():
            shift = self.speed.get(track, np.zeros(2)) * (frame - before)
            for i, other in enumerate(people):
                costs.append((apart(person, other, shift), track, i))
        matched: dict[int, int] = {}
        for cost, track, i in sorted(costs):
            if cost < FARTHEST and track not in matched and i not in matched.values():
                matched[track] = i
        return matched

    def see(self, frame: int, track: int, person: Person) -> None:
        """Remember where a track is, and how fast it moves."""
        if track in self.last:
            before, old = self.last[track]
            self.speed[track] = (centre(person) - centre(old)) / max(frame - before, 1)
        self.last[track] = (frame, person)

    def new(self) -> int:
        """An id that no track had before."""
        self.next_id += 1
        return self.next_id - 1

    def forget(self, track: int) -> None:
        """The track has ended."""
        self.last.pop(track, None)
        self.speed.pop(track, None)


def centre(person: Person) -> Array:
    """Middle of the sure joints (2,), or of the box where there are none."""
    sure = person.score >= SURE
    return np.median(person.xy[sure], axis=0) if sure.any() else (person.box[:2] + person.box[2:]) / 2


def apart(a: Person, b: Person, shift: Array) -> float:
    """Distance of two sightings, b from a moved by `shift`, as a share of the person's size."""
    size = max(float(np.max(a.box[2:] - a.box[:2])), float(np.max(b.box[2:] - b.box[:2])), 1.0)
    both = (a.score >= SURE) & (b.score >= SURE)
    if both.sum() < 3:
        return float(np.linalg.norm(centre(b) - centre(a) - shift)) / size
    return float(np.linalg.norm(b.xy[both] - a.xy[both] - shift, axis=-1).mean()) / size


# --- whole tracks ------------------------------------------------------------------------------------------------


def join(people: People) -> People:
    """Tracks that one person left, each continued by the track that began near its end in place, size and colours.

    Looks at the whole clip: a gap of up to MOST_GAP_S is bridged, nearest in time first; the earliest id is kept. Two
    tracks may also lie on one body for a while; there the rows of the longer one stay.
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
    """Whether two tracks lie on each other in the frames that they share."""
    shared, in_a, in_b = np.intersect1d(a.frame, b.frame, return_indices=True)
    if not len(shared):
        return False
    away = np.nanmedian(np.linalg.norm(a.xy[in_a] - b.xy[in_b], axis=-1), axis=1)
    return bool(np.median(away / np.maximum(height_of(a.box[in_a]), 1.0)) < ONE_BODY)


def _one_row_each(people: People, original: Array) -> People:
    """At most one row a track and frame: that of the longest of the tracks (M,) that it was joined from."""
    rows_of = {track: int((original == track).sum()) for track in np.unique(original)}
    length = np.array([rows_of[track] for track in original])
    order = np.lexsort((-length, people.track, people.frame))
    rows = np.stack([people.frame[order], people.track[order]], axis=1)
    first = np.ones(len(rows), bool)
    first[1:] = (rows[1:] != rows[:-1]).any(axis=1)
    return people.rows(order[first])


def _continues(before: People, after: People, gap: float) -> bool:
    size_a, size_b = (
        float(np.median(height_of(p.box[s]))) for p, s in ((before, slice(-10, None)), (after, slice(10)))
    )
    if not 0.5 < size_a / max(size_b, 1.0) < 2.0:
        return False
    looks_a, looks_b = (np.nanmedian(p.looks, axis=0) if len(p.looks) else np.full(6, np.nan) for p in (before, after))
    if np.nanmean(np.abs(looks_a - looks_b)) > LOOKS / 2:
        return False
    step = np.linalg.norm(middle_of(after.box[:1]) - middle_of(before.box[-1:]))
    return bool(step / max(size_a, size_b) < 0.5 + 2.0 * gap)  # people move up to about two body heights a second


def height_of(box: Array) -> Array:
    """Longer sides (N,) of boxes (N, 4)."""
    return np.maximum(box[:, 3] - box[:, 1], box[:, 2] - box[:, 0])


def middle_of(box: Array) -> Array:
    """Centres (N, 2) of boxes (N, 4)."""
    return (box[:, :2] + box[:, 2:]) / 2
