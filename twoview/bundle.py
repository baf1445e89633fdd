"""Bundle adjustment of one moving body seen by cameras that nobody calibrated: residuals and their derivatives.

Unknowns: every joint in every frame, in metres in the first camera's frame; for each other camera of each take its
rotation, translation and lateness; one focal length a camera; one set of bone lengths. Residuals are robust (Cauchy),
in units of their standard deviations. Nothing is left free: the first camera is the frame, the summed bones are the
metre. `minimisation` solves it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from twoview.skeleton import H36M17

Array = np.ndarray

PARENTS = np.array([parent for parent, _ in H36M17.bones])
CHILDREN = np.array([child for _, child in H36M17.bones])
MIRRORED = np.array([H36M17.flip_order[child] - 1 for child in CHILDREN])  # the bone on the other side of the body
TRUNK = np.isin(CHILDREN, [H36M17.index(j) for j in ("right_hip", "left_hip", "spine", "thorax", "nose", "head",
                                                     "left_shoulder", "right_shoulder")])  # fmt: skip
BODY_M = 4.2  # summed bones of a grown-up: the unit of length until a height is given
STATURE_M = 1.75  # the same body's height
CAMERA = 7  # unknowns of a camera in a take: rotation vector, translation, lateness


@dataclass(frozen=True)
class Noise:
    """Standard deviations that weigh the residuals against each other."""

    pixel: float = 0.007  # of the body's size in the picture, for a joint of score 1
    limb_m: float = 0.012  # how constant a limb is: detectors move joints along it
    trunk_m: float = 0.025
    symmetry: float = 0.03  # log of left over right length
    bone: float = 0.15  # log of a bone's length around the start
    focal: float = 0.15  # log of the focal length around the start
    shift_s: float = 0.03  # lateness left by the synchronisation
    shape_m: float = 0.4  # a joint against the start's root-relative pose: only matters where nothing else tells
    acceleration: float = 27.0  # m/s^2
    cauchy: float = 3.0  # residuals beyond so many standard deviations lose their say
    firm: bool = False  # bones never lose theirs: so for the joints, but cameras are found better without the torn


@dataclass(frozen=True)
class Problem:
    """What was seen, and what is believed beforehand. V views, T frames, G takes (or windows of moving cameras).

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
    focal_sd: Array
    bones_sd: Array
    noise: Noise = field(default_factory=Noise)
    step_s: float = 0.0  # seconds between neighbouring frames, for `smooth`

    def at(self, frames: Array) -> Problem:
        """The same problem on some of its frames."""
        pick = {name: getattr(self, name)[:, frames] for name in ("uv", "speed", "weight")}
        return replace(self, **pick, group=self.group[frames], shape=self.shape[frames])


@dataclass(frozen=True)
class State:
    """One guess. joints (T, J, 3) m; rotation (G, V, 3, 3), translation (G, V, 3) m, shift (G, V) s, of which view 0 is
    the identity; log_focal (V,) of px; log_bones (J - 1,) of m.
    """

    joints: Array
    rotation: Array
    translation: Array
    shift: Array
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


def rotation_matrices(vector: Array) -> Array:
    """Rotation matrices (..., 3, 3) of rotation vectors (..., 3), radians."""
    angle = np.linalg.norm(vector, axis=-1)[..., None, None]
    k = cross(vector)
    small = angle < 1e-8
    safe = np.where(small, 1.0, angle)
    first = np.where(small, 1.0, np.sin(safe) / safe)
    second = np.where(small, 0.5, (1 - np.cos(safe)) / safe**2)
    return np.eye(3) + first * k + second * (k @ k)


def cross(vector: Array) -> Array:
    """Matrices (..., 3, 3) that multiply like the cross product with vectors (..., 3)."""
    x, y, z = np.moveaxis(vector, -1, 0)
    zero = np.zeros_like(x)
    return np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(*vector.shape, 3)


def in_cameras(state: State, group: Array) -> Array:
    """Joints (V, T, J, 3) m in every camera."""
    turned = np.einsum("tvab,tjb->vtja", state.rotation[group], state.joints)
    return turned + state.translation[group].transpose(1, 0, 2)[:, :, None]


def project(points: Array, log_focal: Array) -> Array:
    """Pixels from the principal point (V, T, J, 2) of joints (V, T, J, 3) in their cameras."""
    depth = np.maximum(points[..., 2:], 0.05)
    return np.exp(log_focal)[:, None, None, None] * points[..., :2] / depth


def reprojection(problem: Problem, state: State) -> tuple[Array, Array]:
    """Points in the cameras (V, T, J, 3), and residuals (V, T, J, 2) px with each view's lateness taken out."""
    points = in_cameras(state, problem.group)
    late = state.shift[problem.group].T[:, :, None, None]
    return points, project(points, state.log_focal) - problem.uv - problem.speed * late


def huber_cost(squared: Array, width: float) -> tuple[float, Array]:
    """Huber's cost and weight: what is far off still pulls, as it should where the body itself would be torn."""
    length = np.sqrt(squared)
    inside = length <= width
    cost = np.where(inside, 0.5 * squared, width * length - 0.5 * width**2).sum()
    return float(cost), np.where(inside, 1.0, width / np.maximum(length, width))


def robust_cost(squared: Array, width: float) -> tuple[float, Array]:
    """Cauchy's cost and weight of squared residuals in standard deviations."""
    scaled = squared / width**2
    return 0.5 * width**2 * float(np.log1p(scaled).sum()), 1.0 / (1.0 + scaled)


def linearise(problem: Problem, state: State, blur: float = 1.0) -> Normal:
    """Normal equations at `state`; `blur` widens every measurement's standard deviation, for a far start."""
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
        inverse = 1.0 / np.maximum(p[..., 2], 0.05)
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

    cost += _add_bones(state, noise, blur, inner, mixed, outer_frames, gx, gp)
    cost += _add_shape(problem, state, inner, gx)
    index = _index(problem.group, groups, views, joints)
    total = CAMERA * (views - 1) * groups + views + joints - 1
    outer, outer_grad = np.zeros((total, total)), np.zeros(total)
    scatter(outer, outer_grad, index, outer_frames, gp)
    cost += _add_priors(problem, state, outer, outer_grad)
    size = 3 * joints
    return Normal(inner.reshape(frames, size, size), mixed.reshape(frames, size, local), outer,
                  gx.reshape(frames, size), outer_grad, index, cost)  # fmt: skip


def _index(group: Array, groups: int, views: int, joints: int) -> Array:
    own = CAMERA * (views - 1)
    shared = own * groups + np.arange(views + joints - 1)
    return np.concatenate([own * group[:, None] + np.arange(own), np.tile(shared, (len(group), 1))], axis=1)


def scatter(outer: Array, grad: Array, index: Array, blocks: Array, gradients: Array) -> None:
    """Add every frame's block (T, P, P) and gradient (T, P) to the rows and columns that `index` (T, P) names."""
    firsts = np.flatnonzero(np.r_[True, index[1:, 0] != index[:-1, 0]])  # frames of a take follow each other
    sums = np.add.reduceat(blocks, firsts, axis=0), np.add.reduceat(gradients, firsts, axis=0)
    for first, block, gradient in zip(firsts, *sums, strict=True):
        outer[np.ix_(index[first], index[first])] += block
        grad[index[first]] += gradient


def _add_bones(
    state: State, noise: Noise, blur: float, inner: Array, mixed: Array, outer: Array, gx: Array, gp: Array
) -> float:
    """Every bone as long in every frame as the body's."""
    first = mixed.shape[-1] - len(PARENTS)
    span = state.joints[:, CHILDREN] - state.joints[:, PARENTS]
    length = np.maximum(np.linalg.norm(span, axis=-1), 1e-6)
    along = span / length[..., None]
    wanted = np.exp(state.log_bones)
    deviation = np.where(TRUNK, noise.trunk_m, noise.limb_m) * blur
    residual = length - wanted
    cost, robust = (huber_cost if noise.firm else robust_cost)((residual / deviation) ** 2, noise.cauchy)
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
    """A weak pull of the pose towards the start's, which decides where pictures do not."""
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
    """Beliefs about lateness, focal lengths, and bones: near the start, alike left and right, and summed the metre."""
    views, bones = len(state.log_focal), len(state.log_bones)
    groups = len(state.shift)
    cameras = CAMERA * (views - 1) * groups
    late = CAMERA * np.arange((views - 1) * groups) + CAMERA - 1
    focal, bone = cameras + np.arange(views), cameras + views + np.arange(bones)
    simple = [
        (late, state.shift[:, 1:].reshape(-1), np.full(len(late), problem.noise.shift_s)),
        (focal, state.log_focal - problem.log_focal, problem.focal_sd),
        (bone, state.log_bones - problem.log_bones, problem.bones_sd),
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
    return cost + 0.5 * weight * excess**2
