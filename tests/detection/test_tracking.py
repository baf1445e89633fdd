"""Who is who through a clip: crossings, absences, bystanders."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from twoview.detection.tracking import People, Tracker, distance, join
from twoview.detectors import Person

JOINTS = 17
SHAPE = np.stack([np.tile([-8.0, 8.0], 9)[:JOINTS], np.linspace(-40, 40, JOINTS)], axis=-1)


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
