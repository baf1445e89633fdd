"""The normal equations of two-view 3D away from the start, and steps of all unknowns, smooth in time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from bodies import error_mm, moving_body, two_views

from twoview.reconstruction.bundle_adjustment import Noise, State, linearize, minimize, moved, smooth_step
from twoview.reconstruction.self_calibration import _prepare
from twoview.skeleton import H36M17

FOCAL = np.array([1500.0, 1500.0]) * 1.12  # the first guess is 12 % off


def start(frames: int = 12, noise: Noise | None = None):
    """A problem, its start, and the truth in the first camera's axes."""
    rng = np.random.default_rng(0)
    tracks, truth = two_views(moving_body(frames, rng), rng, noise=0.004)
    problem, state = _prepare(tracks, FOCAL, noise or Noise(), window=0)
    return replace(problem, step_s=1 / 30), state, truth[0]


def longer(state: State, factor: float, bone: int | slice = slice(None)) -> State:
    """The state with some bones longer than at the start."""
    log_bones = state.log_bones.copy()
    log_bones[bone] += np.log(factor)
    return replace(state, log_bones=log_bones)


@pytest.mark.parametrize("firm", [False, True])
def test_gradients_are_those_of_the_cost_where_the_body_is_taller_than_at_the_start(firm):
    problem, state, _ = start(frames=4, noise=Noise(firm_bones=firm))
    state = longer(state, 1.1)
    normal = linearize(problem, state)
    first = len(normal.outer_grad) - len(state.log_bones)
    for bone in (0, 7, 15):
        change = np.zeros(len(normal.outer_grad))
        change[first + bone] = 1e-6
        still = np.zeros(normal.inner_grad.shape)
        ahead, behind = (linearize(problem, moved(state, still, s * change)).cost for s in (1, -1))
        assert (ahead - behind) / 2e-6 == pytest.approx(normal.outer_grad[first + bone], rel=1e-4)


def test_firm_bones_keep_their_pull_where_a_joint_is_far_off():
    pulls = {}
    elbow, wrist = H36M17.joints.index("left_elbow"), H36M17.joints.index("left_wrist")
    for firm in (False, True):
        problem, state, _ = start(frames=4, noise=Noise(firm_bones=firm))
        problem = replace(problem, weight=np.zeros_like(problem.weight))  # no picture decides
        joints = state.joints.copy()
        along = joints[:, wrist] - joints[:, elbow]
        joints[:, wrist] += 0.5 * along / np.linalg.norm(along, axis=-1, keepdims=True)
        gradient = linearize(problem, replace(state, joints=joints)).inner_grad.reshape(4, 17, 3)[:, wrist]
        pulls[firm] = np.linalg.norm(gradient, axis=-1).mean()
    assert pulls[True] > 3 * pulls[False]


def test_a_smooth_step_of_all_unknowns_is_the_one_that_lowers_the_cost_as_the_normal_equations_say():
    problem, state, _ = start()
    normal = linearize(problem, state)
    inner, outer = smooth_step(problem, state, normal, 1e-9, True)
    assert inner.shape == normal.inner_grad.shape
    assert outer.shape == normal.outer_grad.shape
    # The rows of the cameras: outer @ x + mixed' @ y = -gradient.
    mixed = np.zeros(len(outer))
    for row, index, change in zip(normal.mixed, normal.index, inner, strict=True):
        mixed[index] += row.T @ change
    size = np.abs(normal.outer_grad).max()
    assert normal.outer @ outer + mixed == pytest.approx(-normal.outer_grad, abs=1e-4 * size)


def test_cameras_and_joints_are_found_together_smooth_in_time():
    problem, state, truth = start(frames=30)
    before = error_mm(state.joints, truth)
    found = minimize(problem, state, smooth=True)
    assert error_mm(found.joints, truth) < min(25, before / 2)
    assert not np.array_equal(found.log_focal, state.log_focal)
