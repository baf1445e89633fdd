"""All joints of the detector in 3D: feet where they are, with honest sigmas, and the lifter's joints unchanged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from bodies import around, moving_body, two_views

from twoview.config import TriangulateConfig
from twoview.poses import Poses2D, Poses3D
from twoview.reconstruction.all_joints import all_joints, has_more
from twoview.reconstruction.triangulation import Triangulation, solve_takes
from twoview.skeleton import COCO17, H36M17, HALPE26, single_joints, swap_sides
from twoview.takes import Take, resample
from twoview.timeline import ClockMap, Sync

FEET = [HALPE26.index(f"{side}_{part}") for side in ("left", "right") for part in ("big_toe", "small_toe", "heel")]
OURS, THEIRS = map(list, zip(*single_joints(HALPE26).items(), strict=True))
LEGS = [
    [
        pair
        for pair in HALPE26.pairs
        if HALPE26.joints[pair[0]].split("_")[-1] in ("hip", "knee", "ankle", "toe", "heel")
    ]
]


def halpe(body: np.ndarray) -> np.ndarray:
    """Joints (T, 26, 3) m of a body (T, 17, 3) m: feet ahead of and below the ankles, eyes and ears by the head."""
    points = np.zeros((len(body), 26, 3))
    points[:, THEIRS] = body[:, OURS]
    ahead = {"big_toe": (0.05, 0.06, -0.15), "small_toe": (-0.05, 0.06, -0.12), "heel": (0.0, 0.06, 0.06)}
    for joint in set(range(26)) - set(THEIRS):
        side, _, part = HALPE26.joints[joint].partition("_")
        anchor = f"{side}_ankle" if part in ahead else "head"
        points[:, joint] = body[:, H36M17.index(anchor)] + ahead.get(part, (0.03, 0.0, -0.05))
    return points


def seen(noise: float = 0.002, *, delay_frames: float = 0.0, frames: int = 90):
    """A take with Halpe-26 detections, the stand-in for a lifter, and the truth (V, T, 26, 3) m in camera axes."""
    rng = np.random.default_rng(0)
    body = moving_body(frames, rng)
    tracks, _ = two_views(body, rng, noise=noise, delay_frames=delay_frames)
    clocks = {"a": ClockMap(), "b": ClockMap(0.4)}
    poses, lifted, truth = {}, {}, []
    for v, (view, clock) in enumerate(clocks.items()):
        turn, move = around(90.0 * v, 4.0 + 0.7 * v)
        late = delay_frames * v
        shown = np.stack(
            [
                np.interp(np.arange(frames) - late, np.arange(frames), values)
                for values in halpe(body).reshape(frames, -1).T
            ],
            -1,
        )
        points = shown.reshape(frames, 26, 3) @ turn.T + move
        truth.append(points)
        pixels = points[..., :2] / points[..., 2:] * 1500 + [960, 540]
        pixels += noise * 1.75 * 1500 / 4 * rng.normal(size=pixels.shape)
        pixels[:, THEIRS] = tracks.xy[v][:, OURS]
        time = clock.to_view(tracks.time + 5.0)
        poses[view] = Poses2D(pixels, np.full(pixels.shape[:2], 0.9), time, HALPE26, (1920, 1080), view=view)
        lifted[view] = Poses3D(tracks.start[v] - tracks.start[v][:, :1], time, view=view)
    return Take("run", poses, Sync("a", clocks)), (lambda p: lifted[p.view]), np.stack(truth)


def solved(take, lift, config: TriangulateConfig | None = None) -> Triangulation:
    return solve_takes([resample(take, 30.0)], lift, config=config)[0]


def foot_errors(more, truth, view: str) -> np.ndarray:
    """Distances (S, 6) m of the feet from the truth, both from the ankles, at the body's true size."""
    v, errors = more.found.views.index(view), []
    points, true = more.points[view], truth[v][: len(more.points[view])]
    scale = (
        np.linalg.norm(np.diff(true[:, [13, 15]], axis=1)).sum()
        / np.linalg.norm(np.diff(points[:, [13, 15]], axis=1)).sum()
    )
    for joint in FEET:
        ankle = HALPE26.parents[joint]
        own = (points[:, joint] - points[:, ankle]) * scale
        errors.append(np.linalg.norm(own - (true[:, joint] - true[:, ankle]), axis=-1))
    return np.stack(errors, -1)


def test_feet_are_where_they_are():
    take, lift, truth = seen()
    found = solved(take, lift)
    more = all_joints(take, found)
    assert more.skeleton == HALPE26
    for view in found.views:
        assert np.median(foot_errors(more, truth, view)) < 0.012
        assert np.array_equal(more.points[view][:, THEIRS], found.points[view][:, OURS])
        poses = more.poses(view)
        assert poses.skeleton == HALPE26
        assert (
            np.abs(poses.xyz[:, HALPE26.index("left_knee")] - found.poses(view).xyz[:, H36M17.index("left_knee")]).max()
            < 1e-6
        )
    assert np.array_equal(more.sigma[:, THEIRS], found.sigma[:, OURS])


def test_a_late_view_is_asked_at_the_right_moment():
    take, lift, truth = seen(noise=0.0, delay_frames=2.0)
    found = solved(take, lift)
    assert found.delay_s["b"] == pytest.approx(2 / 30, abs=0.012)
    more = all_joints(take, found)
    for view in found.views:
        assert np.median(foot_errors(more, truth, view)[3:-3]) < 0.012


def test_feet_are_swapped_back_with_their_legs():
    take, lift, truth = seen()
    poses = take.poses["b"]
    flags = (np.arange(len(poses)) // 15 % 3 == 1)[:, None]
    turned = replace(poses, xy=swap_sides(poses.xy, flags, LEGS))
    other = replace(take, poses={**take.poses, "b": turned})
    found = solved(other, lift)
    swapped = foot_errors(all_joints(other, found), truth, "a")[found.swapped["b"][:, 0]]
    assert len(swapped) > 10
    assert np.median(swapped) < 0.015


def test_sigmas_of_the_feet_hold_the_errors():
    take, lift, truth = seen(noise=0.01)
    found = solved(take, lift, TriangulateConfig(height_m=1.75))
    more = all_joints(take, found)
    error = foot_errors(more, truth, "a") / np.sqrt(3)
    expected = np.median(np.hypot(more.sigma[:, FEET], more.sigma[:, [HALPE26.parents[j] for j in FEET]]))
    assert 0.5 < np.sqrt((error**2).mean()) / expected < 1.6
    worse = all_joints(*worse_feet(take, found))
    assert np.median(worse.sigma[:, FEET]) > 2 * np.median(more.sigma[:, FEET])


def worse_feet(take, found):
    """Feet with five times the noise that is expected."""
    rng, poses = np.random.default_rng(1), {}
    for view, own in take.poses.items():
        xy = own.xy.copy()
        xy[:, FEET] += 0.05 * 1.75 * 1500 / 4 * rng.normal(size=xy[:, FEET].shape)
        poses[view] = replace(own, xy=xy)
    return replace(take, poses=poses), found


def test_a_joint_that_one_view_alone_sees_is_unknown():
    take, lift, _ = seen()
    poses = take.poses["b"]
    score, xy = poses.score.copy(), poses.xy.copy()
    score[30:40, FEET[0]], xy[30:40, FEET[0]] = 0, np.nan
    other = replace(take, poses={**take.poses, "b": replace(poses, xy=xy, score=score)})
    more = all_joints(other, solved(other, lift))
    gone = np.isnan(more.sigma[:, FEET[0]])
    assert gone.sum() == pytest.approx(10, abs=2)
    assert np.array_equal(gone, np.isnan(more.points["a"][:, FEET[0]]).all(-1))
    assert (gone <= np.isnan(more.points["b"][:, FEET[0]]).all(-1)).all()
    assert np.isfinite(more.points["a"][:, FEET[1]]).all()


def test_a_detector_without_a_pelvis_of_its_own_gives_no_more():
    take, _, _ = seen()
    coco = {
        view: replace(own, xy=own.xy[:, :17], score=own.score[:, :17], skeleton=COCO17)
        for view, own in take.poses.items()
    }
    assert has_more(take)
    assert not has_more(replace(take, poses=coco))
    assert not has_more(replace(take, poses={"a": take.poses["a"], "b": coco["b"]}))
