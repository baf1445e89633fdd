"""Left and right exchanged by a detector: found by what two views agree on and by what moves smoothly in each."""

from __future__ import annotations

from itertools import product

import numpy as np

from twoview.skeleton import H36M17

Array = np.ndarray
_SIDES = dict(H36M17.pairs)
LIMBS = {
    "legs": tuple((left, right) for left, right in H36M17.pairs if "shoulder" not in H36M17.joints[left] and left < 8),
    "arms": tuple((left, right) for left, right in H36M17.pairs if left > 8),
}
DISAGREEMENT = 0.02  # of the body's size: how far a joint lies off its epipolar line
MOVEMENT = 0.05  # of the body's size: how far a joint moves between two frames
CAP = 9.0  # a squared distance beyond this says no more
HABIT = 0.05  # cost of a swapped frame: without evidence nothing is swapped


def find_swaps(uv: Array, seen: Array, body: Array, fundamental: Array) -> Array:
    """Which limbs of which frames were exchanged, (V, T, 2) bool for legs and arms.

    uv           (V, T, J, 2) px from the principal point
    seen         (V, T, J)    bool
    body         (V, T)       the body's size in px
    fundamental  (V, V, 3, 3) x_b^T F[a, b] x_a = 0 for pixels of a joint in views a and b

    The most probable course (Viterbi) over all combinations of exchanged views, for legs and arms apart.
    """
    return np.stack([_course(uv, seen, body, fundamental, pairs) for pairs in LIMBS.values()], axis=-1)


def exchange(values: Array, swapped: Array) -> Array:
    """Values (V, T, J, ...) with the limbs (V, T, 2) put back on their sides."""
    result = values.copy()
    for limb, pairs in enumerate(LIMBS.values()):
        where = swapped[..., limb]
        for left, right in pairs:
            result[where, left], result[where, right] = values[where, right], values[where, left]
    return result


def _course(uv: Array, seen: Array, body: Array, fundamental: Array, pairs: tuple[tuple[int, int], ...]) -> Array:
    views, frames = uv.shape[:2]
    straight = [joint for pair in pairs for joint in pair]
    crossed = [joint for left, right in pairs for joint in (right, left)]
    states = list(product((False, True), repeat=views))
    order = {False: straight, True: crossed}
    alone = np.zeros((frames, len(states)))
    for s, state in enumerate(states):
        alone[:, s] = HABIT * sum(state)
        for a in range(views):
            for b in range(a + 1, views):
                alone[:, s] += _disagreement(
                    uv, seen, body, fundamental[a, b], (a, order[state[a]]), (b, order[state[b]])
                )
    stay = np.stack([_movement(uv[v], seen[v], body[v], straight, straight) for v in range(views)])
    change = np.stack([_movement(uv[v], seen[v], body[v], straight, crossed) for v in range(views)])
    flips = np.array([[[x != y for x, y in zip(p, q, strict=True)] for q in states] for p in states])
    best, back = alone[0], np.zeros((frames, len(states)), dtype=int)
    for t in range(1, frames):
        path = best[:, None] + np.where(flips, change[:, t], stay[:, t]).sum(-1)
        back[t] = path.argmin(0)
        best = path.min(0) + alone[t]
    course = [int(best.argmin())]
    for t in range(frames - 1, 0, -1):
        course.append(int(back[t, course[-1]]))
    return np.array(states)[course[::-1]].T


def _disagreement(
    uv: Array, seen: Array, body: Array, f: Array, a: tuple[int, list[int]], b: tuple[int, list[int]]
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
    return np.r_[0.0, np.where(both, np.minimum(moved, CAP), 0.0).sum(-1)]
