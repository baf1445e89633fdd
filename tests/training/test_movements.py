"""Takes by movement, the movement to hold out, and takes that do not belong: on bodies that are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from bodies import moving_body
from small_takes import PAPER, take
from triangulated_takes import takes as triangulated

from twoview.geometry.similarity import bone_lengths, canonical
from twoview.lifting.model import load_model
from twoview.skeleton import H36M17
from twoview.takes import Take, resample
from twoview.training import movements
from twoview.training.bodies import from_bones, to_bones
from twoview.training.clips import Clip, collate, cut
from twoview.training.finetuning import finetune
from twoview.training.movements import (
    FAR_MM,
    MOST_TAKES,
    SAME_MM,
    STILL_MM,
    Movements,
    compare,
    distances,
    groups,
    listed,
    of_poses,
    other_athletes,
    poses,
    proportions,
    spread,
)

LEFT = H36M17.index("left_hip")


def shown(movement: int, frames: slice = slice(None)) -> np.ndarray:
    """Comparable poses of a body; another number is another movement."""
    body = moving_body(240, np.random.default_rng(movement))[frames]
    return 1000 * canonical(torch.from_numpy(body)).numpy()


def test_a_body_that_lies_down_is_another_pose():
    """Turning about the vertical alone: standing and lying differ by far more than two phones at different heights."""
    body = torch.from_numpy(moving_body(40, np.random.default_rng(0)))
    lying = 1000 * canonical(body[..., [0, 2, 1]] * torch.tensor([1, 1, -1]))
    assert np.median(distances(lying.numpy(), 1000 * canonical(body).numpy())) > 2 * SAME_MM


def test_the_nearest_pose_by_hand_and_a_mirrored_pose_is_the_same():
    own, other = shown(0)[:7], shown(1)[:9]
    sides = list(H36M17.flip_order)
    turned = other[:, sides] * [-1, 1, 1]
    by_hand = [min(np.sqrt(((a - b) ** 2).sum(-1).mean()) for b in [*other, *turned]) for a in own]
    assert distances(own, other) == pytest.approx(by_hand)
    assert distances(turned, other) == pytest.approx(0, abs=1e-3)
    assert distances(own[:1] + np.array([3.0, 0, 4.0]), own[:1]) == pytest.approx(5.0, abs=1e-3)


def test_takes_are_grouped_by_the_mean_of_their_distances():
    near, far = SAME_MM - 20, SAME_MM + 80
    chain = np.array([[0, near, far], [near, 0, near], [far, near, 0]])
    assert groups(chain) == [[0, 1], [2]]  # 2 is as near to 1, but further from both than the bound
    assert groups(np.zeros((1, 1))) == [[0]]
    assert groups(np.zeros((0, 0))) == []
    two = np.full((5, 5), far)
    two[np.ix_([0, 3, 4], [0, 3, 4])] = two[np.ix_([1, 2], [1, 2])] = near
    np.fill_diagonal(two, 0)
    assert groups(two) == [[0, 3, 4], [1, 2]]


def test_takes_of_one_movement_are_one_group():
    halves = {f"take{n}": shown(n % 2, slice(n // 2, None, 3)) for n in range(6)}
    found = of_poses(halves)
    assert found.groups == (("take0", "take2", "take4"), ("take1", "take3", "take5"))
    assert max(found.away.values()) < SAME_MM / 2
    assert list(found.away) == list(halves)
    assert found.spread["take0"] == pytest.approx(spread(halves["take0"]))
    assert list(found.warnings()) == []


def test_a_take_that_shows_a_part_of_a_longer_one_is_not_the_same_movement():
    """Every pose of the short take is in the long one, and most poses of the long one are not in the short one."""
    long = np.concatenate([shown(0), shown(1), shown(2)])
    found = of_poses({"short": shown(0)[::2], "long": long})
    assert found.away["short"] == pytest.approx(0, abs=1e-3)
    assert found.away["long"] > SAME_MM
    assert len(found.groups) == 2


def test_one_take_is_one_group_and_unlike_nothing():
    found = of_poses({"take": shown(0)})
    assert found.groups == (("take",),)
    assert np.isnan(found.away["take"])
    assert list(found.warnings()) == []


def made(*sizes: int, away: float = 50.0) -> Movements:
    """Movements of so many takes each: a0, a1, ..., b0, ..."""
    named = tuple(tuple(f"{'abcdef'[n]}{i}" for i in range(size)) for n, size in enumerate(sizes))
    takes = [take for group in named for take in group]
    return Movements(named, dict.fromkeys(takes, away), dict.fromkeys(takes, 100.0))


@pytest.mark.parametrize(
    ("sizes", "share", "held"),
    [
        ((5,), 0.2, ""),  # one movement
        ((2, 1), 0.2, ""),  # too few takes
        ((3, 1), 0.2, "b"),
        ((4, 2), 0.2, "b"),
        ((2, 2, 2), 0.2, "c"),  # the last of equals
        ((1, 4, 1), 0.2, "c"),
        ((6, 3, 1), 0.2, "c"),  # 2 wanted: 3 and 1 are equally near, and the last is taken
        ((6, 3, 1), 0.3, "b"),
        ((3, 3), 0.2, ""),  # half of the takes would not be taught
        ((3, 3), 0.5, ""),
        ((8, 4), 0.2, "b"),  # a third is the most
        ((7, 4), 0.2, ""),
        ((3, 1), 0.0, ""),
    ],
)
def test_a_whole_movement_near_the_share_is_held_out(sizes, share, held):
    found = made(*sizes)
    expected = next((group for group in found.groups if group[0][0] == held), ())
    assert found.to_hold_out(share) == expected


def test_a_take_that_may_not_belong_is_named_and_is_no_judge():
    found = made(6, 1, 1)
    odd = replace(found, away={**found.away, "c0": 180.0})
    assert found.to_hold_out(0.1) == ("c0",)
    assert odd.to_hold_out(0.1) == ("b0",)
    assert list(odd.warnings()) == [
        "c0 is unlike the other takes: its nearest poses are 180 mm away, theirs 50; "
        "if it does not belong, leave it out"
    ]


@pytest.mark.parametrize(
    ("sizes", "away", "usual", "named"),
    [
        ((4, 1), FAR_MM + 1, 40.0, True),
        ((4, 1), FAR_MM - 1, 40.0, False),  # near enough, however near the others are
        ((4, 1), 150.0, 90.0, False),  # all takes differ
        ((4, 1), 160.0, 90.0, True),
        ((2, 1), 300.0, 40.0, False),  # too few takes to tell
    ],
)
def test_only_a_take_far_from_takes_that_are_near_each_other_is_named(sizes, away, usual, named):
    found = made(*sizes, away=usual)
    found = replace(found, away={**found.away, "b0": away})
    assert [said.split()[0] for said in found.warnings()] == (["b0"] if named else [])


def test_a_take_is_no_measure_of_how_far_the_others_are_from_each_other():
    found = made(3, 1)
    found = replace(found, away={"a0": 40.0, "a1": 60.0, "a2": 90.0, "b0": 120.0})
    assert [said.split()[0] for said in found.warnings()] == ["b0"]  # 120 is twice 60; with itself, theirs would be 75


def test_takes_that_stand_still_are_named():
    random = np.random.default_rng(0)
    still = shown(0)[:1] + random.normal(size=(50, 17, 3)) * STILL_MM / 4
    assert 0 < spread(still) < STILL_MM
    moving = {f"take{n}": shown(0, slice(n, None, 3)) for n in range(2)}
    assert spread(moving["take0"]) > 2 * STILL_MM
    (said,) = of_poses({**moving, "stand": still, "wait": still}).warnings()
    assert said == "the athlete hardly moves in stand and wait, which teaches nothing about movement"
    (said,) = of_poses({"stand": still}).warnings()
    assert "hardly moves in any take" in said
    assert "nothing about movement can be learned" in said


def of(*takes: str) -> list[Clip]:
    xy, time = np.zeros((2, 4, 17, 2)), np.arange(4) / 30
    return [Clip(take, ("a", "b"), time, xy, xy[..., 0], np.ones((2, 2))) for take in takes for _ in range(2)]


@pytest.mark.parametrize(
    ("sizes", "held", "taught", "says"),
    [
        ((4, 1), ["b0"], ["a0", "a1", "a2", "a3"], "b0 was held out: its movement is unlike the other takes'"),
        ((4, 2), ["b0", "b1"], ["a0", "a1"], "b0 and b1 were held out: their movement is unlike the other takes'"),
        ((2, 1), ["b0", "a0"], ["a1"], "b0 and a0 were held out: only the movement of b0 is unlike the other takes'"),
        ((2, 1), ["a1"], ["a0", "b0"], "a1 was held out, and other takes show its movement too: how the model does on"),
        ((3,), ["a2"], ["a0", "a1"], "a2 was held out, but all takes show one movement: how the model does on other"),
        ((1,), ["a0"], ["a0"], "the end of a0 was held out, but the only take shows one movement: how the model does"),
        ((3,), [], ["a0", "a1"], "no take was held out: how the model does on other movements is not known"),
    ],
)
def test_the_run_says_what_its_judge_saw(sizes, held, taught, says):
    assert made(*sizes).judged_on(of(*held), of(*taught)).startswith(says)


def test_names_in_a_sentence():
    assert [listed(names) for names in (["a"], ["a", "b"], ["a", "b", "c"])] == ["a", "a and b", "a, b and c"]


def test_the_poses_of_a_take_are_the_mean_of_what_the_lifter_says_of_its_views(start):
    model = load_model(start)
    clips = cut(resample(take(), 30.0), length=9)
    found = poses(clips[:1], model)
    assert found.shape == (9, 17, 3)
    for other in ("a", "b"):
        single = [replace(clips[0], xy=clips[0].xy[[v, v]]) for v, view in enumerate(clips[0].views) if view == other]
        assert not np.allclose(poses(single, model), found, atol=1)
    both = [poses([replace(clips[0], xy=clips[0].xy[[v, v]])], model) for v in (0, 1)]
    assert found == pytest.approx(np.mean(both, axis=0), abs=0.05)


def test_frames_that_a_view_does_not_show_are_not_compared(start):
    (clip,) = cut(resample(take(), 30.0), length=9)[:1]
    score = clip.score.copy()
    score[1, 3:5] = 0
    assert len(poses([replace(clip, score=score)], load_model(start))) == 7


def test_long_takes_are_compared_by_poses_from_all_over_them(start, monkeypatch):
    clips = cut(resample(take(seconds=8.0), 30.0), length=27)
    lifted = []
    monkeypatch.setattr(movements, "collate", lambda part, rule: lifted.extend(part) or collate(part, rule))
    monkeypatch.setattr(movements, "POSES", 40)
    assert len(poses(clips, load_model(start))) == 40
    assert len(lifted) == movements.CLIPS < len(clips)
    assert lifted[0] is clips[0]
    assert lifted[-1] is clips[-1]


def legs_of(found, factor: float):
    """The triangulation of a person whose legs are longer."""
    bones = {view: to_bones(torch.from_numpy(points)) for view, points in found.points.items()}
    for own in bones.values():
        own[..., [H36M17.index(f"{side}_{joint}") for side in ("left", "right") for joint in ("knee", "ankle")], :] *= (
            factor
        )
    return replace(found, points={view: from_bones(own).numpy() for view, own in bones.items()})


@pytest.fixture(scope="module")
def session() -> tuple[list[Take], list]:
    return triangulated(5, frames=60)


def test_proportions_are_those_of_the_body_whatever_its_size(session):
    found = session[1][0]
    shares = np.exp(proportions(found))
    assert shares.sum() == pytest.approx(1)
    true = moving_body(1, np.random.default_rng(0))[0]
    lengths = bone_lengths(torch.from_numpy(true)).numpy()
    thigh = H36M17.bones.index((LEFT, H36M17.index("left_knee")))
    assert shares[1] == pytest.approx(2 * lengths[thigh] / lengths.sum(), rel=0.04)
    double = replace(found, points={view: 2 * points for view, points in found.points.items()})
    assert proportions(double) == pytest.approx(proportions(found))
    assert np.isnan(proportions(replace(found, reliable=np.zeros_like(found.reliable)))).all()
    few = np.arange(60) < 6
    lost = {view: np.where(few[:, None, None], 9.0 * points, points) for view, points in found.points.items()}
    lost = {view: np.where(few[:, None, None] & (np.arange(17) == 3)[:, None], 0, p) for view, p in lost.items()}
    assert proportions(replace(found, points=lost)) == pytest.approx(proportions(found), abs=0.01)
    half = np.arange(60) < 30
    wrong = {view: np.where(half[:, None, None], points, 9.0) for view, points in found.points.items()}
    assert proportions(replace(found, points=wrong, reliable=half)) == pytest.approx(proportions(found), abs=0.05)


def test_a_take_of_another_athlete_is_named_and_those_of_one_are_not(session):
    found = session[1]
    one = {f.take: proportions(f) for f in found}
    assert other_athletes(one) == []
    (said,) = other_athletes({**one, "take2": proportions(legs_of(found[2], 1.3))})
    assert said.startswith("take2 seems to show another athlete: its bones differ by 1")
    assert said.endswith("if so, leave it out")
    assert other_athletes({**one, "take2": proportions(legs_of(found[2], 1.02))}) == []
    unknown = np.full(8, np.nan)
    assert other_athletes({**one, "take2": unknown}) == []
    three = {name: one[name] for name in ("take0", "take1")}
    assert other_athletes({**three, "take2": proportions(legs_of(found[2], 1.3))}) == []


def test_takes_of_several_athletes_are_not_all_named(session):
    """Where bones differ from take to take, none is another athlete's more than the rest are."""
    all_differ = {
        f.take: proportions(legs_of(f, factor)) for f, factor in zip(session[1], (0.7, 0.85, 1, 1.2, 1.4), strict=True)
    }
    assert len(other_athletes(all_differ)) < 3


def test_a_run_holds_out_a_movement_and_says_so(tmp_path, start, monkeypatch):
    """The second take shows another movement; without groups, the last would be held out."""
    made = [take(f"take{n}", seed=7 if n == 1 else 0) for n in range(4)]
    monkeypatch.setattr(movements, "FAR_MM", 1e9)
    run = finetune(made, replace(PAPER, weights=str(start), epochs=1), out=tmp_path / "run")
    (said,) = (warning for warning in run.warnings if "held out" in warning and "unadapted" not in warning)
    assert said == "take1 was held out: its movement is unlike the other takes'"
    assert "Take1 was held out" in (tmp_path / "run" / "report.html").read_text()
    card = load_model(run.model).card
    assert card["clips"] == 3 * card["held_out_clips"]


def test_a_run_names_a_take_that_does_not_belong_and_is_not_judged_by_it(tmp_path, start):
    made = [take(f"take{n}", seed=7 if n == 1 else 0) for n in range(4)]
    run = finetune(made, replace(PAPER, weights=str(start), epochs=1), out=tmp_path / "run")
    assert any(said.startswith("take1 is unlike the other takes") for said in run.warnings)
    assert any(said.startswith("take3 was held out, and other takes show its movement") for said in run.warnings)


def test_too_many_takes_are_not_compared(start):
    clips = of(*(f"take{n}" for n in range(MOST_TAKES + 1)))
    found = compare(clips, load_model(start))
    assert found.groups == ()
    assert found.to_hold_out(0.2) == ()
    assert list(found.warnings()) == []
    assert found.judged_on(clips[-2:], clips[:-2]) == (
        f"take{MOST_TAKES} was held out; more than {MOST_TAKES} takes are not compared by movement"
    )
