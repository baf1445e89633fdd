"""What of a view's detections is compared with another's: joints on an even grid, smoothed, and their movements."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.ndimage import gaussian_filter1d, uniform_filter1d

from twoview.poses import Poses2D
from twoview.skeleton import H36M17

Array = np.ndarray

RATE = 60.0  # grid points a second of real time
JOINTS = [i for i, name in enumerate(H36M17.joints) if name not in ("pelvis", "spine")]  # those are means of others
BANDS = ((0.03, 0.12), (0.12, 0.36), (0.36, 1.08))  # movement between two smoothings, standard deviations in s
_SMOOTH_S = 0.03  # detections are smoothed by this standard deviation
_LASTING_S = 3.6  # what lasts for about this long is no movement
_GAP_S = 0.25  # a joint unseen for longer has no say meanwhile
_FAR = 0.06  # a sighting this far from those around it, in sizes of the body, is left out


@dataclass(frozen=True, eq=False)
class Moves:
    """One view's joints on an even grid of real time, in sizes of the body.

    start   real seconds of the first grid point
    xy      (G, J, 2) about the middle of all; seen (G, J) 0 or 1
    scale   (G,) size of the body in the picture, of its median: slow changes only
    """

    start: float
    xy: Array
    seen: Array
    scale: Array

    @property
    def seconds(self) -> float:
        """Length."""
        return max(len(self.xy) - 1, 0) / RATE

    @cached_property
    def moved(self) -> Array:
        """Movement (G, J, 2) against where each joint is for some seconds."""
        shown = self.seen[..., None]
        lasting = running_sum(self.xy * shown) / np.maximum(running_sum(self.seen), 1e-6)[..., None]
        return (self.xy - lasting) * shown

    @cached_property
    def bands(self) -> tuple[Array, ...]:
        """Movement (G, J, 2) in each band."""
        levels = {s: _smoothed(self.xy, self.seen, s) for s in sorted({s for band in BANDS for s in band})}
        shown = self.seen[..., None] / self.scale[:, None, None]
        return tuple(((levels[low] - levels[high]) * shown).astype(np.float32) for low, high in BANDS)


def running_sum(values: Array) -> Array:
    """Over about _LASTING_S around each frame, nearer ones with more weight: two running means, for speed."""
    width = round(_LASTING_S * RATE)
    for _ in range(2):
        values = uniform_filter1d(values, width, axis=0, mode="constant")
    return values


def moves(poses: Poses2D, stretch: float = 1.0) -> Moves:
    """Detections as evenly spaced, smoothed joints, lone jumps left out."""
    poses = poses.to(H36M17)
    time, xy = poses.time / stretch, poses.xy.astype(np.float64)
    whole = np.flatnonzero((poses.score > 0).sum(axis=1) > 5)
    if len(whole) < 3:
        return Moves(0.0, np.zeros((0, len(JOINTS), 2)), np.zeros((0, len(JOINTS))), np.ones(0))
    start, end = time[whole[0]], time[whole[-1]]
    grid = start + np.arange(int((end - start) * RATE) + 1) / RATE
    size = (np.nanmax(xy[whole], axis=1) - np.nanmin(xy[whole], axis=1)).max(axis=-1)
    size = gaussian_filter1d(np.interp(grid, time[whole], size), RATE, mode="nearest")
    placed, seen = np.zeros((len(grid), len(JOINTS), 2)), np.zeros((len(grid), len(JOINTS)))
    for column, joint in enumerate(JOINTS):
        at = np.flatnonzero(poses.score[:, joint] > 0)
        at = at[_steady(xy[at, joint], np.interp(time[at], grid, size))] if len(at) else at
        if len(at) < 5:
            continue
        for axis in (0, 1):
            placed[:, column, axis] = np.interp(grid, time[at], xy[at, joint, axis])
        right = np.clip(np.searchsorted(time[at], grid), 1, len(at) - 1)
        gap = time[at][right] - time[at][right - 1]
        seen[:, column] = (gap < _GAP_S) & (grid >= time[at][0]) & (grid <= time[at][-1])
    typical = float(np.median(size))
    centre = (placed * seen[..., None]).sum(axis=(0, 1)) / max(float(seen.sum()), 1.0)
    smooth = _smoothed((placed - centre) / typical, seen, _SMOOTH_S)
    return Moves(float(start), smooth, seen, size / typical)


def _steady(xy: Array, size: Array) -> Array:
    """Which sightings (N,) of a joint are near the median of seven around them."""
    index = np.clip(np.arange(len(xy))[:, None] + np.arange(-3, 4), 0, len(xy) - 1)
    away = np.linalg.norm(xy - np.median(xy[index], axis=1), axis=-1)
    return away < _FAR * size + 3 * np.median(away)


def _smoothed(xy: Array, seen: Array, sigma_s: float) -> Array:
    """Mean (G, J, 2) of the seen points around each, with Gaussian weights."""
    weight = gaussian_filter1d(seen, sigma_s * RATE, axis=0, mode="constant")
    total = gaussian_filter1d(xy * seen[..., None], sigma_s * RATE, axis=0, mode="constant")
    return total / np.maximum(weight, 1e-6)[..., None]
