"""Steps of Levenberg and Marquardt for `bundle`, and the doubt that is left.

Joints are eliminated frame by frame (Schur complement), or along the band that accelerations make of a take, so that a
step costs time linear in the frames.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import cho_solve_banded, cholesky_banded

from twoview.bundle import CAMERA, Array, Normal, Problem, State, huber_cost, linearise, rotation_matrices, scatter


def step(normal: Normal, damping: float, cameras: bool) -> tuple[Array, Array]:
    """Changes of joints (T, 3J) and of the outer unknowns (N,), frames independent of each other."""
    inner = _damped(normal.inner, damping)
    if not cameras:
        return -np.linalg.solve(inner, normal.inner_grad[..., None])[..., 0], np.zeros(len(normal.outer))
    local = normal.mixed.shape[-1]
    both = np.concatenate([normal.mixed, normal.inner_grad[..., None]], axis=-1)
    solved = np.linalg.solve(inner, both)
    reduced = normal.mixed.swapaxes(-1, -2) @ solved
    outer, grad = normal.outer.copy(), normal.outer_grad.copy()
    scatter(outer, grad, normal.index, -reduced[..., :local], -reduced[..., local])
    outer_step = -np.linalg.solve(_damped(outer, damping), grad)
    inner_step = -solved[..., local] - (solved[..., :local] @ outer_step[normal.index][..., None])[..., 0]
    return inner_step, outer_step


def smooth_step(problem: Problem, state: State, normal: Normal, damping: float, cameras: bool) -> tuple[Array, Array]:
    """The same with accelerations held small over time: one take, evenly spaced frames, a banded system."""
    frames, size = normal.inner_grad.shape
    joints = state.joints.reshape(frames, size)
    deviation = problem.noise.acceleration * problem.step_s**2
    bend = joints[:-2] - 2 * joints[1:-1] + joints[2:]
    squared = (bend.reshape(frames - 2, -1, 3) ** 2).sum(-1) / deviation**2
    weight = np.repeat(huber_cost(squared, problem.noise.cauchy)[1] / deviation**2, 3, axis=1)
    inner, grad = normal.inner.copy(), normal.inner_grad.copy()
    every = np.arange(size)
    for offset, factor in ((0, 1.0), (1, -2.0), (2, 1.0)):
        inner[offset : frames - 2 + offset, every, every] += factor**2 * weight
        grad[offset : frames - 2 + offset] += factor * weight * bend
    band = np.zeros((2 * size + 1, frames, size))
    row, column = np.tril_indices(size)
    band[row - column, :, column] = _damped(inner, damping)[:, row, column].T
    band[size, : frames - 2] += -2 * weight
    band[size, 1 : frames - 1] += -2 * weight
    band[2 * size, : frames - 2] += weight
    factorised = cholesky_banded(band.reshape(2 * size + 1, -1), lower=True, check_finite=False)
    if not cameras:
        alone = cho_solve_banded((factorised, True), grad.reshape(-1), check_finite=False)
        return -alone.reshape(frames, size), np.zeros(len(normal.outer))
    mixed = normal.mixed.reshape(frames * size, -1)
    solved = cho_solve_banded((factorised, True), np.c_[mixed, grad.reshape(-1)], check_finite=False)
    reduced = mixed.T @ solved
    order = normal.index[0]
    outer = normal.outer[np.ix_(order, order)] - reduced[:, :-1]
    outer_step = -np.linalg.solve(_damped(outer, damping), normal.outer_grad[order] - reduced[:, -1])
    inner_step = -(solved[:, -1] + solved[:, :-1] @ outer_step).reshape(frames, size)
    ordered = np.zeros(len(normal.outer))
    ordered[order] = outer_step
    return inner_step, ordered


def acceleration_cost(problem: Problem, state: State) -> float:
    """The cost of `smooth_step`'s extra term."""
    bend = state.joints[:-2] - 2 * state.joints[1:-1] + state.joints[2:]
    squared = (bend**2).sum(-1) / (problem.noise.acceleration * problem.step_s**2) ** 2
    return huber_cost(squared, problem.noise.cauchy)[0]


def moved(state: State, inner_step: Array, outer_step: Array) -> State:
    """The state after a step."""
    groups, views = state.shift.shape
    cameras = CAMERA * (views - 1) * groups
    by_camera = outer_step[:cameras].reshape(groups, views - 1, CAMERA)
    rotation, translation, shift = state.rotation.copy(), state.translation.copy(), state.shift.copy()
    rotation[:, 1:] = rotation_matrices(by_camera[..., :3]) @ rotation[:, 1:]
    translation[:, 1:] += by_camera[..., 3:6]
    shift[:, 1:] += by_camera[..., 6]
    return State(state.joints + inner_step.reshape(state.joints.shape), rotation, translation, shift,
                 state.log_focal + outer_step[cameras : cameras + views],
                 state.log_bones + outer_step[cameras + views :])  # fmt: skip


def covariance(normal: Normal) -> Array:
    """Marginal variances (T, J) m^2 of the root-relative joints (mean of the axes' sum), cameras' doubt included."""
    frames, size = normal.inner_grad.shape
    inner = np.linalg.inv(_damped(normal.inner, 1e-6))
    carried = inner @ normal.mixed
    reduced = normal.mixed.swapaxes(-1, -2) @ carried
    outer = normal.outer.copy()
    scatter(outer, np.zeros(len(outer)), normal.index, -reduced, np.zeros(normal.index.shape))
    outer_inverse = np.linalg.inv(_damped(outer, 1e-6))
    local = outer_inverse[normal.index[:, :, None], normal.index[:, None, :]]
    full = inner + carried @ local @ carried.swapaxes(-1, -2)
    blocks = full.reshape(frames, size // 3, 3, size // 3, 3)
    own = np.einsum("tjaja->tj", blocks)
    shared = np.einsum("tjaa->tj", blocks[:, :, :, 0])
    return np.maximum(own + own[:, :1] - 2 * shared, 0.0)


def _damped(matrix: Array, damping: float) -> Array:
    """The matrix with its diagonal raised by a share, and by a little that keeps the unseen solvable."""
    result = matrix.copy()
    at = np.arange(matrix.shape[-1])
    result[..., at, at] *= 1.0 + damping
    result[..., at, at] += 1e-6
    return result


def minimise(
    problem: Problem, state: State, *, blur: float = 1.0, steps: int = 20, cameras: bool = True, smooth: bool = False
) -> State:
    """Levenberg-Marquardt from `state`: joints alone, or with the cameras; each frame by itself, or smooth in time."""

    def judge(candidate: State) -> tuple[float, Normal]:
        normal = linearise(problem, candidate, blur)
        return normal.cost + (acceleration_cost(problem, candidate) if smooth else 0.0), normal

    damping, (cost, normal) = 1e-3, judge(state)
    for _ in range(steps):
        solve = smooth_step(problem, state, normal, damping, cameras) if smooth else step(normal, damping, cameras)
        candidate = moved(state, *solve)
        new_cost, new_normal = judge(candidate)
        if new_cost < cost:
            done = cost - new_cost < 1e-4 * cost
            state, cost, normal, damping = candidate, new_cost, new_normal, damping / 5
            if done:
                break
        elif damping > 1e3:
            break
        else:
            damping *= 8
    return state
