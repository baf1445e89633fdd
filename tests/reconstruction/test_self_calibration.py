"""Two uncalibrated views of one body: derivatives, exact recovery, and what goes wrong in real recordings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from bodies import error_mm, moving_body, turn_error_deg, two_views
from scipy.spatial.transform import Rotation

from twoview.reconstruction.bundle_adjustment import Noise, linearize, moved
from twoview.reconstruction.self_calibration import LIMBS, _prepare, behind_trunk, find_swaps, solve
from twoview.skeleton import H36M17, swap_sides

FOCAL = np.array([1500.0, 1500.0]) * 1.12  # the first guess is 12 % off


def scene(seed: int = 0, frames: int = 90, **how):
    rng = np.random.default_rng(seed)
    return two_views(moving_body(frames, rng), rng, **how)


def test_gradients_are_those_of_the_cost():
    tracks, _ = scene(frames=6, noise=0.01)
    problem, state = _prepare(tracks, FOCAL, Noise(), window=0)
    normal = linearize(problem, state)
    rng = np.random.default_rng(1)
    for part in ("inner", "outer"):
        for _ in range(8):
            inner, outer = np.zeros(normal.inner_grad.shape), np.zeros(normal.outer_grad.shape)
            (inner if part == "inner" else outer)[...] = rng.normal(size=(inner if part == "inner" else outer).shape)
            wanted = (inner * normal.inner_grad).sum() + (outer * normal.outer_grad).sum()
            step = 1e-6
            ahead, behind = (linearize(problem, moved(state, s * inner, s * outer)).cost for s in (step, -step))
            assert (ahead - behind) / (2 * step) == pytest.approx(wanted, rel=1e-4)


def test_exact_views_give_the_exact_body():
    tracks, truth = scene()
    (found,) = solve([tracks], FOCAL)
    assert max(error_mm(found.joints[v], truth[v]) for v in range(2)) < 3
    assert turn_error_deg(found.rotation[0, 1], (0.0, 90.0)) < 0.5
    assert min(error_mm(tracks.start[v], truth[v]) for v in range(2)) > 60  # the start was as wrong as a lifter's


@pytest.mark.parametrize(("angle", "limit"), [(90.0, 15.0), (45.0, 22.0), (20.0, 40.0)])
def test_noisy_views_give_a_better_body_than_the_lifter_at_any_angle(angle, limit):
    tracks, truth = scene(noise=0.006, angles=(0.0, angle))
    (found,) = solve([tracks], FOCAL)
    assert error_mm(found.joints[0], truth[0]) < limit


def test_a_delayed_view_is_found_and_its_own_frames_are_returned():
    tracks, truth = scene(noise=0.004, delay_frames=2.0)
    (found,) = solve([tracks], FOCAL)
    assert found.delay_s[0, 1] == pytest.approx(2 / 30, abs=0.012)
    assert max(error_mm(found.joints[v, 5:], truth[v, 5:]) for v in range(2)) < 20


def test_swapped_limbs_are_found_and_put_back():
    tracks, truth = scene(noise=0.004)
    wrong = np.zeros((2, 90, 2), dtype=bool)
    wrong[0, 20:35, 0] = wrong[1, 50:58, 1] = wrong[1, 25:40, 0] = True
    wrong_sides = replace(tracks, xy=swap_sides(tracks.xy, wrong, LIMBS.values()))
    (found,) = solve([wrong_sides], FOCAL)
    assert (found.swapped == wrong).mean() > 0.98
    assert error_mm(found.joints[0], truth[0]) < 15


@pytest.mark.parametrize(("off", "swaps"), [(0.009, False), (0.04, True)])
def test_what_a_detector_is_usually_off_is_no_reason_to_swap(off, swaps):
    """Hands on one club: both arms are one above the other, and constant errors of two views contradict each other."""
    body, frames = 1000.0, 40
    rows = np.array([[0.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # x_b^T F x_a = y_a - y_b: rows of the pictures correspond
    uv = np.zeros((2, frames, 17, 2))
    for left, right in LIMBS["arms"]:
        for view, sign in enumerate((1, -1)):
            uv[view, :, left, 1], uv[view, :, right, 1] = sign * off * body, -sign * off * body
    found = find_swaps(uv, np.ones((2, frames, 17), bool), np.full((2, frames), body),
                       np.stack([np.stack([0 * rows, rows]), np.stack([rows.T, 0 * rows])]))  # fmt: skip
    assert found[..., 1].any() == swaps
    assert not found[..., 0].any()


def test_outliers_and_missing_joints_cost_little():
    tracks, truth = scene(noise=0.004)
    rng = np.random.default_rng(5)
    xy, score = tracks.xy.copy(), tracks.score.copy()
    far = rng.random(score.shape) < 0.05
    xy[far] += rng.normal(0, 200, (int(far.sum()), 2))
    gone = rng.random(score.shape) < 0.1
    xy[gone], score[gone] = np.nan, 0
    xy[1, 30:40], score[1, 30:40] = np.nan, 0  # one phone sees nobody for a third of a second
    (found,) = solve([replace(tracks, xy=xy, score=score)], FOCAL)
    assert np.isfinite(found.joints).all()
    assert error_mm(found.joints[0], truth[0]) < 25
    assert np.median(found.sigma[30:40, 1:]) > 1.5 * np.median(found.sigma[:30, 1:])


def test_a_limb_behind_the_trunk_is_placed_by_the_view_that_sees_it():
    """A detector guesses what it cannot see, always on the same side, and is as sure of it as of the rest."""
    tracks, truth = scene(1, frames=60, noise=0.004)
    hidden = np.stack([behind_trunk(points) for points in truth])
    alone = hidden[1] & ~hidden[0]
    assert 0.01 < alone.mean() < 0.2
    xy = tracks.xy.copy()
    xy[1][hidden[1]] += [0.0, 0.1 * 1500 / 4.7]  # 10 cm lower in the picture
    missed = []
    for noise in (Noise(), Noise(hidden=1.0)):
        (found,) = solve([replace(tracks, xy=xy)], FOCAL, noise=noise)
        pose, true = (joints[0] - joints[0][:, :1] for joints in (found.joints, truth))
        scale = (pose * true).sum() / (pose * pose).sum()
        missed.append(1000 * np.linalg.norm(scale * pose - true, axis=-1)[alone].mean())
    assert missed[0] < 15
    assert missed[0] < 0.7 * missed[1]


def test_what_the_trunk_hides():
    body = np.zeros((1, 17, 3))
    body[0, :, 2] = 4.0
    for joint, place in {"right_shoulder": (-0.2, -0.5), "left_shoulder": (0.2, -0.5), "right_hip": (-0.1, 0.0),
                         "left_hip": (0.1, 0.0), "left_wrist": (0.0, -0.2)}.items():  # fmt: skip
        body[0, H36M17.index(joint), :2] = place
    body[0, H36M17.index("right_wrist")] = (-0.6, -0.2, 4.3)  # beside the trunk, and farther away
    for depth, expected in ((4.3, True), (4.0, False), (3.7, False)):
        body[0, H36M17.index("left_wrist"), 2] = depth
        seen = behind_trunk(body)[0]
        assert seen[H36M17.index("left_wrist")] == expected
        assert not seen[H36M17.index("right_wrist")]
        assert not seen[H36M17.index("left_shoulder")]


def test_sigma_has_the_size_of_the_error():
    tracks, truth = scene(noise=0.006)
    (found,) = solve([tracks], FOCAL)
    a, b = (p[0] - p[0, :, :1] for p in (found.joints, truth))
    error = np.linalg.norm(a * (a * b).sum() / (a * a).sum() - b, axis=-1)[:, 1:]
    assert 0.4 < np.sqrt(((error / found.sigma[:, 1:]) ** 2).mean() / 3) < 2.0


def test_takes_share_bones_and_focal_lengths_but_not_cameras():
    one, truth_one = scene(0, frames=40, noise=0.004)
    two, truth_two = scene(0, frames=40, noise=0.004, angles=(0.0, 60.0))
    first, second = solve([one, two], FOCAL)
    assert turn_error_deg(first.rotation[0, 1], (0.0, 90.0)) < 4
    assert turn_error_deg(second.rotation[0, 1], (0.0, 60.0)) < 4
    assert np.allclose(np.log(first.bones), np.log(second.bones), atol=0.05)
    assert error_mm(first.joints[0], truth_one[0]) < 20
    assert error_mm(second.joints[0], truth_two[0]) < 20


def test_three_views_are_solved_together():
    tracks, truth = scene(noise=0.006, angles=(0.0, 60.0, 120.0))
    (found,) = solve([tracks], np.full(3, FOCAL[0]))
    assert max(error_mm(found.joints[v], truth[v]) for v in range(3)) < 12


def test_moving_cameras_are_followed_by_windows():
    rng = np.random.default_rng(3)
    body = moving_body(90, rng)
    tracks, truth = two_views(body, rng, noise=0.003)
    sway = Rotation.from_rotvec(np.linspace(0, 20, 90)[:, None] * [0.0, 1.0, 0.0], degrees=True).as_matrix()
    back = np.array([0, 0, 4.7])
    moved_truth = np.einsum("tab,tjb->tja", sway, truth[1] - back) + back
    xy = tracks.xy.copy()
    xy[1] = 1500 * moved_truth[..., :2] / moved_truth[..., 2:] + [960, 540]
    swaying = replace(tracks, xy=xy)
    (still,) = solve([swaying], FOCAL)
    (followed,) = solve([swaying], FOCAL, window=30)
    assert followed.rotation.shape == (3, 2, 3, 3)
    assert error_mm(followed.joints[0], truth[0]) < min(25, 0.7 * error_mm(still.joints[0], truth[0]))


def test_limbs_hold_every_pair_once():
    pairs = [pair for limb in LIMBS.values() for pair in limb]
    assert sorted(pairs) == sorted(H36M17.pairs)
