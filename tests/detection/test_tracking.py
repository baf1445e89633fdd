"""Who is who through a clip: crossings, absences, bystanders."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from twoview.detection.athlete import choose, choose_together, summarize
from twoview.detection.tracking import People, Tracker, distance, join
from twoview.detectors import Person
from twoview.errors import DetectorError
from twoview.timeline import ClockMap, Sync

JOINTS = 17
SHAPE = np.stack([np.tile([-8.0, 8.0], 9)[:JOINTS], np.linspace(-40, 40, JOINTS)], axis=-1)
SIZE = (640, 480)


def person(x: float, y: float, scale: float = 1.0) -> Person:
    xy = SHAPE * scale + [x, y]
    return Person(xy, np.full(JOINTS, 0.8), np.concatenate([xy.min(axis=0), xy.max(axis=0)]))


def clip(*paths: tuple[int, int, object], frames: int = 100, rate: float = 30.0, colors: list | None = None) -> People:
    """People from (first frame, frames, position of frame -> x, y[, scale]) each a track."""
    rows = []
    for track, (first, count, where) in enumerate(paths):
        for frame in range(first, first + count):
            color = colors[track] if colors else [0.5] * 6
            rows.append((frame, track, person(*where(frame)), color))  # type: ignore[operator]
    bodies = {name: np.array([getattr(r[2], name) for r in rows]) for name in ("xy", "score", "box")}
    return People(
        np.arange(frames) / rate, np.array([r[0] for r in rows]), np.array([r[1] for r in rows]), **bodies,
        colors=np.array([r[3] for r in rows], float),
    )  # fmt: skip


def test_two_people_who_cross_keep_their_tracks():
    tracker = Tracker()
    ids = [tracker.new(), tracker.new()]
    for frame in range(0, 100, 10):
        people = [person(100 + 4 * frame, 240), person(500 - 4 * frame, 260)]
        matched = tracker.match(frame, people) if frame else dict(zip(ids, (0, 1), strict=True))
        assert matched == {ids[0]: 0, ids[1]: 1}, frame
        for track, i in matched.items():
            tracker.update(frame, track, people[i])


def test_somebody_elsewhere_is_somebody_else():
    tracker = Tracker()
    tracker.update(0, tracker.new(), person(100, 240))
    assert tracker.match(10, [person(400, 240)]) == {}
    assert distance(person(100, 240), person(180, 240), np.zeros(2)) == pytest.approx(1.0)


def test_a_track_lost_for_two_seconds_is_continued():
    people = clip((0, 30, lambda f: (100 + f, 240)), (90, 10, lambda f: (150 + (f - 90), 240)))
    assert join(people).tracks == (0,)


def test_a_track_is_not_continued_by_another_size_color_or_place():
    before = (0, 30, lambda f: (100, 240))
    assert join(clip(before, (40, 30, lambda f: (110, 240, 3.0)))).tracks == (0, 1)
    assert join(clip(before, (40, 30, lambda f: (600, 240)))).tracks == (0, 1)
    colors = [[0.1] * 6, [0.9] * 6]
    assert join(clip(before, (40, 30, lambda f: (110, 240)), colors=colors)).tracks == (0, 1)


def test_two_tracks_on_one_body_become_one_with_the_longer_ones_rows():
    people = clip((0, 60, lambda f: (100 + f, 240)), (50, 50, lambda f: (101 + f, 240)))
    weak = (people.track == 0) & (people.frame >= 50)
    people = replace(people, score=np.where(weak[:, None], 0.6, people.score))
    joined = join(people)
    assert joined.tracks == (0,)
    own = joined.of(0)
    np.testing.assert_array_equal(own.frame, np.arange(100))
    assert (own.score[50:60] == 0.6).all()


def test_the_athlete_is_chosen_from_the_whole_clip():
    athlete = (0, 90, lambda f: (320 + 60 * np.sin(f / 5), 240, 2.0 + 0.3 * np.sin(f / 4)))
    nearer_but_brief = (60, 20, lambda f: (560, 240, 2.6))
    still_at_the_edge = (0, 100, lambda f: (610, 240, 1.6))
    people = clip(athlete, nearer_but_brief, still_at_the_edge)
    assert choose(people, SIZE) == 0
    assert next(row.track for row in summarize(people, SIZE)) == 0
    assert choose(people, SIZE, person=2) == 2


def test_nobody_and_a_person_that_there_is_not():
    with pytest.raises(DetectorError, match="no person found in any of 3 frames"):
        choose(replace(People.none(JOINTS), time=np.arange(3.0)), SIZE)
    with pytest.raises(DetectorError, match="no person 7 in this video; there are 0"):
        choose(clip((0, 10, lambda f: (100, 240))), SIZE, person=7)


def moving(when, size: float, x: float):
    """A person at x whose arms and legs move at the moments `when(seconds)` says, as a path for `clip`."""

    def shape(frame: int, seconds: float) -> np.ndarray:
        xy = SHAPE * size
        return xy + [x, 240] + 6 * size * when(seconds) * np.stack([SHAPE[:, 1] / 20, SHAPE[:, 0] / 8], axis=-1)

    return shape


def test_two_views_settle_who_it_is_by_when_they_move():
    def kicks(t):
        return np.sin(2 * np.pi * 2 * t) * (1 < t % 4 < 2)

    def strolls(t):
        return np.sin(2 * np.pi * 1.5 * t) * (2.5 < t % 4 < 3.7)

    def view(offset: float, *who) -> People:
        rows, time = [], np.arange(240) / 30
        for track, shape in enumerate(who):
            rows += [(frame, track, shape(frame, t + offset)) for frame, t in enumerate(time)]
        xy = np.array([row[2] for row in rows])
        box = np.concatenate([xy.min(axis=1), xy.max(axis=1)], axis=-1)
        frames, tracks = (np.array([row[i] for row in rows]) for i in (0, 1))
        return People(time, frames, tracks, xy, np.full(xy.shape[:2], 0.8), box, np.full((len(rows), 6), 0.5))

    first = view(0.0, moving(kicks, 2.0, 320), moving(strolls, 1.2, 560))
    second = view(0.7, moving(strolls, 1.7, 330), moving(kicks, 1.5, 300))  # the stroller is nearer here
    sync = Sync("a", {"a": ClockMap(), "b": ClockMap(0.7)})
    assert choose(second, SIZE) == 0
    assert choose_together({"a": (first, SIZE), "b": (second, SIZE)}, sync) == {"a": 0, "b": 1}
    late = Sync("a", {"a": ClockMap(), "b": ClockMap(2.2)})  # with a wrong clock the motions do not meet
    assert choose_together({"a": (first, SIZE), "b": (second, SIZE)}, late)["b"] == 0
