"""Skeletons and the way to Human3.6M's joints, against numbers from MotionBERT's own converters."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from twoview.errors import FormatError
from twoview.skeleton import COCO17, H36M17, HALPE26, SKELETONS, Skeleton, skeleton, swap_sides, to_h36m

CONVERTED = {  # x, y of the first three joints of the first frame, by MotionBERT's coco2h36m (eyes) and halpe2h36m
    "coco17": [[303.7687375089772, 546.5225562376354], [314.5370832799826, 528.842680752999],
               [381.6242942277948, 514.1744236737147]],
    "halpe26": [[362.9950883865181, 639.5649503622202], [314.5370832799826, 528.842680752999],
                [381.6242942277948, 514.1744236737147]],
}  # fmt: skip


def hand_drawn(source: Skeleton, frames: int = 2) -> tuple[np.ndarray, np.ndarray]:
    xy = np.stack([np.arange(len(source)) * 10.0, np.arange(len(source)) * 7.0 + 3], axis=-1)
    return np.repeat(xy[None], frames, axis=0), np.full((frames, len(source)), 0.8)


@pytest.mark.parametrize("known", SKELETONS.values(), ids=lambda s: s.name)
def test_a_skeleton_is_one_tree_whose_sides_mirror(known: Skeleton):
    assert len(known.bones) == len(known) - 1
    for joint in range(len(known)):
        steps = 0
        while joint != known.root:
            joint, steps = known.parents[joint], steps + 1
            assert steps < len(known)
    assert [known.flip_order[j] for j in known.flip_order] == list(range(len(known)))
    assert all(known.joints[a].replace("left", "right") == known.joints[b] for a, b in known.pairs)


@pytest.mark.parametrize("known", SKELETONS.values(), ids=lambda s: s.name)
def test_bones_run_along_the_limbs_and_are_alike_on_both_sides(known: Skeleton):
    bones = set(known.bones)
    limbs = [("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle")]
    for side in ("left", "right"):
        for parent, child in limbs:
            assert (known.index(f"{side}_{parent}"), known.index(f"{side}_{child}")) in bones
    assert {(known.flip_order[parent], known.flip_order[child]) for parent, child in bones} == bones
    if known == H36M17:
        trunk = ["pelvis", "spine", "thorax", "nose", "head"]
        assert all((known.index(a), known.index(b)) in bones for a, b in pairwise(trunk))
        assert all((known.root, known.index(f"{side}_hip")) in bones for side in ("left", "right"))
        assert all((known.index("thorax"), known.index(f"{side}_shoulder")) in bones for side in ("left", "right"))


def test_coco_joints_go_where_they_belong():
    xy, score = hand_drawn(COCO17)
    out, _ = to_h36m(xy, score, COCO17)

    def coco(name: str) -> np.ndarray:
        return xy[0, COCO17.index(name)]

    def h36m(name: str) -> np.ndarray:
        return out[0, H36M17.index(name)]

    for side in ("left", "right"):
        for part in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle"):
            np.testing.assert_allclose(h36m(f"{side}_{part}"), coco(f"{side}_{part}"))
    hips, shoulders = (coco("left_hip") + coco("right_hip")) / 2, (coco("left_shoulder") + coco("right_shoulder")) / 2
    np.testing.assert_allclose(h36m("pelvis"), hips)
    np.testing.assert_allclose(h36m("thorax"), shoulders)
    np.testing.assert_allclose(h36m("spine"), (hips + shoulders) / 2)
    np.testing.assert_allclose(h36m("nose"), coco("nose"))
    np.testing.assert_allclose(h36m("head"), (coco("left_eye") + coco("right_eye")) / 2)


def test_halpe_brings_its_own_neck_hip_and_head():
    xy, score = hand_drawn(HALPE26)
    out, _ = to_h36m(xy, score, HALPE26)
    for ours, theirs in (("pelvis", "hip"), ("thorax", "neck"), ("head", "head"), ("nose", "nose")):
        np.testing.assert_allclose(out[0, H36M17.index(ours)], xy[0, HALPE26.index(theirs)])
    np.testing.assert_allclose(out[0, H36M17.index("spine")], (xy[0, 18] + xy[0, 19]) / 2)


def test_hips_that_a_detector_marks_too_high_are_put_back_along_the_trunk():
    xy = np.zeros((1, 17, 2))
    xy[0, 5:7], xy[0, 11:13] = [(20, 100), (80, 100)], [(30 + 60, 180), (70 + 60, 180)]  # a trunk that leans: (60, 80)
    plain, _ = to_h36m(xy, np.ones((1, 17)), COCO17)
    moved, _ = to_h36m(xy, np.ones((1, 17)), COCO17, hips_too_high=0.05)
    expected = np.zeros((17, 2))
    expected[[0, 1, 4]], expected[7] = (3, 4), (1.5, 2)
    assert moved[0] - plain[0] == pytest.approx(expected)
    xy[0, 5] = np.nan
    moved, score = to_h36m(xy, np.ones((1, 17)), COCO17, hips_too_high=0.05)
    assert moved[0, 1] == pytest.approx(xy[0, 12])
    assert score[0, 1] == 1


def test_a_joint_made_of_several_is_as_sure_as_the_least_sure_of_them():
    xy, score = hand_drawn(COCO17)
    score[0, COCO17.index("left_hip")] = 0.3
    score[0, COCO17.index("right_shoulder")] = 0.2
    _, out = to_h36m(xy, score, COCO17)
    assert out[0, H36M17.index("pelvis")] == pytest.approx(0.3)
    assert out[0, H36M17.index("thorax")] == pytest.approx(0.2)
    assert out[0, H36M17.index("spine")] == pytest.approx(0.2)
    assert out[1, H36M17.index("spine")] == pytest.approx(0.8)


def test_an_unseen_joint_makes_what_is_made_of_it_unseen():
    xy, score = hand_drawn(COCO17)
    xy[0, COCO17.index("left_hip")], score[0, COCO17.index("left_hip")] = np.nan, 0.0
    out, sure = to_h36m(xy, score, COCO17)
    for joint in ("pelvis", "spine", "left_hip"):
        assert np.isnan(out[0, H36M17.index(joint)]).all()
        assert sure[0, H36M17.index(joint)] == 0
    assert not np.isnan(out[0, H36M17.index("right_hip")]).any()


def test_head_above_the_ears():
    xy, score = hand_drawn(COCO17)
    xy[:, [3, 4]], xy[:, [1, 2]] = [100.0, 40.0], [110.0, 40.0]  # ears, eyes 10 px before them
    xy[:, [5, 6]] = [100.0, 90.0]  # shoulders 50 px below
    out, _ = to_h36m(xy, score, COCO17, head="ears")
    np.testing.assert_allclose(out[0, H36M17.index("head")], [100.0, 40.0 - 8.0])


def test_the_score_of_a_head_above_the_ears_is_the_least_of_what_it_is_made_of():
    xy, _ = hand_drawn(COCO17)
    made_of = ["left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder"]
    for joint in COCO17.joints:
        score = np.full((2, 17), 0.8)
        score[1, COCO17.index(joint)] = 0.3
        _, out = to_h36m(xy, score, COCO17, head="ears")
        assert out[:, H36M17.index("head")].tolist() == [0.8, 0.3 if joint in made_of else 0.8]


def test_unknown_skeletons_are_refused_with_the_known_ones():
    with pytest.raises(FormatError, match="coco17"):
        skeleton("openpose")
    xy, score = hand_drawn(H36M17)
    with pytest.raises(FormatError, match="ears"):
        to_h36m(xy, score, H36M17, head="ears")


@pytest.mark.parametrize("source", [COCO17, HALPE26], ids=lambda s: s.name)
def test_same_places_as_motionberts_converters(source: Skeleton):
    frame, joint = np.mgrid[:5, : len(source)].astype(float)
    x, y = 300 + 40 * np.sin(0.2 * frame + joint) + 3 * joint, 500 + 60 * np.cos(0.15 * frame - 0.7 * joint) + 5 * joint
    out, _ = to_h36m(np.stack([x, y], axis=-1), np.ones(x.shape), source)
    np.testing.assert_allclose(out[0, :3], CONVERTED[source.name], rtol=1e-9)


def test_sides_are_swapped_in_the_marked_frames_and_limbs_alone():
    values = np.arange(3 * 17 * 2).reshape(3, 17, 2)
    legs, arms = [(4, 1), (5, 2)], [(12, 15)]
    swapped = np.array([[True, False], [False, True], [False, False]])
    result = swap_sides(values, swapped, [legs, arms])
    assert (result[0, [4, 1, 5, 2]] == values[0, [1, 4, 2, 5]]).all()
    assert (result[1, [12, 15]] == values[1, [15, 12]]).all()
    assert (result != values).any(axis=2).sum() == 6
    assert (swap_sides(result, swapped, [legs, arms]) == values).all()
