from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twoview.poses import Poses2D, Poses3D, Source, cheapest_course
from twoview.skeleton import COCO17, H36M17, HIPS_TOO_HIGH


def make(frames: int = 6, rate: float = 30.0, **changes) -> Poses2D:
    time = np.arange(frames) / rate
    xy = np.stack([np.outer(time, np.ones(17)) * 300, np.outer(np.ones(frames), np.arange(17))], axis=-1)
    values = {"xy": xy, "score": np.ones((frames, 17)), "time": time, "skeleton": COCO17, "size": (640, 480)} | changes
    return Poses2D(**values)


def test_arrays_are_copied_and_read_only():
    xy = np.zeros((2, 17, 2))
    poses = make(2, xy=xy)
    xy += 1
    assert poses.xy.max() == 0
    assert poses.xy.dtype == np.float32
    with pytest.raises(ValueError, match="read-only"):
        poses.xy[0, 0, 0] = 1


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"xy": np.zeros((2, 16, 2))}, r"expected shape \(2, 17, 2\), got \(2, 16, 2\)"),
        ({"time": [0.0, 0.0]}, "strictly increasing"),
        ({"time": [0.0, np.nan]}, "strictly increasing"),
        ({"score": np.full((2, 17), 1.5)}, "0..1"),
        ({"score": np.zeros((2, 17))}, "exactly where xy is NaN"),
        ({"xy": np.full((2, 17, 2), np.nan)}, "exactly where xy is NaN"),
        ({"size": (0, 10)}, "width, height"),
    ],
)
def test_wrong_values_are_refused_with_what_was_expected(changes, says):
    with pytest.raises(ValueError, match=says):
        make(2, **changes)


def test_poses3d_refuse_unknown_units():
    with pytest.raises(ValueError, match=r"unit screen\|m"):
        Poses3D(np.zeros((1, 17, 3)), [0.0], unit="mm")  # type: ignore[arg-type]


@given(st.floats(0.0, 5 / 30))
def test_interpolation_is_exact_on_a_line(time):
    poses = make(6)
    assert poses.at(np.array([time])).xy[0, :, 0] == pytest.approx(time * 300, abs=1e-3)


def test_nothing_is_invented_outside_or_over_long_gaps():
    score = np.ones((31, 17))
    xy = make(31).xy.copy()
    score[5:15, 3], xy[5:15, 3] = 0, np.nan  # a third of a second
    score[20, 3], xy[20, 3] = 0, np.nan  # one frame
    poses = make(31, xy=xy, score=score)
    at = poses.at(np.array([-0.01, 10 / 30, 20 / 30, 1.01]))
    assert np.isnan(at.xy[[0, 1, 3], 3]).all()
    assert (at.score[[0, 1, 3], 3] == 0).all()
    assert at.xy[2, 3, 0] == pytest.approx(200, abs=0.01)
    assert (at.score[1, :3] > 0).all()


def test_own_times_give_the_same_poses():
    poses = make(6)
    again = poses.at(poses.time)
    np.testing.assert_array_equal(again.xy, poses.xy)
    np.testing.assert_array_equal(again.score, poses.score)


def test_the_cheapest_course_is_that_of_trying_all():
    random = np.random.default_rng(0)
    cost, change = random.random((6, 3)), random.random((6, 3, 3))

    def total(course: tuple[int, ...]) -> float:
        steps = sum(change[t, a, b] for t, (a, b) in enumerate(pairwise(course), start=1))
        return steps + sum(cost[t, state] for t, state in enumerate(course))

    assert tuple(cheapest_course(cost, change.__getitem__)) == min(product(range(3), repeat=6), key=total)


def test_human36m_joints_come_from_the_detectors():
    converted = make(2).to(H36M17)
    assert converted.skeleton == H36M17
    assert converted.xy[0, 0, 1] == pytest.approx((11 + 12) / 2)  # pelvis between the hips
    with pytest.raises(ValueError, match="coco17"):
        converted.to(COCO17)


def test_the_known_error_of_a_detector_is_taken_out_of_its_own_poses_alone():
    poses = make(2)
    share = HIPS_TOO_HIGH["movenet"]
    plain, other, own = (
        replace(poses, source=Source(made_by=name)).to(H36M17) for name in ("", "rtmpose-s", "movenet thunder (cpu)")
    )
    assert np.array_equal(plain.xy, other.xy)
    trunk = plain.xy[:, 0] - plain.xy[:, 8]
    assert own.xy[:, 0] == pytest.approx(plain.xy[:, 0] + share * trunk)
    assert np.array_equal(own.xy[:, 8:], plain.xy[:, 8:])
    assert np.array_equal(own.to(H36M17).xy, own.xy)


def test_between_keeps_the_ends():
    assert make(6).between(1 / 30, 3 / 30 + 1e-9).time == pytest.approx([1 / 30, 2 / 30, 3 / 30])
