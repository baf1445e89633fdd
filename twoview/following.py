"""Following everyone from one search for people to the next, with the keypoint network on every frame between.

A window is the frames after one search up to and including the next. People found at its end are matched with those
at its start; the boxes between are interpolated, so that the frames of a window are independent of each other and can
run on several cores or as one batch. Only who was lost or has just appeared is followed frame by frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain, islice
from typing import NamedTuple

import numpy as np

from twoview.detectors import Detector, Person, TopDown
from twoview.detectors.cropping import around, overlap
from twoview.machine import cores
from twoview.pixels import Pixels, Stored
from twoview.tracking import SURE, People, Tracker

Array = np.ndarray

MOST_PEOPLE = 5  # followed at once; the surest of those found
LEAST_BODY = 0.2  # mean score of a followed person's joints below which it is lost
GROW = 0.05  # the joints' box grown by this on each side is the person's box
SAME = 0.6  # two people whose boxes overlap more are one
FOLD = 1000  # rows kept as objects before they become arrays
NO_LOOKS = np.full(6, np.nan, np.float32)


class Picture:
    """A frame of the video that waits for its window's end, in as little memory as it can.

    found   None between two searches, else boxes (N, 5) or people, as the detector gives them
    """

    def __init__(
        self,
        pixels: Stored | Pixels,
        found: list[Person] | Array | None = None,
        on_drop: Callable[[], object] = lambda: None,
    ) -> None:
        self.time, self.found = pixels.time, found
        self._pixels: Stored | Pixels | None = pixels
        self._on_drop = on_drop

    @property
    def pixels(self) -> Stored | Pixels:
        """Makes the picture or parts of it."""
        assert self._pixels is not None
        return self._pixels

    def drop(self) -> None:
        """Nobody needs it any more: the reader has room for another."""
        if self._pixels is not None:
            self._pixels = None
            self._on_drop()


class Row(NamedTuple):
    """One person in one frame."""

    frame: int
    track: int
    person: Person
    looks: Array


class Follower:
    """Turns windows of pictures into rows of people. All it knows follows from the rows, so saved ones continue it."""

    def __init__(self, detector: Detector, people: People) -> None:
        self.detector = detector
        self.time = [float(t) for t in people.time]
        self.searched = len(self.time)  # frames up to and with the last search that is done: what may be saved
        self.rows: list[Row] = []
        self._kept = people  # older rows, as arrays: they take a fifth of the memory
        self.tracker = Tracker(next_id=int(people.track.max()) + 1 if len(people.track) else 0)
        self._pool = ThreadPoolExecutor(cores())

    def resume(self, every: int) -> None:
        """Bring the tracker to where it was after the last saved window of `every` frames."""
        kept, at_end = self._kept, len(self.time) - 1
        known = set(kept.track[kept.frame == at_end].tolist())
        for frame in (at_end - every, at_end):
            for i in np.flatnonzero(kept.frame == frame):
                if int(kept.track[i]) in known:
                    self.tracker.see(frame, int(kept.track[i]), Person(kept.xy[i], kept.score[i], kept.box[i]))

    def close(self) -> None:
        """End the worker threads."""
        self._pool.shutdown(cancel_futures=True)

    def people(self, frames: int | None = None) -> People:
        """All rows of the first `frames` frames (default: all) as arrays."""
        time = np.array(self.time[:frames])
        old = replace(self._kept.rows(self._kept.frame < len(time)), time=time)
        rows = sorted((row for row in self.rows if row.frame < len(time)), key=lambda row: (row.frame, row.track))
        if not rows:
            return old
        new = {name: np.array([getattr(row, name) for row in rows]) for name in ("frame", "track", "looks")}
        new |= {name: np.array([getattr(row.person, name) for row in rows]) for name in ("xy", "score", "box")}
        if len(old.frame):
            new = {name: np.concatenate([getattr(old, name), values]) for name, values in new.items()}
        return People(time=time, **new)

    def advance(self, window: Sequence[Picture]) -> None:
        """Everyone in the frames of one window."""
        first = len(self.time)
        self.time.extend(picture.time for picture in window)
        last = first + len(window) - 1
        found = window[-1].found
        if found is None:  # the clip ends before the next search
            for track in list(self.tracker.last):
                self._follow(window, first, track)
            return
        people = self._people(window[-1], found)
        matched = self.tracker.match(last, people)
        ends = {track: (self.tracker.last[track][1].box, people[i].box) for track, i in matched.items()}
        lost = [track for track in self.tracker.last if track not in matched]
        for track, i in matched.items():
            self._see(last, track, people[i], window[-1])
        for track in lost:
            still = self._follow(window, first, track)
            self.tracker.forget(track)
            if still is not None and not _is_among(still, people):
                people.append(still)
                self._see(last, track, still, window[-1])
        for i in range(len(people)):
            if i not in matched.values() and not any(people[i] is p for _, p in self.tracker.last.values()):
                track = self.tracker.new()
                self._see(last, track, people[i], window[-1])
                self._follow(window[-2::-1], last - 1, track, step=-1)
        self._between(window, first, ends)  # last, since it lets go of the pictures
        self.searched = len(self.time)
        if len(self.rows) >= FOLD:
            self._kept, self.rows = self.people(), []

    # --- one window ------------------------------------------------------------------------------------------------

    def _people(self, picture: Picture, found: list[Person] | Array) -> list[Person]:
        if isinstance(found, list):
            return [_plain(p.xy, p.score, p.box) for p in found]
        boxes = found[:MOST_PEOPLE, :4]
        kept: list[Person] = []
        for person in next(self._pose([picture], [boxes])):
            if float(person.score.mean()) >= LEAST_BODY and not _is_among(person, kept):
                kept.append(person)
        return kept

    def _between(self, window: Sequence[Picture], first: int, ends: dict[int, tuple[Array, Array]]) -> None:
        """Rows for the frames before the last of those who were at the window's start and are at its end.

        ends  track -> its boxes (4,) at the start and at the end
        """
        window[-1].drop()
        if not ends or not isinstance(self.detector, TopDown):
            return
        between, boxes = window[:-1], []
        for i in range(len(between)):
            share = (i + 1) / len(window)
            boxes.append(np.array([(1 - share) * start + share * end for start, end in ends.values()]))
        for i, people in enumerate(self._pose(between, boxes)):
            between[i].drop()
            for track, person in zip(ends, people, strict=True):
                if float(person.score.mean()) >= LEAST_BODY:
                    self.rows.append(Row(first + i, track, person, NO_LOOKS))

    def _follow(self, window: Sequence[Picture], first: int, track: int, *, step: int = 1) -> Person | None:
        """Rows of a track frame by frame, each box from the pose before; the person in the last frame, if still there.

        The window's last frame gets no row: there the caller decides.
        """
        if not isinstance(self.detector, TopDown):
            return None
        person = self.tracker.last[track][1]
        others = [p for t, (_, p) in self.tracker.last.items() if t != track]
        for i, picture in enumerate(window):
            ((person,),) = self._pose([picture], [person.box[None]])
            if float(person.score.mean()) < LEAST_BODY or _is_among(person, others):
                return None
            if step < 0 or picture.found is None:
                self.rows.append(Row(first + step * i, track, person, NO_LOOKS))
        return person

    def _see(self, frame: int, track: int, person: Person, picture: Picture) -> None:
        self.tracker.see(frame, track, person)
        rgb, corner = picture.pixels.part(person.box)
        self.rows.append(Row(frame, track, person, looks_of(rgb, person.box - np.tile(corner, 2))))

    def _pose(self, pictures: Sequence[Picture], boxes: Sequence[Array]) -> Iterator[list[Person]]:
        """The keypoint network on all boxes (N, 4) of each picture, spread over the cores or in batches.

        It gets the surroundings of each box, not the whole picture, which takes longer to make.
        """
        assert isinstance(self.detector, TopDown)
        size = max(self.detector.batch, 1)
        crops = [(picture, box) for picture, row in zip(pictures, boxes, strict=True) for box in row]
        parts = [crops[i : i + size] for i in range(0, len(crops), size)]
        found = chain.from_iterable(self._pool.map(self._look, parts))
        for row in boxes:
            yield list(islice(found, len(row)))

    def _look(self, crops: Sequence[tuple[Picture, Array]]) -> list[Person]:
        """One call of the keypoint network, on the person in each box (4,)."""
        parts = [picture.pixels.part(surroundings(box)) for picture, box in crops]
        corners = np.array([corner for _, corner in parts])
        boxes = np.array([box for _, box in crops])
        xy, score = self.detector.pose([rgb for rgb, _ in parts], boxes - np.tile(corners, 2))  # type: ignore[attr-defined]
        return [_person(*row) for row in zip(xy + corners[:, None], score, boxes, strict=True)]


def surroundings(box: Array) -> Array:
    """What a keypoint network may look at for the person in a box (4,), with a little room to spare (4,).

    RTMPose and MMPose's models see 1.25 times the box, as 3 to 4 or a square; MoveNet 1.15 times, as a square.
    """
    middle, (width, height) = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
    half = np.array([max(width, height), max(height, width * 4 / 3)]) * (1.25 / 2) + 2
    return np.concatenate([middle - half, middle + half])


def _person(xy: Array, score: Array, box: Array) -> Person:
    """A pose found in a box; the person's own box is that around its joints, where they are sure enough."""
    own = around(xy, score, least=SURE, grow=GROW)
    return _plain(xy, score, box if np.isnan(own).any() else own)


def _plain(xy: Array, score: Array, box: Array) -> Person:
    """In the precision that is saved, so that a resumed run sees the same numbers."""
    return Person(*(np.asarray(value, np.float32) for value in (xy, score, box)))


def _is_among(person: Person, others: Sequence[Person]) -> bool:
    if not others:
        return False
    return bool((overlap(person.box[None], np.array([p.box for p in others])) > SAME).any())


def looks_of(rgb: Array, box: Array) -> Array:
    """Mean colours (6,) of the upper and the lower body inside a person's box, 0..1; NaN outside the picture."""
    left, top, right, bottom = box
    out = NO_LOOKS.copy()
    for part, (low, high) in enumerate(((0.2, 0.5), (0.55, 0.85))):
        rows = slice(max(int(top + low * (bottom - top)), 0), max(int(top + high * (bottom - top)), 0), 4)
        columns = slice(max(int(left + 0.3 * (right - left)), 0), max(int(left + 0.7 * (right - left)), 0), 4)
        patch = rgb[rows, columns]
        if patch.size:
            out[3 * part : 3 * part + 3] = patch.reshape(-1, 3).mean(axis=0) / 255
    return out
