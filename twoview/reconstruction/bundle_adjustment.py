"""Bundle adjustment of one moving body seen by cameras that nobody calibrated.

Unknowns: every joint in every frame, in meters in the first camera's axes; for each other camera of each take its
rotation, translation and delay; one focal length per camera; one set of bone lengths. Residuals are robust (Cauchy) and
in units of their sigmas. Nothing is left undetermined: the first camera gives the axes, the summed bones the meter.

`minimize` takes steps of Levenberg and Marquardt. Joints are eliminated frame by frame (Schur complement), or along the
band that accelerations make of a take, so that a step costs time linear in the frames.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy import ndarray as Array
from scipy.linalg import cho_solve_banded, cholesky_banded
from scipy.spatial.transform import Rotation

from twoview.geometry.cameras import NEAREST, project
from twoview.skeleton import H36M17

PARENTS = np.array([parent for parent, _ in H36M17.bones])
CHILDREN = np.array([child for _, child in H36M17.bones])
MIRRORED = np.array([H36M17.flip_order[child] - 1 for child in CHILDREN])  # the bone on the other side of the body
TRUNK = np.isin(CHILDREN, [H36M17.index(j) for j in ("right_hip", "left_hip", "spine", "thorax", "nose", "head",
                                                     "left_shoulder", "right_shoulder")])  # fmt: skip
CAMERA = 7  # unknowns of a camera in a take: rotation vector, translation, delay


@dataclass(frozen=True)
class Noise:
    """Sigmas of the residuals: how much each kind counts against the others."""

    pixel: float = 0.01  # of the body's size in the picture, for a joint of score 1
    limb_m: float = 0.012  # how constant a bone of a limb is
    trunk_m: float = 0.012
    symmetry: float = 0.03  # log of left over right length
    bone: float = 0.08  # log of a bone's length around the start
    hidden: float = 4.0  # times the sigma of a limb's joint in a picture that shows it behind the trunk
    focal: float = 0.15  # log of the focal length around the start
    delay_s: float = 0.03  # delay that the synchronization leaves
    shape_m: float = 0.4  # a joint against the start's root-relative pose: matters only where nothing else decides
    acceleration: float = 27.0  # m/s^2
    cauchy: float = 3.0  # residuals beyond so many sigmas are down-weighted
    firm_bones: bool = False  # bones keep a full pull (Huber): better for joints; cameras are found better without


@dataclass(frozen=True)
class Problem:
    """The measurements, and the start that priors pull to. V views, T frames, G takes (or windows of moving cameras).

    uv      (V, T, J, 2) px from the principal point; anything where weight is 0
    speed   (V, T, J, 2) px/s of the same
    weight  (V, T, J)    1 / variance in 1/px^2; 0 where unseen
    group   (T,)         which take a frame belongs to, 0..G-1, ascending
    shape   (T, J, 3) m  root-relative start pose in the first camera
    """

    uv: Array
    speed: Array
    weight: Array
    group: Array
    shape: Array
    log_focal: Array
    log_bones: Array
    focal_sigma: Array
    bones_sigma: Array
    noise: Noise = field(default_factory=Noise)
    step_s: float = 0.0  # seconds between neighboring frames, for `smooth_step`

    def at(self, frames: Array) -> Problem:
        """The same problem on some of its frames."""
        pick = {name: getattr(self, name)[:, frames] for name in ("uv", "speed", "weight")}
        return replace(self, **pick, group=self.group[frames], shape=self.shape[frames])


@dataclass(frozen=True)
class State:
    """Values of the unknowns.

    joints       (T, J, 3) m    in the first camera's axes
    rotation     (G, V, 3, 3)   from the first camera's axes to each; view 0 has the identity
    translation  (G, V, 3) m    0 for view 0
    delay        (G, V) s       0 for view 0
    log_focal    (V,)           of px
    log_bones    (J - 1,)       of m
    """

    joints: Array
    rotation: Array
    translation: Array
    delay: Array
    log_focal: Array
    log_bones: Array


@dataclass(frozen=True)
class Normal:
    """Normal equations by frame: inner (T, 3J, 3J), mixed (T, 3J, P), outer (N, N), and the two gradients."""

    inner: Array
    mixed: Array
    outer: Array
    inner_grad: Array
    outer_grad: Array
    index: Array  # (T, P): which of the N outer unknowns a frame's P are
    cost: float


def cross(vector: Array) -> Array:
    """Matrices (..., 3, 3) that multiply like the cross product with vectors (..., 3)."""
    x, y, z = np.moveaxis(vector, -1, 0)
    zero = np.zeros_like(x)
    return np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(*vector.shape, 3)


def in_cameras(state: State, group: Array) -> Array:
    """Joints (V, T, J, 3) m in every camera's axes."""
    turned = np.einsum("tvab,tjb->vtja", state.rotation[group], state.joints)
    return np.asarray(turned + state.translation[group].transpose(1, 0, 2)[:, :, None])


def reprojection(problem: Problem, state: State) -> tuple[Array, Array]:
    """Points in the cameras (V, T, J, 3) m, and residuals (V, T, J, 2) px with each view's delay taken out."""
    points = in_cameras(state, problem.group)
    delay = state.delay[problem.group].T[:, :, None, None]
    focal = np.exp(state.log_focal)[:, None, None, None]
    return points, project(points, focal) - problem.uv - problem.speed * delay


def huber_cost(squared: Array, width: float) -> tuple[float, Array]:
    """Huber's cost and weight of squared residuals in sigmas: far ones still pull, as needed to keep a body whole."""
    length = np.sqrt(squared)
    inside = length <= width
    cost = np.where(inside, 0.5 * squared, width * length - 0.5 * width**2).sum()
    return float(cost), np.where(inside, 1.0, width / np.maximum(length, width))


def robust_cost(squared: Array, width: float) -> tuple[float, Array]:
    """Cauchy's cost and weight of squared residuals in sigmas."""
    scaled = squared / width**2
    return 0.5 * width**2 * float(np.log1p(scaled).sum()), 1.0 / (1.0 + scaled)


def linearize(problem: Problem, state: State, blur: float = 1.0) -> Normal:
    """Normal equations at `state`; `blur` widens the sigma of every measurement, for a start that is far off."""
    views, frames, joints = problem.weight.shape
    groups, noise = len(state.rotation), problem.noise
    local = CAMERA * (views - 1) + views + joints - 1
    inner = np.zeros((frames, joints, 3, joints, 3))
    mixed = np.zeros((frames, joints, 3, local))
    outer_frames = np.zeros((frames, local, local))
    gx, gp = np.zeros((frames, joints, 3)), np.zeros((frames, local))
    diagonal = np.arange(joints)

    points, residual = reprojection(problem, state)
    weight = problem.weight / blur**2
    cost, robust = robust_cost(weight * (residual**2).sum(-1), noise.cauchy)
    weight = weight * robust
    focal = np.exp(state.log_focal)
    for v in range(views):
        p, r, w = points[v], residual[v], weight[v][..., None, None]
        inverse = 1.0 / np.maximum(p[..., 2], NEAREST)
        to_pixel = np.zeros((frames, joints, 2, 3))
        to_pixel[..., 0, 0] = to_pixel[..., 1, 1] = focal[v] * inverse
        to_pixel[..., 2] = -focal[v] * p[..., :2] * inverse[..., None] ** 2
        by_joint = to_pixel @ state.rotation[problem.group, v][:, None]
        columns, parts = [CAMERA * (views - 1) + v], [(focal[v] * p[..., :2] * inverse[..., None])[..., None]]
        if v:
            arm = p - state.translation[problem.group, v][:, None]
            columns = [*range(CAMERA * (v - 1), CAMERA * v), *columns]
            parts = [-to_pixel @ cross(arm), to_pixel, -problem.speed[v][..., None], *parts]
        by_camera = np.concatenate(parts, axis=-1)
        weighted = w * by_joint
        inner[:, diagonal, :, diagonal] += (weighted.swapaxes(-1, -2) @ by_joint).swapaxes(0, 1)
        mixed[..., columns] += weighted.swapaxes(-1, -2) @ by_camera
        gx += (weighted * r[..., None]).sum(-2)
        flat = (np.sqrt(w) * by_camera).reshape(frames, -1, len(columns))
        outer_frames[np.ix_(range(frames), columns, columns)] += flat.swapaxes(-1, -2) @ flat
        gp[:, columns] += (w * by_camera * r[..., None]).sum((1, 2))

    cost += _add_bones(state, noise, blur, inner=inner, mixed=mixed, outer=outer_frames, gx=gx, gp=gp)
    cost += _add_shape(problem, state, inner, gx)
    own = CAMERA * (views - 1)
    total = own * groups + views + joints - 1
    shared = np.tile(np.arange(own * groups, total), (frames, 1))
    index = np.concatenate([own * problem.group[:, None] + np.arange(own), shared], axis=1)
    outer, outer_grad = np.zeros((total, total)), np.zeros(total)
    scatter(outer, outer_grad, index, outer_frames, gp)
    cost += _add_priors(problem, state, outer, outer_grad)
    size = 3 * joints
    return Normal(inner.reshape(frames, size, size), mixed.reshape(frames, size, local), outer,
                  gx.reshape(frames, size), outer_grad, index, cost)  # fmt: skip


def scatter(outer: Array, grad: Array, index: Array, blocks: Array, gradients: Array) -> None:
    """Add every frame's block (T, P, P) and gradient (T, P) to the rows and columns that `index` (T, P) names."""
    firsts = np.flatnonzero(np.r_[True, index[1:, 0] != index[:-1, 0]])  # frames of a take follow each other
    sums = np.add.reduceat(blocks, firsts, axis=0), np.add.reduceat(gradients, firsts, axis=0)
    for first, block, gradient in zip(firsts, *sums, strict=True):
        outer[np.ix_(index[first], index[first])] += block
        grad[index[first]] += gradient


def _add_bones(
    state: State, noise: Noise, blur: float, *, inner: Array, mixed: Array, outer: Array, gx: Array, gp: Array
) -> float:
    """Adds the residuals that hold every bone in every frame to the body's length; returns their cost."""
    first = mixed.shape[-1] - len(PARENTS)
    span = state.joints[:, CHILDREN] - state.joints[:, PARENTS]
    length = np.maximum(np.linalg.norm(span, axis=-1), 1e-6)
    along = span / length[..., None]
    wanted = np.exp(state.log_bones)
    deviation = np.where(TRUNK, noise.trunk_m, noise.limb_m) * blur
    residual = length - wanted
    cost, robust = (huber_cost if noise.firm_bones else robust_cost)((residual / deviation) ** 2, noise.cauchy)
    weight = robust / deviation**2
    block = weight[..., None, None] * along[..., :, None] * along[..., None, :]
    for b, (i, j) in enumerate(zip(PARENTS, CHILDREN, strict=True)):
        inner[:, i, :, i] += block[:, b]
        inner[:, j, :, j] += block[:, b]
        inner[:, i, :, j] -= block[:, b]
        inner[:, j, :, i] -= block[:, b]
        pull = weight[:, b, None] * along[:, b]
        mixed[:, i, :, first + b] += pull * wanted[b]
        mixed[:, j, :, first + b] -= pull * wanted[b]
        gx[:, i] -= pull * residual[:, b, None]
        gx[:, j] += pull * residual[:, b, None]
    bones = first + np.arange(len(PARENTS))
    outer[:, bones, bones] += weight * wanted**2
    gp[:, bones] -= weight * residual * wanted
    return cost


def _add_shape(problem: Problem, state: State, inner: Array, gx: Array) -> float:
    """Adds a weak pull of the pose towards the start's, which decides where pictures do not; returns its cost."""
    pose = state.joints - state.joints[:, :1]
    residual = (pose - problem.shape)[:, 1:]
    deviation = problem.noise.shape_m
    cost, robust = robust_cost((residual**2).sum(-1) / deviation**2, problem.noise.cauchy)
    weight = robust / deviation**2
    for axis in range(3):
        others = np.arange(1, inner.shape[1])
        inner[:, others, axis, others, axis] += weight
        inner[:, 0, axis, 0, axis] += weight.sum(1)
        inner[:, 0, axis, others, axis] -= weight
        inner[:, others, axis, 0, axis] -= weight
    pull = weight[..., None] * residual
    gx[:, 1:] += pull
    gx[:, 0] -= pull.sum(1)
    return cost


def _add_priors(problem: Problem, state: State, outer: Array, grad: Array) -> float:
    """Adds priors: delay, focals and bones near the start, left like right, their sum fixed; returns their cost."""
    views, bones = len(state.log_focal), len(state.log_bones)
    groups = len(state.delay)
    cameras = CAMERA * (views - 1) * groups
    delay = CAMERA * np.arange((views - 1) * groups) + CAMERA - 1
    focal, bone = cameras + np.arange(views), cameras + views + np.arange(bones)
    simple = [
        (delay, state.delay[:, 1:].reshape(-1), np.full(len(delay), problem.noise.delay_s)),
        (focal, state.log_focal - problem.log_focal, problem.focal_sigma),
        (bone, state.log_bones - problem.log_bones, problem.bones_sigma),
    ]
    cost = 0.0
    for where, residual, deviation in simple:
        cost += 0.5 * float(((residual / deviation) ** 2).sum())
        outer[where, where] += 1.0 / deviation**2
        grad[where] += residual / deviation**2
    left = np.flatnonzero(np.arange(bones) < MIRRORED)
    for i in left:
        j, weight = MIRRORED[i], 1.0 / problem.noise.symmetry**2
        difference = state.log_bones[i] - state.log_bones[j]
        cost += 0.5 * weight * difference**2
        outer[np.ix_(bone[[i, j]], bone[[i, j]])] += weight * np.array([[1.0, -1.0], [-1.0, 1.0]])
        grad[bone[[i, j]]] += weight * difference * np.array([1.0, -1.0])
    lengths = np.exp(state.log_bones)
    excess, weight = lengths.sum() - np.exp(problem.log_bones).sum(), 1.0 / 0.005**2
    outer[np.ix_(bone, bone)] += weight * np.outer(lengths, lengths)
    grad[bone] += weight * excess * lengths
    return cost + 0.5 * weight * float(excess) ** 2


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
    bend, _, weight = _accelerations(problem, state)
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
    factorized = cholesky_banded(band.reshape(2 * size + 1, -1), lower=True, check_finite=False)
    if not cameras:
        alone = cho_solve_banded((factorized, True), grad.reshape(-1), check_finite=False)
        return -alone.reshape(frames, size), np.zeros(len(normal.outer))
    mixed = normal.mixed.reshape(frames * size, -1)
    solved = cho_solve_banded((factorized, True), np.c_[mixed, grad.reshape(-1)], check_finite=False)
    reduced = mixed.T @ solved
    order = normal.index[0]
    outer = normal.outer[np.ix_(order, order)] - reduced[:, :-1]
    outer_step = -np.linalg.solve(_damped(outer, damping), normal.outer_grad[order] - reduced[:, -1])
    inner_step = -(solved[:, -1] + solved[:, :-1] @ outer_step).reshape(frames, size)
    ordered = np.zeros(len(normal.outer))
    ordered[order] = outer_step
    return inner_step, ordered


def _accelerations(problem: Problem, state: State) -> tuple[Array, float, Array]:
    """Second differences (T - 2, 3J) m of the joints, the cost of them, and their weights (T - 2, 3J)."""
    bend = state.joints[:-2] - 2 * state.joints[1:-1] + state.joints[2:]
    deviation = problem.noise.acceleration * problem.step_s**2
    cost, robust = huber_cost((bend**2).sum(-1) / deviation**2, problem.noise.cauchy)
    return bend.reshape(len(bend), -1), cost, np.repeat(robust / deviation**2, 3, axis=1)


def moved(state: State, inner_step: Array, outer_step: Array) -> State:
    """The state after a step."""
    groups, views = state.delay.shape
    cameras = CAMERA * (views - 1) * groups
    by_camera = outer_step[:cameras].reshape(groups, views - 1, CAMERA)
    rotation, translation, delay = state.rotation.copy(), state.translation.copy(), state.delay.copy()
    turns = Rotation.from_rotvec(by_camera[..., :3].reshape(-1, 3)).as_matrix()
    rotation[:, 1:] = turns.reshape(groups, views - 1, 3, 3) @ rotation[:, 1:]
    translation[:, 1:] += by_camera[..., 3:6]
    delay[:, 1:] += by_camera[..., 6]
    return State(state.joints + inner_step.reshape(state.joints.shape), rotation, translation, delay,
                 state.log_focal + outer_step[cameras : cameras + views],
                 state.log_bones + outer_step[cameras + views :])  # fmt: skip


def covariance(normal: Normal) -> Array:
    """Marginal variances (T, J) m^2 of the root-relative joints, summed over the axes; the cameras' variance counts."""
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
    return np.asarray(np.maximum(own + own[:, :1] - 2 * shared, 0.0))


def _damped(matrix: Array, damping: float) -> Array:
    """The matrix with its diagonal raised by a share, and by a little that keeps unseen joints solvable."""
    result = matrix.copy()
    at = np.arange(matrix.shape[-1])
    result[..., at, at] *= 1.0 + damping
    result[..., at, at] += 1e-6
    return result


def minimize(
    problem: Problem, state: State, *, blur: float = 1.0, steps: int = 20, cameras: bool = True, smooth: bool = False
) -> State:
    """Levenberg-Marquardt from `state`: joints alone, or with the cameras; each frame by itself, or smooth in time."""

    def judge(candidate: State) -> tuple[float, Normal]:
        normal = linearize(problem, candidate, blur)
        return normal.cost + (_accelerations(problem, candidate)[1] if smooth else 0.0), normal

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
