"""Self-calibration: from two or more views of one moving body to cameras and 3D, with nothing measured beforehand.

The lifter's own 3D of each view gives the first guess of the rotation between the views. Then rotations, translations,
focal lengths, bone lengths, delays and all joints are refined together on the 2D (`bundle_adjustment`). Cameras on
tripods are solved once over a whole take; focal lengths and bones once over all takes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product

import numpy as np
import torch
from numpy import ndarray as Array
from scipy.ndimage import median_filter
from scipy.spatial.transform import Rotation

from twoview.geometry.cameras import principal_point
from twoview.geometry.similarity import bone_lengths, rooted
from twoview.poses import cheapest_course
from twoview.reconstruction import bundle_adjustment
from twoview.reconstruction.bundle_adjustment import MIRRORED, Noise, Problem, State, covariance, minimize
from twoview.skeleton import BODY_M, H36M17, STATURE_M, swap_sides

WINDOW_FRAMES = 24  # frames of each take, or window of moving cameras, that cameras are found from at least
MISFIT = 0.85  # median residual, in sigmas, at which `sigma` fits the errors on motion capture
LIMBS = {
    "legs": tuple((left, right) for left, right in H36M17.pairs if "shoulder" not in H36M17.joints[left] and left < 8),
    "arms": tuple((left, right) for left, right in H36M17.pairs if left > 8),
}
HIDEABLE = np.array([j.split("_")[-1] in ("knee", "ankle", "elbow", "wrist") for j in H36M17.joints])
COVER_M, BEHIND_M = 0.05, 0.1  # a ray that passes the trunk's plane this near, so far before the joint, meets the trunk
DISAGREEMENT = 0.03  # sigma of a joint's distance from its epipolar line, of the body's size
MOVEMENT = 0.05  # sigma of a joint's movement between two frames, of the body's size
CAP = 9.0  # squared distances, in sigmas, count at most this much
SWAP_COST = 5.0  # of a swapped frame: what the detector's usual errors gain by a swap must not pay for it


@dataclass(frozen=True)
class TakeArrays:
    """One take as plain arrays.

    xy     (V, T, J, 2) px  NaN where unseen
    score  (V, T, J)
    time   (T,)             session seconds, evenly spaced
    size   (V, 2) px
    start  (V, T, J, 3)     the unadapted lifter's poses: root-relative, camera-aligned, of any scale
    """

    xy: Array
    score: Array
    time: Array
    size: Array
    start: Array


@dataclass(frozen=True)
class Solution:
    """One take in 3D.

    joints       (V, T, J, 3) m  in each camera's frame, if the body's summed bones are 4.2 m
    sigma        (T, J) m        standard deviation of each root-relative joint, mean of the three axes
    swapped      (V, T, 2) bool  frames whose left and right legs, or arms, were swapped by the detector
    rotation     (G, V, 3, 3)    from the first camera's axes to each, for each of G windows of still cameras
    translation  (G, V, 3) m
    delay_s      (G, V)          how much later than its clock says each view shows the scene
    focal        (V,) px
    bones        (J - 1,) m      in the order of the skeleton's bones
    residual     (V, T, J)       reprojection distance as a share of the body's size; NaN where unseen
    turned_deg   (G, V)          how far each rotation moved from the lifter's
    """

    joints: Array
    sigma: Array
    swapped: Array
    rotation: Array
    translation: Array
    delay_s: Array
    focal: Array
    bones: Array
    residual: Array
    turned_deg: Array


def solve(
    takes: Sequence[TakeArrays],
    focal: Array,
    *,
    focal_sigma: Array | None = None,
    noise: Noise | None = None,
    window: int = 0,
    sample: int = 60,
    done: Callable[[int], None] | None = None,
) -> list[Solution]:
    """Every take in 3D; focal lengths and bones are those of all takes together.

    focal   (V,) px  first guess
    focal_sigma  (V,) of its log; default: that of `noise`
    window  frames during which cameras are taken to be still; 0: the whole take
    sample  least number of frames to find the cameras from, spread over all takes
    done    called with the number of finished takes
    """
    noise = noise or Noise()
    prepared = [_prepare(take, focal, noise, window) for take in takes]
    if focal_sigma is not None:
        prepared = [(replace(own, focal_sigma=focal_sigma), guess) for own, guess in prepared]
    whole, state = _join(prepared)
    picked = _spread(whole.group, max(sample, WINDOW_FRAMES * len(state.rotation)))
    state, delay = replace(state, joints=state.joints[picked]), np.zeros_like(state.delay)
    for blurs in ((8.0, 3.0, 1.0), (1.0,)):  # the second time with the delays and hidden joints that were found
        problem = _without_delay(whole, delay).at(picked)
        if len(blurs) == 1:
            problem = _hidden_count_less(problem, state)
        for blur in blurs:
            state = minimize(problem, state, blur=blur, steps=20 if blur == 1.0 else 5)
        delay, state = delay + state.delay, replace(state, delay=np.zeros_like(delay))
    solutions, group = [], 0
    for own, guess in prepared:
        groups = slice(group, group + len(guess.rotation))
        found = State(guess.joints, state.rotation[groups], state.translation[groups], delay[groups],
                      state.log_focal, state.log_bones)  # fmt: skip
        solutions.append(_finish(own, guess, found))
        group = groups.stop
        if done:
            done(len(solutions))
    return solutions


def _prepare(take: TakeArrays, focal: Array, noise: Noise, window: int) -> tuple[Problem, State]:
    """The measurements of a take, and the first guess of everything from the lifter's poses."""
    views, frames = take.xy.shape[:2]
    uv = take.xy.astype(np.float64) - principal_point(take.size)[:, None, None]
    seen = (take.score > 0) & np.isfinite(uv).all(-1)
    uv = np.where(seen[..., None], uv, 0.0)
    step_s = float(np.median(np.diff(take.time))) if frames > 1 else 1.0
    group = np.arange(frames) // window if window else np.zeros(frames, dtype=int)
    group = np.minimum(group, max(frames // window - 1, 0)) if window else group
    lifted, bones = to_meters(take.start.astype(np.float64))
    weight = np.where(seen, take.score, 0.0).astype(np.float64)
    roots = np.stack([root_positions(uv[v], weight[v], lifted[v], focal[v]) for v in range(views)])
    body = STATURE_M * focal[:, None] / roots[..., 2]
    problem = Problem(
        uv=uv, speed=_speed(uv, seen, step_s), weight=weight / (noise.pixel * body[..., None]) ** 2, group=group,
        shape=lifted[0], log_focal=np.log(focal), log_bones=np.log(bones), focal_sigma=np.full(views, noise.focal),
        bones_sigma=np.full(len(bones), noise.bone), noise=noise, step_s=step_s,
    )  # fmt: skip
    rotation, translation = guess_cameras(lifted, roots, weight, group)
    absolute = lifted + roots[:, :, None]
    back = np.einsum("tvab,vtja->vtjb", rotation[group], absolute - translation[group].swapaxes(0, 1)[:, :, None])
    share = weight + 1e-3
    joints = (back * share[..., None]).sum(0) / share.sum(0)[..., None]
    start = State(joints, rotation, translation, np.zeros((len(rotation), views)), np.log(focal), np.log(bones))
    return replace(problem, shape=rooted(joints)), start


# --- the first guess: each view's lifted poses, brought to one size, put on their pixels, and onto each other


def to_meters(start: Array, *, around: int = 15) -> tuple[Array, Array]:
    """Lifted poses (V, T, J, 3) scaled to the standard body, and the bones (J - 1,) m that the views agree on.

    The scale is that of the median size over `around` frames before and after: it changes as the athlete travels.
    """
    start = rooted(start)
    lengths = bone_lengths(torch.from_numpy(start)).numpy()
    total = np.maximum(median_filter(lengths.sum(-1), size=(1, 2 * around + 1), mode="nearest"), 1e-9)
    bones = np.median(lengths / total[..., None], axis=(0, 1))
    bones = bones + bones[MIRRORED]
    return start * (BODY_M / total)[..., None, None], bones * BODY_M / bones.sum()


def root_positions(uv: Array, weight: Array, pose: Array, focal: float, *, near: float = 0.5) -> Array:
    """Root positions (T, 3) m at which root-relative poses (T, J, 3) m project onto their pixels uv (T, J, 2).

    Linear least squares with weights (T, J); frames without enough joints, or nearer than `near` m, get the median.
    """
    ray = uv / focal
    one, zero = np.ones_like(ray[..., 0]), np.zeros_like(ray[..., 0])
    rows = np.stack([np.stack([one, zero, -ray[..., 0]], -1), np.stack([zero, one, -ray[..., 1]], -1)], axis=-2)
    right = ray * pose[..., 2:] - pose[..., :2]
    w = weight[..., None, None]
    normal = (w * rows.swapaxes(-1, -2) @ rows).sum(1) + 1e-6 * np.eye(3)
    root = np.linalg.solve(normal, (w[..., 0] * (rows.swapaxes(-1, -2) @ right[..., None])[..., 0]).sum(1)[..., None])
    root = root[..., 0]
    usable = weight.sum(1) > 3
    middle = np.median(root[usable], axis=0) if usable.any() else np.array([0.0, 0.0, 4.0])
    return np.where(usable[:, None] & (root[:, 2:] > near), root, np.maximum(middle, [-np.inf, -np.inf, near]))


def guess_cameras(lifted: Array, roots: Array, weight: Array, group: Array) -> tuple[Array, Array]:
    """Rotation (G, V, 3, 3) and translation (G, V, 3) m of each view from the first, by the lifted poses.

    The rotation is about the root, without scale or translation, so it is not `similarity`'s fit.
    """
    views, groups = len(lifted), int(group[-1]) + 1
    rotation, translation = np.tile(np.eye(3), (groups, views, 1, 1)), np.zeros((groups, views, 3))
    for g in range(groups):
        at = group == g
        for v in range(1, views):
            both = np.sqrt(weight[0, at] * weight[v, at]).reshape(-1)
            own, first = (lifted[view, at].reshape(-1, 3) for view in (v, 0))
            turn = Rotation.align_vectors(own, first, both)[0].as_matrix()
            rotation[g, v] = turn
            translation[g, v] = np.median(roots[v, at] - roots[0, at] @ turn.T, axis=0)
    return rotation, translation


# --- cameras on some frames, then all frames


def _speed(uv: Array, seen: Array, step_s: float) -> Array:
    """Pixel velocities (V, T, J, 2) px/s, 0 where a neighbor is unseen."""
    speed = np.zeros_like(uv)
    both = seen[:, 2:] & seen[:, 1:-1] & seen[:, :-2]
    speed[:, 1:-1] = np.where(both[..., None], (uv[:, 2:] - uv[:, :-2]) / (2 * step_s), 0.0)
    return speed


def _join(parts: Sequence[tuple[Problem, State]]) -> tuple[Problem, State]:
    """All takes as one problem: each has its own cameras, all have the same bones and focal lengths."""
    problems, states = zip(*parts, strict=True)
    starts = np.cumsum([0, *(len(s.rotation) for s in states)])
    bones = np.log(np.mean([np.exp(s.log_bones) for s in states], axis=0))
    stacked = {name: np.concatenate([getattr(p, name) for p in problems], axis=1) for name in ("uv", "speed", "weight")}
    group = np.concatenate([p.group + first for p, first in zip(problems, starts[:-1], strict=True)])
    problem = replace(problems[0], **stacked, group=group, log_bones=bones,
                      shape=np.concatenate([p.shape for p in problems]))  # fmt: skip
    cameras = {
        n: np.concatenate([getattr(s, n) for s in states]) for n in ("joints", "rotation", "translation", "delay")
    }
    return problem, State(**cameras, log_focal=states[0].log_focal, log_bones=bones)


def _spread(group: Array, wanted: int) -> Array:
    """Frames spread evenly over every group."""
    groups = int(group[-1]) + 1
    each = [np.flatnonzero(group == g) for g in range(groups)]
    return np.concatenate(
        [at[np.unique(np.linspace(0, len(at) - 1, max(wanted // groups, 2)).astype(int))] for at in each]
    )


def _finish(problem: Problem, guess: State, found: State) -> Solution:
    """All frames of a take, from cameras found on some of them: swaps undone, then joints refined, smooth in time."""
    problem = replace(problem, log_focal=found.log_focal, log_bones=found.log_bones,
                      noise=replace(problem.noise, firm_bones=True))  # fmt: skip
    delay = found.delay
    problem, found = _without_delay(problem, delay), replace(found, delay=np.zeros_like(delay))
    depth = np.maximum(bundle_adjustment.in_cameras(guess, problem.group)[:, :, 0, 2], 0.5)
    body = STATURE_M * np.exp(found.log_focal)[:, None] / depth
    swapped = np.zeros((*body.shape, 2), dtype=bool)
    for g in range(len(found.rotation)):
        at = problem.group == g
        lines = _fundamental(found.rotation[g], found.translation[g], np.exp(found.log_focal))
        swapped[:, at] = find_swaps(problem.uv[:, at], problem.weight[:, at] > 0, body[:, at], lines)
    if swapped.any():
        uv, weight = (swap_sides(values, swapped, LIMBS.values()) for values in (problem.uv, problem.weight))
        problem = replace(problem, uv=uv, weight=weight, speed=_speed(uv, weight > 0, problem.step_s))
    found = replace(found, joints=_triangulate(problem, found, guess.joints))
    parts = [_refine(problem, found, g) for g in range(len(found.rotation))]
    states = [state for state, _ in parts]
    own = ("joints", "rotation", "translation", "delay")
    shared = {name: np.mean([getattr(state, name) for state in states], axis=0) for name in ("log_focal", "log_bones")}
    joined = State(**{name: np.concatenate([getattr(state, name) for state in states]) for name in own}, **shared)
    points, residual = bundle_adjustment.reprojection(problem, joined)
    delay = delay + joined.delay
    points = np.stack([delayed(points[v], delay[problem.group, v] / problem.step_s) for v in range(len(points))])
    distance = np.where(problem.weight > 0, np.linalg.norm(residual, axis=-1) / body[..., None], np.nan)
    turn = joined.rotation @ guess.rotation.swapaxes(-1, -2)
    turned = np.degrees(Rotation.from_matrix(turn.reshape(-1, 3, 3)).magnitude()).reshape(turn.shape[:2])
    return Solution(points, np.concatenate([sigma for _, sigma in parts]), swapped, joined.rotation,
                    joined.translation, delay, np.exp(joined.log_focal), np.exp(joined.log_bones),
                    distance, turned)  # fmt: skip


def _without_delay(problem: Problem, delay: Array) -> Problem:
    """The problem with every view's pixels interpolated to the moments that its delay (G, V) s says they show."""
    uv, weight = problem.uv.copy(), problem.weight.copy()
    frames = np.arange(len(problem.group))
    for v in range(1, len(uv)):
        at = np.clip(frames + delay[problem.group, v] / problem.step_s, 0, len(frames) - 1)
        low = np.minimum(at.astype(int), max(len(frames) - 2, 0))
        high, share = np.minimum(low + 1, len(frames) - 1), (at - low)[:, None]
        uv[v] = problem.uv[v, low] * (1 - share[..., None]) + problem.uv[v, high] * share[..., None]
        weight[v] = np.minimum(problem.weight[v, low], problem.weight[v, high])
    return replace(problem, uv=uv, weight=weight, speed=_speed(uv, weight > 0, problem.step_s))


def delayed(points: Array, frames: Array) -> Array:
    """Points (T, J, 3) as they were so many frames (T,) earlier, linear between frames."""
    at = np.clip(np.arange(len(points)) - frames, 0, len(points) - 1)
    low = np.minimum(at.astype(int), max(len(points) - 2, 0))
    share = (at - low)[:, None, None]
    return np.asarray(points[low] * (1 - share) + points[np.minimum(low + 1, len(points) - 1)] * share)


def _refine(problem: Problem, found: State, group: int) -> tuple[State, Array]:
    """One window of still cameras, smooth in time, and the sigma (T, J) m of each root-relative joint."""
    one, at = slice(group, group + 1), problem.group == group
    problem = replace(problem.at(at), group=np.zeros(int(at.sum()), dtype=int))
    state = State(found.joints[at], found.rotation[one], found.translation[one], found.delay[one],
                  found.log_focal, found.log_bones)  # fmt: skip
    smooth, plain = len(problem.group) > 2, problem
    for blur, steps in ((6.0, 4), (1.0, 6)):
        problem = _hidden_count_less(plain, state)
        state = minimize(problem, state, blur=blur, steps=steps, smooth=smooth, cameras=False)
    _, residual = bundle_adjustment.reprojection(problem, state)
    seen = problem.weight > 0
    misfit = np.median(np.sqrt(problem.weight[seen]) * np.linalg.norm(residual[seen], axis=-1)) if seen.any() else 1.0
    variance = covariance(bundle_adjustment.linearize(problem, state)) / 3
    return state, np.sqrt(variance) * misfit / MISFIT


def _hidden_count_less(problem: Problem, state: State) -> Problem:
    """The problem with larger sigmas for joints that, by the state's 3D, the trunk hides in a view."""
    hidden = np.stack([behind_trunk(points) for points in bundle_adjustment.in_cameras(state, problem.group)])
    return replace(problem, weight=np.where(hidden, problem.weight / problem.noise.hidden**2, problem.weight))


def behind_trunk(points: Array) -> Array:
    """Which knees, ankles, elbows and wrists a camera cannot see for the trunk, (T, J) bool.

    points (T, J, 3) m in the camera's axes. A detector guesses such a joint, and is often as sure as of a visible one.
    """
    across, down = (share.ravel()[:, None] for share in np.meshgrid(np.linspace(0, 1, 5), np.linspace(0, 1, 7)))
    top, bottom = (
        points[:, None, H36M17.index(f"right_{part}")] * (1 - across)
        + points[:, None, H36M17.index(f"left_{part}")] * across
        for part in ("shoulder", "hip")
    )
    trunk = top * (1 - down) + bottom * down
    joints = points[:, HIDEABLE]
    distance = np.linalg.norm(joints, axis=-1, keepdims=True)
    along = (joints / np.maximum(distance, 1e-6)) @ trunk.swapaxes(-1, -2)
    beside = (trunk**2).sum(-1)[:, None] - along**2
    hidden = np.zeros(points.shape[:2], dtype=bool)
    hidden[:, HIDEABLE] = ((beside < COVER_M**2) & (distance - along > BEHIND_M)).any(-1)
    return hidden


def _triangulate(problem: Problem, found: State, guess: Array) -> Array:
    """Joints (T, J, 3) m where the rays of all views meet, in closed form; near the guess where one view alone sees."""
    normal = np.tile(0.01 * np.eye(3), (*guess.shape[:2], 1, 1))
    right = 0.01 * guess
    for v in range(len(problem.weight)):
        turn, move = found.rotation[problem.group, v], found.translation[problem.group, v]
        ray = problem.uv[v] / np.exp(found.log_focal[v])
        rows = turn[:, None, :2] - ray[..., None] * turn[:, None, 2:]
        value = ray * move[:, None, 2:] - move[:, None, :2]
        weight = np.where(problem.weight[v] > 0, 1.0, 0.0)[..., None]
        normal += weight[..., None] * rows.swapaxes(-1, -2) @ rows
        right = right + weight * (rows.swapaxes(-1, -2) @ value[..., None])[..., 0]
    return np.linalg.solve(normal, right[..., None])[..., 0]


def _fundamental(rotation: Array, translation: Array, focal: Array) -> Array:
    """Fundamental matrices (V, V, 3, 3): x_b^T F[a, b] x_a = 0 for pixels from the principal points."""
    views = len(focal)
    result = np.zeros((views, views, 3, 3))
    inverse = [np.diag([1 / f, 1 / f, 1.0]) for f in focal]
    for a, b in product(range(views), repeat=2):
        turn = rotation[b] @ rotation[a].T
        across = bundle_adjustment.cross(translation[b] - turn @ translation[a])
        result[a, b] = inverse[b] @ across @ turn @ inverse[a]
    return result


# --- left and right swapped by the detector: found by what the views agree on and by smooth motion in each


def find_swaps(uv: Array, seen: Array, body: Array, fundamental: Array) -> Array:
    """Which limbs of which frames the detector swapped, (V, T, 2) bool for legs and arms.

    uv           (V, T, J, 2) px from the principal point
    seen         (V, T, J)    bool
    body         (V, T)       the body's size in px
    fundamental  (V, V, 3, 3) x_b^T F[a, b] x_a = 0 for pixels of a joint in views a and b

    The cheapest course over all combinations of swapped views, for legs and arms apart.
    """
    return np.stack([_course(uv, seen, body, fundamental, pairs) for pairs in LIMBS.values()], axis=-1)


def _course(uv: Array, seen: Array, body: Array, fundamental: Array, pairs: tuple[tuple[int, int], ...]) -> Array:
    views, frames = uv.shape[:2]
    plain = [joint for pair in pairs for joint in pair]
    swapped = [joint for left, right in pairs for joint in (right, left)]
    states = list(product((False, True), repeat=views))
    order = {False: plain, True: swapped}
    alone = np.zeros((frames, len(states)))
    for s, state in enumerate(states):
        alone[:, s] = SWAP_COST * sum(state)
        for a, b in combinations(range(views), 2):
            alone[:, s] += _disagreement(
                uv, seen, body, fundamental[a, b], a=(a, order[state[a]]), b=(b, order[state[b]])
            )
    stay = np.stack([_movement(uv[v], seen[v], body[v], plain, plain) for v in range(views)])
    change = np.stack([_movement(uv[v], seen[v], body[v], plain, swapped) for v in range(views)])
    flips = np.array([[[x != y for x, y in zip(p, q, strict=True)] for q in states] for p in states])
    course = cheapest_course(alone, lambda t: np.where(flips, change[:, t], stay[:, t]).sum(-1))
    return np.asarray(np.array(states)[course].T)


def _disagreement(
    uv: Array, seen: Array, body: Array, f: Array, *, a: tuple[int, list[int]], b: tuple[int, list[int]]
) -> Array:
    """Capped squared distances (T,) of joints from the epipolar lines of the other view, in both views."""
    one, two = uv[a[0]][:, a[1]], uv[b[0]][:, b[1]]
    both = seen[a[0]][:, a[1]] & seen[b[0]][:, b[1]]
    one, two = (np.concatenate([x, np.ones((*x.shape[:2], 1))], axis=-1) for x in (one, two))
    line_b, line_a = one @ f.T, two @ f
    off = (two * line_b).sum(-1) ** 2
    total = np.zeros(len(uv[0]))
    for line, view in ((line_a, a[0]), (line_b, b[0])):
        distance = off / np.maximum((line[..., :2] ** 2).sum(-1), 1e-20)
        share = distance / (DISAGREEMENT * body[view][:, None]) ** 2
        total += np.where(both, np.minimum(share, CAP), 0.0).sum(-1)
    return total


def _movement(uv: Array, seen: Array, body: Array, now: list[int], before: list[int]) -> Array:
    """Capped squared movements (T,) from the frame before, if `before` had the joints of `now`; 0 for the first."""
    moved = ((uv[1:, now] - uv[:-1, before]) ** 2).sum(-1) / (MOVEMENT * body[1:, None]) ** 2
    both = seen[1:, now] & seen[:-1, before]
    return np.asarray(np.r_[0.0, np.where(both, np.minimum(moved, CAP), 0.0).sum(-1)])
