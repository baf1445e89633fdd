"""Swapped sides, lone jumps and smoothing, on motion with a known answer."""

from __future__ import annotations

import numpy as np
import pytest

from twoview.detection.repair import find_jumps, find_swaps, limb_pairs, repair, smooth, swap
from twoview.poses import Poses2D
from twoview.skeleton import COCO17

RATE = 30.0


def walking(frames: int = 90, noise: float = 0.0) -> Poses2D:
    """A figure 400 px tall seen from the side: arms and legs swing past each other, once a second."""
    time = np.arange(frames) / RATE
    xy = np.zeros((frames, 17, 2))
    height = {"nose": 0, "eye": -10, "ear": -5, "shoulder": 60, "elbow": 120, "wrist": 180, "hip": 200, "knee": 300,
              "ankle": 400}  # fmt: skip
    for joint, name in enumerate(COCO17.joints):
        part = name.split("_")[-1]
        sign = {"left": 1.0, "right": -1.0}.get(name.split("_")[0], 0.0)
        swing = height[part] / 400 * 90 * np.sin(2 * np.pi * time) * sign
        xy[:, joint] = np.stack([300 + 30 * time + swing, np.full(frames, 50.0 + height[part])], axis=-1)
    xy += noise * np.random.default_rng(0).standard_normal(xy.shape)
    return Poses2D(xy, np.full((frames, 17), 0.9), time, COCO17, (640, 640))


def test_sides_that_merely_cross_are_left_alone():
    assert not find_swaps(walking(noise=2.0)).any()


@pytest.mark.parametrize(("start", "length"), [(20, 1), (36, 5), (50, 12)])
def test_swapped_legs_are_put_back(start, length):
    poses = walking(noise=2.0)
    legs = next(i for i, pairs in enumerate(limb_pairs(COCO17)) if (13, 14) in pairs)
    wrong = np.zeros((len(poses), len(limb_pairs(COCO17))), bool)
    wrong[start : start + length, legs] = True
    fixed, repairs = repair(swap(poses, wrong))
    right = np.nanmax(np.abs(fixed.xy - poses.xy), axis=(1, 2)) < 0.05 * 460  # where the legs cross, nothing is lost
    assert right.all(), np.flatnonzero(~right)
    assert repairs.swapped >= length - 2


def test_a_lone_jump_is_unseen_and_a_fast_stroke_is_kept():
    poses = walking()
    xy = poses.xy.copy()
    xy[40, 9] += [0, 200]  # the left wrist, for one frame
    jumped = Poses2D(xy, poses.score, poses.time, COCO17, poses.size)
    far = find_jumps(jumped)
    assert far[40, 9]
    assert far.sum() == 1
    stroke = poses.xy.copy()
    stroke[30:60, 9, 0] += np.concatenate([np.linspace(0, 900, 15), np.linspace(900, 0, 15)])  # 60 px a frame and back
    assert not find_jumps(Poses2D(stroke, poses.score, poses.time, COCO17, (2000, 640))).any()


@pytest.mark.parametrize("kind", ["butterworth", "one-euro"])
def test_smoothing_takes_noise_and_leaves_motion_and_gaps(kind):
    clean, noisy = walking(180), walking(180, noise=4.0)
    seen = np.ones((180, 17), bool)
    seen[60:75] = False
    gapped = Poses2D(
        np.where(seen[..., None], noisy.xy, np.nan), np.where(seen, 0.9, 0.0), noisy.time, COCO17, noisy.size
    )
    result = smooth(gapped, kind, 6.0)
    np.testing.assert_array_equal(np.isnan(result.xy), np.isnan(gapped.xy))
    before = np.nanmean(np.linalg.norm(gapped.xy - clean.xy, axis=-1))
    after = np.nanmean(np.linalg.norm(result.xy - clean.xy, axis=-1))
    assert after < (0.75 if kind == "butterworth" else 1.0) * before


def test_a_butterworth_has_no_delay_and_keeps_slow_motion():
    clean = walking(180)
    np.testing.assert_allclose(smooth(clean, "butterworth", 6.0).xy, clean.xy, atol=1.5)
