"""The top of a swing, on hands that stop and then hit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scenes import swinging_person

from twoview.biomechanics.events import find_swing, hand_speed
from twoview.poses import Poses3D
from twoview.skeleton import H36M17


def swing(rate: float = 30.0, *, top: float = 2.0, hit: float = 2.5) -> Poses3D:
    """Both hands go back slowly until `top`, then forward, fastest at `hit`, and out; speed is zero at the top."""
    time = np.arange(round(4 * rate)) / rate
    speed = np.where(time < top, -1.2 * np.sin(np.pi * np.clip((time - top + 1.2) / 1.2, 0, 1)),
                     5 * np.exp(-(((time - hit) / 0.16) ** 2)))  # fmt: skip
    xyz = np.repeat(swinging_person(1).xyz, len(time), axis=0).astype(float)
    hands = [H36M17.index(name) for name in ("left_wrist", "right_wrist")]
    xyz[:, hands, 0] += np.cumsum(speed)[:, None] / rate
    return Poses3D(xyz, 10 + time, H36M17, "camera", "m")


@pytest.mark.parametrize("rate", [25.0, 60.0, 240.0])
def test_the_top_is_where_the_hands_stop_before_they_are_fastest(rate):
    found = find_swing(swing(rate))
    assert found.top == pytest.approx(12.0, abs=0.07)
    assert found.fastest == pytest.approx(12.5, abs=0.05)


def test_a_walk_of_the_whole_body_moves_no_hands():
    poses = swing()
    walked = replace(poses, xyz=poses.xyz + np.linspace(0, 20, len(poses))[:, None, None])
    assert hand_speed(walked)[5:-5] == pytest.approx(hand_speed(poses)[5:-5], abs=1e-3)


def test_no_swing_is_found_where_hands_do_not_stop():
    time = np.arange(120) / 30
    xyz = np.repeat(swinging_person(1).xyz, len(time), axis=0).astype(float)
    for name in ("left_wrist", "right_wrist"):
        xyz[:, H36M17.index(name), 0] += np.sin(2 * np.pi * 0.2 * time) * 0.1
        xyz[:, H36M17.index(name), 2] += np.cos(2 * np.pi * 0.2 * time) * 0.1
    poses = Poses3D(xyz, time, H36M17, "camera", "m")
    assert find_swing(poses) is None
    assert find_swing(replace(poses, xyz=np.full_like(xyz, np.nan))) is None
    assert find_swing(poses.between(0, 0.03)) is None
    assert find_swing(poses.between(9, 10)) is None
