"""Who of several people is the athlete, and how sure that is: one view alone, several together, or a question."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from bodies import moving_body
from crowds import RATE, Phone, Seen, look
from numpy import ndarray as Array

from twoview.detection import athlete
from twoview.detection.athlete import (
    COMPARED,
    Choice,
    Crowd,
    _same,
    _trajectories,
    check_sure,
    choose,
    choose_alone,
    choose_together,
    one_body,
    summarize,
)
from twoview.detection.tracking import People
from twoview.errors import DetectorError
from twoview.skeleton import H36M17
from twoview.timeline import ClockMap, Sync

BOTH = Sync("a", {"a": ClockMap(), "b": ClockMap()})
LEAST = 0.8


def upright(body: Array) -> Array:
    """A body of `moving_body` in a room: z up, standing at the origin."""
    return np.stack([body[..., 0], body[..., 2], 0.95 - body[..., 1]], axis=-1)


def dancer(rng: np.random.Generator, frames: int, *, travel: float = 0.1) -> Array:
    return upright(moving_body(frames, rng, travel=travel))


def stander(rng: np.random.Generator, frames: int, x: float, y: float) -> Array:
    """Somebody who stands still at a place in the room."""
    return np.repeat(dancer(rng, frames)[:1], frames, axis=0) + np.array([x, y, 0])


def phones(distance: float = 4.4, focal: float = 1900.0) -> dict[str, Phone]:
    """Two phones that look at the origin from 57 degrees apart."""
    places = {
        view: [distance * np.sin(angle), -distance * np.cos(angle), 1.3] for view, angle in (("a", -0.5), ("b", 0.5))
    }
    return {view: Phone(np.array(at), np.array([0, 0, 0.95]), focal=focal) for view, at in places.items()}


def crowds(seen: dict[str, Seen]) -> dict[str, Crowd]:
    return {view: Crowd(one.people, H36M17, one.size) for view, one in seen.items()}


def crowd_of(*people: Array, seed: int = 0, size: tuple[int, int] = (640, 480)) -> Crowd:
    """Tracks 0, 1, ... of joints (T, 17, 2) px, NaN rows where unseen."""
    rows = [(f, track, xy[f]) for track, xy in enumerate(people) for f in range(len(xy)) if np.isfinite(xy[f]).all()]
    xy = np.array([row[2] for row in rows])
    box = np.concatenate([xy.min(axis=1), xy.max(axis=1)], axis=-1)
    frame, track = (np.array([row[i] for row in rows]) for i in (0, 1))
    everyone = People(
        np.arange(len(people[0])) / RATE, frame, track, xy, np.full(xy.shape[:2], 0.8), box, np.full((len(xy), 6), 0.5)
    )
    return Crowd(everyone, H36M17, size)


SHAPE = np.stack([np.tile([-8.0, 8.0], 9)[:17], np.linspace(-40, 40, 17)], axis=-1)


def figure(frames: int, x: float, *, scale: float = 2.0, swing: float = 0.0, absent: int = 0) -> Array:
    """Joints (T, 17, 2) px of somebody at x whose arms and legs swing, absent from the first frames."""
    time = np.arange(frames)[:, None, None] / RATE
    moved = swing * np.sin(7 * time) * np.stack([SHAPE[:, 1], SHAPE[:, 0]], axis=-1)
    xy = (SHAPE + moved) * scale + [x, 240]
    xy[:absent] = np.nan
    return xy


# --- one view --------------------------------------------------------------------------------------------------------


def test_the_athlete_is_chosen_from_the_whole_clip():
    nearer_but_brief = figure(100, 560, scale=2.6)
    nearer_but_brief[20:] = np.nan
    crowd = crowd_of(figure(100, 330, swing=0.2), nearer_but_brief, figure(100, 610, scale=1.6))
    choice = choose_alone(crowd.people, crowd.size)
    assert (choice.track, choice.people) == (0, 3)
    assert choice.sureness > 0.95
    assert sum(choice.chances.values()) == pytest.approx(1)
    assert next(row.track for row in summarize(crowd.people, crowd.size)) == 0
    assert choose(crowd.people, crowd.size, person=2) == 2


def test_one_person_is_the_athlete_for_sure():
    crowd = crowd_of(figure(30, 600, scale=0.8, absent=25))
    assert choose_alone(crowd.people, crowd.size).sureness == 1.0


def test_nobody_and_a_person_that_there_is_not():
    with pytest.raises(DetectorError, match="no person found in any of 3 frames"):
        choose(replace(People.none(17), time=np.arange(3.0)), (640, 480))
    crowd = crowd_of(figure(10, 100))
    with pytest.raises(DetectorError, match="no person 7 in this video; there are 0"):
        choose(crowd.people, crowd.size, person=7)


def test_two_alike_are_a_question_unless_one_is_named():
    crowd = crowd_of(figure(90, 200, swing=0.2), figure(90, 440, swing=0.2))
    choice = choose_alone(crowd.people, crowd.size)
    assert choice.sureness == pytest.approx(0.5, abs=0.05)
    with pytest.raises(DetectorError, match=r"2 people.* person \d \(5\d%\)") as raised:
        check_sure(choice, LEAST)
    assert "people.png" in raised.value.hint
    named = choose_alone(crowd.people, crowd.size, 1)
    assert (check_sure(named, LEAST).track, named.sureness, named.by_hand) == (1, 1.0, True)


def test_who_stands_does_not_move_because_others_cross_the_box():
    """Where a runner passes, joints of the runner are taken for those of the person behind."""
    stands, runs = figure(90, 320, scale=2.5), figure(90, 0, scale=2.2, swing=0.3)
    runs[..., 0] += np.linspace(150, 490, 90)[:, None]
    mixed = stands.copy()
    near = np.abs(runs.mean(axis=1)[:, 0] - 320) < 30
    mixed[near, ::2] = runs[near, ::2]
    alone, crossed = crowd_of(stands, runs), crowd_of(mixed, runs)
    before, after = (next(r for r in summarize(c.people, c.size) if r.track == 0).motion for c in (alone, crossed))
    assert before < 0.02
    assert after < 0.05


# --- do two tracks show one body? ------------------------------------------------------------------------------------


def evidence(first: Array, second: Array, seed: int = 0, later_s: float = 0.0) -> float:
    """Log odds that view a's track of one body and view b's of another are one."""
    rng, own = np.random.default_rng(seed), phones()
    seen = {"a": look(own["a"], [first], rng), "b": look(own["b"], [second], rng)}
    sync = Sync("a", {"a": ClockMap(), "b": ClockMap(later_s)})
    tracks = [_trajectories(crowd, crowd.people.tracks[0], sync, view) for view, crowd in crowds(seen).items()]
    return one_body(*tracks)


@pytest.mark.parametrize("seed", range(3))
def test_one_body_agrees_in_both_views_and_no_other_does(seed):
    rng = np.random.default_rng(seed)
    one, other = dancer(rng, 180), dancer(rng, 180)
    assert evidence(one, one, seed) > 2.5
    assert evidence(one, other, seed) < -1.5
    assert evidence(one, stander(rng, 180, 0, 0), seed) < -1
    assert evidence(one, np.roll(one, 20, axis=0), seed) < 0  # who imitates the athlete 0.7 s later
    assert evidence(one, one, seed, later_s=0.7) < 0  # a wrong clock


def test_who_is_seen_for_a_moment_says_nothing():
    rng = np.random.default_rng(1)
    assert evidence(dancer(rng, 30), dancer(rng, 30)) == 0.0


def test_nobody_is_two_people():
    """A track that surely is somebody's leaves the others to the others, whatever they look like."""
    probability = _same(np.array([[4.0, 3.0], [-4.0, 0.0]]))
    assert probability[0, 0] > 0.7
    assert probability[0, 1] < 0.3
    assert _same(np.full((COMPARED, COMPARED), 5.0)).sum(axis=1) == pytest.approx(1, abs=0.05)


# --- several views ---------------------------------------------------------------------------------------------------


def crowded(seed: int) -> dict[str, Seen]:
    """A dancer in the middle, and behind the dancer, absent at first, somebody who stands still."""
    rng, frames = np.random.default_rng(seed), 150
    body = dancer(rng, frames)
    side = rng.choice([-1, 1])
    behind = np.repeat(dancer(rng, frames)[:1], frames, axis=0)
    behind = behind + np.array([side * rng.uniform(0.9, 1.4), rng.uniform(1.0, 2.0), 0])
    behind[: int(rng.uniform(0.1, 0.34) * frames)] = np.nan
    aimed = {view: replace(phone, aim=np.array([0.1 * side, 0, 0.95])) for view, phone in phones().items()}
    return {view: look(phone, [body, behind], rng) for view, phone in aimed.items()}


@pytest.mark.parametrize("seed", [137, 180, 267, 335])
def test_a_bystander_whose_noise_agrees_by_chance_is_not_taken(seed):
    """Each view alone is right here; the noise of the bystander's joints correlates with the dancer's speed."""
    seen = crowded(seed)
    for view, one in crowds(seen).items():
        assert seen[view].owner_of(choose(one.people, one.size)) == 0
    for view, choice in choose_together(crowds(seen), BOTH).items():
        assert seen[view].owner_of(choice.track) == 0
        assert choice.sureness > LEAST
        assert choice.together


def beside_in_b(seed: int = 4, frames: int = 180) -> dict[str, Seen]:
    """An athlete, and in view b beside the athlete, as large and as lively, somebody who stands aside in view a."""
    rng, own = np.random.default_rng(seed), phones(5.5)
    right, _, forward = own["b"].axes()
    offset = (1.3 * right - 0.4 * forward) * [1, 1, 0]
    own["b"] = replace(own["b"], aim=own["b"].aim + 0.5 * offset)
    bodies = [dancer(rng, frames), dancer(rng, frames) + offset]
    return {view: look(phone, bodies, rng) for view, phone in own.items()}


def test_a_view_that_cannot_tell_is_overruled_by_one_that_can():
    seen = beside_in_b()
    alone = {view: choose_alone(one.people, one.size) for view, one in crowds(seen).items()}
    assert alone["b"].sureness < LEAST
    together = choose_together(crowds(seen), BOTH)
    for view, choice in together.items():
        assert seen[view].owner_of(choice.track) == 0
        assert choice.sureness > LEAST
    late = Sync("a", {"a": ClockMap(), "b": ClockMap(2.2)})  # with a wrong clock the motions do not meet
    assert choose_together(crowds(seen), late)["b"].sureness < LEAST


def test_a_person_chosen_by_hand_in_one_view_settles_the_other():
    seen = beside_in_b()
    other = {
        view: next(t for t in one.people.tracks if seen[view].owner_of(t) == 1) for view, one in crowds(seen).items()
    }
    found = choose_together(crowds(seen), BOTH, by_hand={"a": other["a"]})
    assert (found["a"].track, found["a"].by_hand, found["a"].sureness) == (other["a"], True, 1.0)
    assert found["b"].track == other["b"]
    assert found["b"].sureness > LEAST


@pytest.fixture
def decide(monkeypatch):
    """The choices of two views, from the chances of each alone and the log odds (N, M) that tracks are one body."""

    def decide(first: list[float], second: list[float], odds: list[list[float]]) -> list[Choice]:
        chances = {0: dict(enumerate(first)), 1: dict(enumerate(second))}
        alone = {
            view: Choice(max(own, key=own.__getitem__), len(own), max(own.values()), own)
            for view, own in chances.items()
        }
        crowds = {name: Crowd(view, H36M17, (1, 1)) for view, name in enumerate("ab")}  # type: ignore[arg-type]
        monkeypatch.setattr(athlete, "choose_alone", lambda people, *_: alone[people])
        monkeypatch.setattr(athlete, "_trajectories", lambda crowd, track, *_: track)
        monkeypatch.setattr(athlete, "one_body", lambda a, b: odds[a][b])
        return list(choose_together(crowds, BOTH).values())

    return decide


def test_agreement_beyond_chance_overrules_a_view(decide):
    first, second = decide([0.95, 0.05], [0.4, 0.6], [[4.0, -4.0], [-4.0, 4.0]])
    assert (first.track, second.track) == (0, 0)
    assert second.sureness > 0.9


def test_a_track_much_less_like_an_athlete_never_overrules(decide):
    """Only b's second track moves as a's athlete does, and it is 19 times less like an athlete than the first."""
    _, second = decide([0.98, 0.02], [0.95, 0.05], [[-5.0, 5.0], [0.0, 0.0]])
    assert second.track == 0
    assert second.sureness < 0.5


def test_agreement_that_may_be_chance_overrules_nobody(decide):
    _, second = decide([0.98, 0.02], [0.7, 0.3], [[-1.0, 1.0], [0.0, 0.0]])
    assert second.track == 0
    assert second.sureness < LEAST


def test_an_athlete_who_may_be_hidden_in_a_view_makes_the_others_less_sure(decide):
    """Each view prefers another person, and b's track of a's athlete is not one body with it: perhaps hardly seen."""
    first, second = decide([0.85, 0.15], [0.04, 0.96], [[-3.0, -5.0], [-5.0, 3.0]])
    assert first.sureness < 0.8
    assert second.sureness < 0.8


def test_three_views_and_tracks_beyond_those_compared():
    rng, frames = np.random.default_rng(5), 150
    athlete = dancer(rng, frames)
    bodies = [athlete, *(stander(rng, frames, x, 2.5) for x in (-2.2, -1.0, 1.0, 2.2))]
    own = {**phones(5.5), "c": Phone(np.array([0, -5.5, 1.4]), np.array([0, 0, 0.95]), focal=1900.0)}
    seen = {view: look(phone, bodies, rng) for view, phone in own.items()}
    sync = Sync("a", {view: ClockMap() for view in own})
    for view, choice in choose_together(crowds(seen), sync).items():
        assert seen[view].owner_of(choice.track) == 0
        assert choice.sureness > LEAST
        assert 0.9 < sum(choice.chances.values()) <= 1 + 1e-6  # the rest: nobody who was tracked
