"""The first guess of two-view 3D: the lifter's own poses, brought to one size, on their pixels, and onto each other."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import median_filter

from twoview.bundle import BODY_M, CHILDREN, MIRRORED, PARENTS

Array = np.ndarray


def to_metres(start: Array, *, around: int = 15) -> tuple[Array, Array]:
    """Each view's lift scaled to the standard body, and the bones (J - 1,) m that the views agree on.

    The scale is the median's over `around` frames before and after, since it changes where the athlete travels.
    """
    start = start - start[:, :, :1]
    lengths = np.linalg.norm(start[:, :, CHILDREN] - start[:, :, PARENTS], axis=-1)
    total = np.maximum(median_filter(lengths.sum(-1), size=(1, 2 * around + 1), mode="nearest"), 1e-9)
    bones = np.median(lengths / total[..., None], axis=(0, 1))
    bones = bones + bones[MIRRORED]
    return start * (BODY_M / total)[..., None, None], bones * BODY_M / bones.sum()


def place(uv: Array, weight: Array, pose: Array, focal: float, *, near: float = 0.5) -> Array:
    """Root positions (T, 3) m that put a root-relative pose (T, J, 3) m on its pixels, linear least squares."""
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
    """Rotation (G, V, 3, 3) and translation (G, V, 3) of each view from the first, by the views' own lifts."""
    views, groups = len(lifted), int(group[-1]) + 1
    rotation, translation = np.tile(np.eye(3), (groups, views, 1, 1)), np.zeros((groups, views, 3))
    for g in range(groups):
        at = group == g
        for v in range(1, views):
            w = np.sqrt(weight[0, at] * weight[v, at])[..., None]
            spread = np.einsum("tja,tjb->ab", w * lifted[v, at], lifted[0, at])
            left, _, right = np.linalg.svd(spread)
            turn = left @ np.diag([1, 1, np.linalg.det(left @ right)]) @ right
            rotation[g, v] = turn
            translation[g, v] = np.median(roots[v, at] - roots[0, at] @ turn.T, axis=0)
    return rotation, translation
