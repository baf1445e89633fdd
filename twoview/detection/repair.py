"""Repair of one view's keypoints by their motion: swapped sides, joints that jumped away, and smoothing.

No position is made up: swapped sides are put back, jumps become unseen. Smoothing is off unless asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy import ndarray as Array

from twoview.detection.smoothing import butterworth, one_euro
from twoview.poses import Poses2D, cheapest_course
from twoview.skeleton import Skeleton, swap_sides

LIMBS = {"arms": ("elbow", "wrist"), "legs": ("hip", "knee", "ankle"), "head": ("eye", "ear"), "chest": ("shoulder",)}
SWAP_COST = 0.05  # cost of a swapped frame, in body sizes: without evidence nothing is swapped
LEAST_APART = 0.05  # left and right nearer than this, in body sizes, are left as they are
FARTHEST = 0.5  # a change of speed costs at most this, in body sizes a frame
JUMP = 0.15  # a joint this far, in body sizes, from where its neighbors in time put it has jumped
LONGEST_JUMP_S = 0.1
ONE_EURO_BETA = 0.02  # how much the one-euro cutoff (Hz) rises with speed (px/s)


@dataclass(frozen=True)
class Repairs:
    """What `repair` changed: frames in which some sides were put back, and keypoints marked unseen."""

    swapped: int = 0
    jumps: int = 0


def repair(poses: Poses2D) -> tuple[Poses2D, Repairs]:
    """Poses with swapped sides put back and lone jumps unseen, and how many of each."""
    swapped = find_swaps(poses)
    fixed = swap(poses, swapped)
    far = find_jumps(fixed)
    seen = replace(fixed, xy=np.where(far[..., None], np.nan, fixed.xy), score=np.where(far, 0.0, fixed.score))
    return seen, Repairs(int(swapped.any(axis=1).sum()), int(far.sum()))


def limb_pairs(skeleton: Skeleton) -> list[list[tuple[int, int]]]:
    """(left, right) pairs of joints that a detector swaps together: arms, legs, head, chest."""
    groups = [
        [pair for pair in skeleton.pairs if any(part in skeleton.joints[pair[0]] for part in parts)]
        for parts in LIMBS.values()
    ]
    return [group for group in groups if group]


def body_size(poses: Poses2D) -> Array:
    """Longer side (T,) in px of the box around the joints, as a running median; 1 where nobody is."""
    span = np.full(len(poses), np.nan)
    there = (poses.score > 0).sum(axis=1) >= 2
    span[there] = (np.nanmax(poses.xy[there], axis=1) - np.nanmin(poses.xy[there], axis=1)).max(axis=-1)
    typical = float(np.nanmedian(span)) if there.any() else 1.0
    return np.maximum(np.where(np.isnan(span), typical, np.maximum(span, typical / 2)), 1.0)


def find_swaps(poses: Poses2D) -> Array:
    """Frames and limbs (T, limbs) whose left and right the detector swapped, from the motion of one view.

    For each limb, the course of plain and swapped frames in which joints move most evenly. Keeping the detector's sides
    costs nothing, so sides that merely cross, and swaps that last, are left as they are.
    """
    size = body_size(poses)
    limbs = limb_pairs(poses.skeleton)
    if len(poses) < 3:
        return np.zeros((len(poses), len(limbs)), bool)
    return np.stack([_course(poses, pairs, size) for pairs in limbs], axis=1)


def _course(poses: Poses2D, pairs: list[tuple[int, int]], size: Array) -> Array:
    """Swapped frames (T,) of one limb: the course with the least sudden changes of speed.

    A state is whether the frame before and this frame are swapped, since a change of speed takes three frames.
    """
    left, right = ([pair[side] for pair in pairs] for side in (0, 1))
    sides = np.stack([_filled(poses.xy[:, left]), _filled(poses.xy[:, right])], axis=1)  # (T, 2, pairs, 2)
    versions = np.stack([sides, sides[:, ::-1]])  # plain, swapped
    change = np.full((len(poses) - 1, 2, 2, 2, 2), np.inf)  # from (frame before last, last) to (last, this)
    for a, b, c in np.ndindex(2, 2, 2):
        bend = versions[c][2:] - 2 * versions[b][1:-1] + versions[a][:-2]
        far = np.linalg.norm(bend, axis=-1) / size[2:, None, None]
        change[1:, a, b, b, c] = np.nansum(np.minimum(far, FARTHEST), axis=(1, 2))
    cost = np.tile([0.0, SWAP_COST, 0.0, SWAP_COST], (len(poses) - 1, 1))
    cost[0, 2:] += SWAP_COST
    states = cheapest_course(cost, change.reshape(-1, 4, 4).__getitem__)
    swapped = np.r_[states[0] // 2, states % 2].astype(bool)
    apart = np.linalg.norm(sides[:, 0] - sides[:, 1], axis=-1).max(axis=1) > LEAST_APART * size
    kept: Array = swapped & apart
    return kept


def _filled(xy: Array) -> Array:
    """Unseen joints keep their last place, so that a gap does not hide a movement."""
    out = xy.astype(np.float64)
    for t in range(1, len(out)):
        out[t] = np.where(np.isnan(out[t]), out[t - 1], out[t])
    return out


def swap(poses: Poses2D, swapped: Array) -> Poses2D:
    """Poses with left and right of the marked frames and limbs (T, limbs) swapped."""
    limbs = limb_pairs(poses.skeleton)
    return replace(poses, xy=swap_sides(poses.xy, swapped, limbs), score=swap_sides(poses.score, swapped, limbs))


def find_jumps(poses: Poses2D) -> Array:
    """Sightings (T, J) far off the line between the joint's places before and after a spell of at most 0.1 s."""
    far = np.zeros(poses.score.shape, bool)
    size = body_size(poses)
    for joint in range(len(poses.skeleton)):
        at = np.flatnonzero(poses.score[:, joint] > 0)
        time, xy = poses.time[at], poses.xy[at, joint].astype(np.float64)
        for length in (1, 2, 3):
            if len(at) < length + 2:
                break
            first, last = np.arange(len(at) - length - 1), np.arange(length + 1, len(at))
            short = time[last] - time[first] <= LONGEST_JUMP_S + 0.05
            home = np.linalg.norm(xy[last] - xy[first], axis=-1) / size[at[first]]
            away = np.full(len(first), np.inf)
            for k in range(1, length + 1):
                share = ((time[first + k] - time[first]) / (time[last] - time[first]))[:, None]
                line = xy[first] * (1 - share) + xy[last] * share
                away = np.minimum(away, np.linalg.norm(xy[first + k] - line, axis=-1) / size[at[first]])
            for spell in np.flatnonzero(short & (away > JUMP) & (home < away / 2)):
                far[at[spell + 1 : spell + 1 + length], joint] = True
    return far


# --- smoothing -----------------------------------------------------------------------------------------------------


def smooth(poses: Poses2D, kind: str, cutoff_hz: float) -> Poses2D:
    """Poses smoothed over time, each joint from gap to gap; scores stay.

    butterworth  4th order in all, forwards and backwards (no delay), at `cutoff_hz`
    one-euro     Casiez et al. 2012: `cutoff_hz` for a joint at rest, higher the faster it moves; lags a little
    """
    xy = poses.xy.astype(np.float64)
    for joint in range(len(poses.skeleton)):
        for run in _between_gaps(poses.score[:, joint] > 0, poses.time):
            time, values = poses.time[run], xy[run, joint]
            if kind == "one-euro":
                xy[run, joint] = one_euro(time, values, cutoff_hz=cutoff_hz, rise=ONE_EURO_BETA)
            elif len(run) >= 8 and cutoff_hz * float(np.median(np.diff(time))) < 0.45:  # else nothing to take away
                xy[run, joint] = butterworth(time, values, cutoff_hz=cutoff_hz)
    return replace(poses, xy=xy)


def _between_gaps(seen: Array, time: Array) -> list[Array]:
    """Indices of successive sightings without a gap of more than three frames."""
    at = np.flatnonzero(seen)
    if not len(at):
        return []
    gap = 3.5 * float(np.median(np.diff(time))) if len(time) > 1 else np.inf
    return np.split(at, np.flatnonzero(np.diff(time[at]) > gap) + 1)
