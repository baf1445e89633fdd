"""Following everyone from one search for people to the next, with the keypoint network on every frame between.

A window is the frames after one search up to and including the next. People found at its end are matched with those
at its start; the boxes between are interpolated, so that the frames of a window are independent of each other and can
run on several cores or as one batch. Only who was lost or has just appeared is followed frame by frame.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from twoview.detectors import Cropping, Detector, Person, TopDown
from twoview.looking import Glimpse, Picture, glimpse, is_among, is_there, poses
from twoview.machine import cores
from twoview.pixels import Pixels, Stored
from twoview.tracking import People, Tracker

Array = np.ndarray

FOLD = 1000  # rows kept as objects before they become arrays
SAMPLES = 12  # across and down the upper and the lower body, of whose colours the mean is taken
NO_LOOKS = np.full(6, np.nan, np.float32)


class Row(NamedTuple):
    """One person in one frame."""

    frame: int
    track: int
    person: Person
    looks: Array


class Running(NamedTuple):
    """A window in whose frames the keypoint network still looks; parts: (frame, track) of each row, and its people."""

    window: Sequence[Picture]
    first: int
    parts: list[tuple[list[tuple[int, int]], Future[list[Person]]]]


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
        self._running: deque[Running] = deque()

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
        """All rows of the first `frames` frames as arrays; without a number of all frames, once they are done."""
        while frames is None and self._running:
            self._collect()
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
        """Everyone in the frames of one window, whose pictures are let go of. What takes long may still be running."""
        first = len(self.time)
        self.time.extend(picture.time for picture in window)
        last, people = first + len(window) - 1, window[-1].found
        if people is None:  # the clip ends before the next search
            for track in list(self.tracker.last):
                self._follow(window, first, track)
            return
        matched = self.tracker.match(last, people)
        ends = {track: (self.tracker.last[track][1].box, people[i].box) for track, i in matched.items()}
        lost = [track for track in self.tracker.last if track not in matched]
        for track, i in matched.items():
            self._see(last, track, people[i], window[-1])
        for track in lost:
            still = self._follow(window, first, track)
            self.tracker.forget(track)
            if still is not None and not is_among(still, people):
                people.append(still)
                self._see(last, track, still, window[-1])
        for i in range(len(people)):
            if i not in matched.values() and not any(people[i] is p for _, p in self.tracker.last.values()):
                track = self.tracker.new()
                self._see(last, track, people[i], window[-1])
                self._follow(window[-2::-1], last - 1, track, step=-1)
        self._between(window, first, ends)
        waits = isinstance(self.detector, Cropping)  # so that no core is idle while the next window is prepared
        while len(self._running) > waits:
            self._collect()

    # --- one window ------------------------------------------------------------------------------------------------

    def _between(self, window: Sequence[Picture], first: int, ends: dict[int, tuple[Array, Array]]) -> None:
        """Have those looked at who were at the window's start and are at its end, in the frames before the last.

        ends  track -> its boxes (4,) at the start and at the end
        """
        detector = self.detector
        wanted: list[Glimpse | tuple[Picture, Array]] = []
        where: list[tuple[int, int]] = []
        for i, picture in enumerate(window[:-1]):
            share = (i + 1) / len(window)
            for track, (start, end) in ends.items() if isinstance(detector, TopDown) else ():
                box = (1 - share) * start + share * end
                # Crops are small: they are made at once and can wait for a core. Pictures cannot.
                wanted.append(glimpse(detector, picture, box) if isinstance(detector, Cropping) else (picture, box))
                where.append((first + i, track))
            if not wanted or isinstance(wanted[-1], Glimpse):
                picture.drop()
        window[-1].drop()
        size = max(getattr(detector, "batch", 1), 1)
        parts = [slice(i, i + size) for i in range(0, len(wanted), size)]
        running = [(where[part], self._pool.submit(self._look, wanted[part])) for part in parts]
        self._running.append(Running(window, first, running))

    def _look(self, wanted: Sequence[Glimpse | tuple[Picture, Array]]) -> list[Person]:
        assert isinstance(self.detector, TopDown)
        seen = [one if isinstance(one, Glimpse) else glimpse(self.detector, *one) for one in wanted]
        return poses(self.detector, seen)

    def _collect(self) -> None:
        """Wait for the oldest window that is running, and make rows of it."""
        window, first, parts = self._running.popleft()
        for where, people in parts:
            for (frame, track), person in zip(where, people.result(), strict=True):
                if is_there(person):
                    self.rows.append(Row(frame, track, person, NO_LOOKS))
            for picture in window[: where[-1][0] - first]:
                picture.drop()
        for picture in window:
            picture.drop()
        self.searched = first + len(window)
        if len(self.rows) >= FOLD:
            self._kept = self.people(self.searched)
            self.rows = [row for row in self.rows if row.frame >= self.searched]

    def _follow(self, window: Sequence[Picture], first: int, track: int, *, step: int = 1) -> Person | None:
        """Rows of a track frame by frame, each box from the pose before; the person in the last frame, if still there.

        The window's last frame gets no row: there the caller decides.
        """
        if not isinstance(self.detector, TopDown):
            return None
        person = self.tracker.last[track][1]
        others = [p for t, (_, p) in self.tracker.last.items() if t != track]
        for i, picture in enumerate(window):
            (person,) = poses(self.detector, [glimpse(self.detector, picture, person.box)])
            if not is_there(person) or is_among(person, others):
                return None
            if step < 0 or picture.found is None:
                self.rows.append(Row(first + step * i, track, person, NO_LOOKS))
        return person

    def _see(self, frame: int, track: int, person: Person, picture: Picture) -> None:
        self.tracker.see(frame, track, person)
        self.rows.append(Row(frame, track, person, looks_of(picture.pixels, person.box)))


def looks_of(pixels: Stored | Pixels, box: Array) -> Array:
    """Mean colours (6,) of the upper and the lower body inside a person's box, 0..1; NaN outside the picture."""
    corner, size = box[:2], box[2:] - box[:2]
    out = NO_LOOKS.copy()
    for part, (low, high) in enumerate(((0.2, 0.5), (0.55, 0.85))):
        start, end = (np.clip(corner + size * share, 0, pixels.size) for share in ((0.3, low), (0.7, high)))
        if (end - start >= 1).all():
            scale = SAMPLES / (end - start)
            matrix = np.column_stack([np.diag(scale), scale * (0.5 - start) - 0.5])
            colours = pixels.crop(matrix, (SAMPLES, SAMPLES))
            out[3 * part : 3 * part + 3] = colours.reshape(-1, 3).mean(axis=0) / 255
    return out
