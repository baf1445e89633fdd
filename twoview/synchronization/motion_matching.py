"""What of a view's detections is compared with another's: joints on an even grid, smoothed, and their movements.

The epipolar constraint between two still, uncalibrated cameras, from the joints of one body seen by both.

In coordinates of the body's size it is written as y_a = terms @ geometry: the fundamental matrix, scaled so that y_a
has the factor 1. Near the affine case (a body small against its distance) four of the eight numbers are near 0.

How two views of one body line up, from their moves alone: coarse to fine, with the evidence.

Two cameras share one direction, the axis about which one would be turned into the other; for upright phones it is close
to the vertical. Along it both see every joint move alike, whatever the angle between them: the epipolar constraint.

Coarse: over all delays at once, how well the joints' movements along that direction agree, in three bands of speed.
Fine: around the likeliest delays the epipolar geometry is fitted to all joints of all frames, and the delay is where
what it leaves over is least, between frames.

A lag is counted in grid points: point of a = lag + point of b.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy import ndarray as Array
from scipy import fft
from scipy.ndimage import gaussian_filter1d, uniform_filter1d

from twoview.poses import Poses2D
from twoview.skeleton import H36M17

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
    center = (placed * seen[..., None]).sum(axis=(0, 1)) / max(float(seen.sum()), 1.0)
    smooth = _smoothed((placed - center) / typical, seen, _SMOOTH_S)
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


_USUAL = np.array([0, 0, 0, 0, 0, 0, 1.0, 0])  # upright, level cameras at one distance
_SPREAD = np.array([0.3, 0.3, 0.3, 0.3, 0.35, 0.35, 0.4, 2.0])  # standard deviations of phones from that
_JOINT_NOISE = 0.012  # of a joint against the geometry, sizes of the body
_LOOKS = 45.0  # independent sightings a second, all joints together


@dataclass(frozen=True, eq=False)
class Pair:
    """Joints in both views at the same moments, in sizes of the body. a, b (..., 2); seen (...) 0 or 1."""

    a: Array
    b: Array
    seen: Array


def _terms(pair: Pair) -> tuple[Array, Array]:
    """The epipolar constraint as y_a = terms @ geometry: terms (..., 8), y_a (...)."""
    (xa, ya), (xb, yb) = np.moveaxis(pair.a, -1, 0), np.moveaxis(pair.b, -1, 0)
    return np.stack([xb * xa, xb * ya, yb * xa, yb * ya, xa, xb, yb, np.ones_like(xa)], axis=-1), ya


def slopes(pair: Pair, geometry: Array) -> tuple[Array, Array]:
    """Derivatives (..., 4) of the constraint by x_a, y_a, x_b, y_b, scaled to unit length, and their length (...)."""
    along = np.stack(_derivatives(pair, geometry), axis=-1)
    length = np.linalg.norm(along, axis=-1) + 1e-6
    return along / length[..., None], length


def _derivatives(pair: Pair, g: Array) -> tuple[Array, Array, Array, Array]:
    xa, ya, xb, yb = pair.a[..., 0], pair.a[..., 1], pair.b[..., 0], pair.b[..., 1]
    by_a = -(g[0] * xb + g[2] * yb + g[4]), 1 - (g[1] * xb + g[3] * yb)
    return *by_a, -(g[0] * xa + g[1] * ya + g[5]), -(g[2] * xa + g[3] * ya + g[6])


def distance(pair: Pair, geometry: Array) -> Array:
    """Signed distance (...) of each pair of points from the constraint (Sampson's, over both views)."""
    by_xa, by_ya, by_xb, by_yb = _derivatives(pair, geometry)
    rest = pair.a[..., 1] - geometry[4] * pair.a[..., 0] - geometry[7] + by_xb * pair.b[..., 0] + by_yb * pair.b[..., 1]
    return rest / (np.sqrt(by_xa**2 + by_ya**2 + by_xb**2 + by_yb**2) + 1e-6)


def fit(pair: Pair, seconds: float) -> Array:
    """The geometry (8,) from all joints of all frames, which last `seconds`: robust, with priors.

    The priors (upright phones, the body small against its distance) decide only where the body's shape does not.
    """
    shown = pair.seen > 0.5
    flat = Pair(pair.a[shown][::3], pair.b[shown][::3], shown)
    terms, target = _terms(flat)
    geometry = _USUAL
    for _ in range(5):
        length = slopes(flat, geometry)[1]
        away = (target - terms @ geometry) / length
        far = max(2.5 * _JOINT_NOISE, 2.2 * float(np.median(np.abs(away))))
        weight = 1 / length**2 / (1 + (away / far) ** 2)
        weight *= _LOOKS * seconds / weight.sum() / _JOINT_NOISE**2
        normal = (terms * weight[:, None]).T @ terms + np.diag(_SPREAD**-2)
        geometry = np.linalg.solve(normal, (terms * weight[:, None]).T @ target + _USUAL * _SPREAD**-2)
    return geometry


_BAND_NOISE = (0.004, 0.003, 0.002)  # of a joint in each band, sizes of the body
_INDEPENDENT = 2.5  # movements this many smoothings apart count as independent evidence
_TILTS = np.radians([-30.0, -15.0, 0.0, 15.0, 30.0])  # of the shared direction from the picture's vertical
_TILT = math.radians(15.0)  # how far it usually is
_CANDIDATES, _APART_S, _WORTH = 5, 0.2, 0.3  # kept; how far apart; least evidence, of the highest
_REACH = 8  # grid points either way in which a candidate is refined
_FINE = 4  # and then, with the geometry of a better lag, again
_LEFT_OVER = 0.02  # distances above this, in sizes of the body, count less and less
_WINDOW_S, _WINDOWS = 6.0, 60


@dataclass(frozen=True, eq=False)
class Fit:
    """One candidate refined.

    lag      grid points, with fractions
    seconds  that both saw
    share    of the movement along the shared direction that is left over, 1 where the views are unrelated
    misfit   median distance of the joints from one geometry, sizes of the body
    steps    (S,) lags tried around it; curve (K, S) what each stretch leaves over there
    time     (K,) middles of the stretches, grid points of b
    """

    lag: float
    seconds: float
    share: float
    misfit: float
    steps: Array
    curve: Array
    time: Array

    @property
    def evidence(self) -> float:
        """What candidates are ranked by: how much less is left over than of unrelated views, and for how long."""
        return -math.log(self.share) * self.seconds


# --- coarse ----------------------------------------------------------------------------------------------------------


def coarse(a: Moves, b: Moves, least_s: float) -> tuple[Array, Array, list[float]]:
    """Lags (L,), the evidence for each in nats where both see `least_s` or more, and the likeliest lags."""
    lags = np.arange(-(len(b.xy) - 1), len(a.xy))
    moments = [_moments(*both, a.seen, b.seen) for both in zip(a.bands, b.bands, strict=True)]
    count = np.maximum(moments[0]["mm"], 1.0)
    seconds = count / len(JOINTS) / RATE
    best = np.full(len(lags), -np.inf)
    for p in _TILTS:
        for q in _TILTS:
            total = np.full(len(lags), -0.5 * (p**2 + q**2) / _TILT**2)
            for sums, noise, (smooth, _) in zip(moments, _BAND_NOISE, BANDS, strict=True):
                (xa, ya), (xb, yb) = (math.sin(p), math.cos(p)), (math.sin(q), math.cos(q))
                both = (
                    xa * xb * sums["xx"] + xa * yb * sums["xy"] + ya * xb * sums["yx"] + ya * yb * sums["yy"]
                ) / count
                of_a = (xa**2 * sums["XX."] + 2 * xa * ya * sums["XY."] + ya**2 * sums["YY."]) / count + noise**2
                of_b = (xb**2 * sums[".XX"] + 2 * xb * yb * sums[".XY"] + yb**2 * sums[".YY"]) / count + noise**2
                total += _evidence(both / np.sqrt(of_a * of_b), seconds, smooth)
            np.maximum(best, total, out=best)
    heights = np.where(seconds >= least_s, best, 0.0)
    left, apart = heights.copy(), round(_APART_S * RATE)
    found: list[float] = []
    while len(found) < _CANDIDATES and left[at := int(np.argmax(left))] > _WORTH * heights.max(initial=1e-9):
        found.append(float(lags[at]))
        left[max(0, at - apart) : at + apart + 1] = -np.inf
    return lags, heights, found


def _evidence(likeness: Array, seconds: Array, smooth_s: float) -> Array:
    """Logarithm of how much likelier one common movement is than two of their own, from their correlation."""
    r = np.clip(likeness, -0.9999, 0.9999)
    return -0.5 * np.sign(r) * np.log1p(-r * r) * seconds / (_INDEPENDENT * smooth_s)


def _moments(a: Array, b: Array, seen_a: Array, seen_b: Array) -> dict[str, Array]:
    """Sums over time and joints at every delay: products of a's and b's axes, squares of each where both are seen."""
    size = fft.next_fast_len(len(a) + len(b) - 1, real=True)

    def spectra(view: Array, seen: Array) -> dict[str, Array]:
        x, y = view[..., 0], view[..., 1]
        parts = {"m": seen.astype(np.float32), "x": x, "y": y, "XX": x * x, "XY": x * y, "YY": y * y}
        return {name: fft.rfft(part, size, axis=0) for name, part in parts.items()}

    def summed(one: Array, other: Array) -> Array:
        row = fft.irfft((one * np.conj(other)).sum(axis=1), size)
        return np.concatenate([row[len(row) - (len(b) - 1) :], row[: len(a)]])

    first, second = spectra(a, seen_a), spectra(b, seen_b)
    sums = {p + q: summed(first[p], second[q]) for p in "xy" for q in "xy"}
    sums |= {f"{p}.": summed(first[p], second["m"]) for p in ("XX", "XY", "YY")}
    sums |= {f".{q}": summed(first["m"], second[q]) for q in ("XX", "XY", "YY")}
    return sums | {"mm": summed(first["m"], second["m"])}


# --- fine ------------------------------------------------------------------------------------------------------------


def refine(a: Moves, b: Moves, lag: float, *, reach: int = _REACH) -> Fit | None:
    """The lag within `reach` of one at which the joints fit one geometry best; None if the views hardly overlap."""
    for margin in (reach, *[_FINE] * 4):
        span = _span(a, b, lag, margin + 1)
        if span[1] - span[0] < RATE:
            return None
        pair = _paired(a.xy, b.xy, a, b, lag, span)
        if not _enough(pair):
            return None
        geometry = fit(pair, (span[1] - span[0]) / RATE)
        steps = lag + np.arange(-margin, margin + 1)
        left = np.stack([_left_over(_paired(a.xy, b.xy, a, b, step, span), geometry) for step in steps], axis=1)
        found = lowest(steps, left.sum(axis=0))
        moved, lag = abs(found - lag), found
        if margin == _FINE and moved < 0.1:
            break
    curve, time = _in_stretches(left, span)
    pair, seconds = _paired(a.xy, b.xy, a, b, lag, span), (span[1] - span[0]) / RATE
    alone = _alone(pair, _paired(a.moved, b.moved, a, b, lag, span), geometry)
    share = float(np.clip(left.sum(axis=0).min() / max(alone, 1e-9), 1e-6, 1e6))
    misfit = float(np.median(np.abs(distance(pair, geometry))[pair.seen > 0]))
    return Fit(lag, seconds, share, misfit, steps, curve, time)


def _enough(pair: Pair) -> bool:
    """Whether a quarter of a second of all joints, or as much of some, is seen in both views."""
    return float(pair.seen.sum()) >= RATE * len(JOINTS) / 4


def _alone(pair: Pair, moved: Pair, geometry: Array) -> float:
    """What would be left over of both views' movement along the shared direction if they had nothing in common."""
    along, _ = slopes(pair, geometry)
    by_a, by_b = (along[..., :2] * moved.a).sum(axis=-1), (along[..., 2:] * moved.b).sum(axis=-1)
    return float((pair.seen * np.log1p((by_a**2 + by_b**2) / _LEFT_OVER**2)).sum())


def lowest(steps: Array, curve: Array) -> float:
    """Where, between steps, a curve has its least value: top of the parabola through the five around the smallest."""
    at = min(max(int(np.argmin(curve)), 2), len(curve) - 3)
    near = slice(at - 2, at + 3)
    bend, slope, _ = np.polyfit(steps[near] - steps[at], curve[near], 2)
    shift = -slope / (2 * bend) if bend > 0 else 0.0
    return float(np.clip(steps[at] + np.clip(shift, -2, 2), steps[0], steps[-1]))


def _span(a: Moves, b: Moves, lag: float, margin: int) -> tuple[int, int]:
    """Points of b that lie in a for every lag within `margin` of one."""
    return max(0, math.ceil(margin - lag)), min(len(b.xy), math.floor(len(a.xy) - 2 - lag - margin))


def _paired(of_a: Array, of_b: Array, a: Moves, b: Moves, lag: float, span: tuple[int, int]) -> Pair:
    """Values (G, J, 2) of b at points span[0] to span[1], beside those of a `lag` points on."""
    low, high = span
    first = math.floor(low + lag)
    share, count = low + lag - first, high - low
    before, after = slice(first, first + count), slice(first + 1, first + 1 + count)
    seen = np.minimum(a.seen[before], a.seen[after]) * b.seen[low:high]
    return Pair(of_a[before] * (1 - share) + of_a[after] * share, of_b[low:high], seen)


def _left_over(pair: Pair, geometry: Array) -> Array:
    """What the geometry leaves over in each frame (N,): of all joints' distances, apart from what is lasting."""
    away = distance(pair, geometry)
    lasting = running_sum(away * pair.seen) / np.maximum(running_sum(pair.seen), 1e-6)
    return (pair.seen * np.log1p(((away - lasting) / _LEFT_OVER) ** 2)).sum(axis=1)


def _in_stretches(left: Array, span: tuple[int, int]) -> tuple[Array, Array]:
    """Sums (K, S) over successive stretches of what is left over (N, S), and the stretches' middles (K,)."""
    count = int(np.clip(len(left) / RATE / _WINDOW_S, 5, _WINDOWS))
    edges = np.linspace(0, len(left), count + 1).astype(int)
    return np.add.reduceat(left, edges[:-1], axis=0), span[0] + 0.5 * (edges[1:] + edges[:-1])
