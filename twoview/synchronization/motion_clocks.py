"""How two detections of one moving body relate in time: coarse search over all delays, then a fine one between frames.

Two cameras share one direction, the axis about which one would be turned into the other; for upright phones it is close
to the vertical. Both see every joint move alike along that direction, whatever the angle between them: this is the
epipolar constraint, which needs no calibration.

Coarse: over all delays at once, the correlation of the joints' movement along that direction, in three bands of speed.
Fine: around the likeliest delays the epipolar geometry is fitted to all joints of all frames; the delay is where the
smallest residuals remain, between frames. In coordinates of the body's size the constraint is y_a = terms @ geometry:
the fundamental matrix, scaled so that y_a has the factor 1. Near the affine case (a body small against its distance)
four of the eight numbers are near 0.

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

RATE = 60.0  # grid points per second of real time

_JOINTS = [i for i, name in enumerate(H36M17.joints) if name not in ("pelvis", "spine")]  # those are means of others
_BANDS = ((0.03, 0.12), (0.12, 0.36), (0.36, 1.08))  # bands lie between two Gaussian smoothings: sigmas in s
_SMOOTH_S = 0.03  # sigma by which detections are smoothed
_STEADY_S = 3.6  # a position kept for about this long is no movement
_GAP_S = 0.25  # a joint that is unseen for longer has no weight meanwhile
_FAR = 0.06  # a detection this far from its neighbors in time, in sizes of the body, is left out

_BAND_NOISE = (0.004, 0.003, 0.002)  # of a joint in each band, sizes of the body
_INDEPENDENT = 2.5  # movements this many smoothings apart count as independent evidence
_TILTS = np.radians([-30.0, -15.0, 0.0, 15.0, 30.0])  # of the shared direction from the picture's vertical
_USUAL_TILT = math.radians(15.0)
_CANDIDATES, _APART_S, _LEAST_SHARE = 5, 0.2, 0.3  # kept; least distance; least evidence, of the highest
_REACH = 8  # grid points either way in which a candidate is refined
_FINE_REACH = 4  # the same in later rounds, with the geometry of the better lag
_LARGE_RESIDUAL = 0.02  # distances above this, in sizes of the body, count less and less
_WINDOW_S, _WINDOWS = 6.0, 60  # length of a window; most windows

_USUAL_GEOMETRY = np.array([0, 0, 0, 0, 0, 0, 1.0, 0])  # upright, level cameras at one distance
_GEOMETRY_SIGMA = np.array([0.3, 0.3, 0.3, 0.3, 0.35, 0.35, 0.4, 2.0])  # of phones from that
_JOINT_NOISE = 0.012  # of a joint against the geometry, sizes of the body
_DETECTIONS_PER_S = 45.0  # independent ones, all joints together


@dataclass(frozen=True, eq=False)
class Trajectories:
    """One view's joints on an even grid of real time, in sizes of the body.

    start  real seconds of the first grid point
    xy     (G, J, 2) relative to their mean; seen (G, J) 0 or 1
    scale  (G,) size of the body in the picture relative to its median: slow changes only
    """

    start: float
    xy: Array
    seen: Array
    scale: Array

    @property
    def seconds(self) -> float:
        """Duration in real seconds."""
        return max(len(self.xy) - 1, 0) / RATE

    @cached_property
    def movement(self) -> Array:
        """Movement (G, J, 2) relative to the mean position over some seconds."""
        shown = self.seen[..., None]
        steady = _running_sum(self.xy * shown) / np.maximum(_running_sum(self.seen), 1e-6)[..., None]
        movement: Array = (self.xy - steady) * shown
        return movement

    @cached_property
    def bands(self) -> tuple[Array, ...]:
        """Movement (G, J, 2) in each band."""
        levels = {s: _smoothed(self.xy, self.seen, s) for s in sorted({s for band in _BANDS for s in band})}
        shown = self.seen[..., None] / self.scale[:, None, None]
        return tuple(((levels[low] - levels[high]) * shown).astype(np.float32) for low, high in _BANDS)


def _running_sum(values: Array) -> Array:
    """Sum over about _STEADY_S around each frame, nearer ones with more weight: two running means, for speed."""
    width = round(_STEADY_S * RATE)
    for _ in range(2):
        values = uniform_filter1d(values, width, axis=0, mode="constant")
    return values


def trajectories(poses: Poses2D, slowdown: float = 1.0) -> Trajectories:
    """Detections as evenly spaced, smoothed joints, without lone jumps.

    slowdown  seconds of the view's clock that one real second takes
    """
    poses = poses.to(H36M17)
    time, xy = poses.time / slowdown, poses.xy.astype(np.float64)
    whole = np.flatnonzero((poses.score > 0).sum(axis=1) > 5)
    if len(whole) < 3:
        return Trajectories(0.0, np.zeros((0, len(_JOINTS), 2)), np.zeros((0, len(_JOINTS))), np.ones(0))
    start, end = time[whole[0]], time[whole[-1]]
    grid = start + np.arange(int((end - start) * RATE) + 1) / RATE
    size = (np.nanmax(xy[whole], axis=1) - np.nanmin(xy[whole], axis=1)).max(axis=-1)
    size = gaussian_filter1d(np.interp(grid, time[whole], size), RATE, mode="nearest")
    placed, seen = np.zeros((len(grid), len(_JOINTS), 2)), np.zeros((len(grid), len(_JOINTS)))
    for column, joint in enumerate(_JOINTS):
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
    return Trajectories(float(start), smooth, seen, size / typical)


def _steady(xy: Array, size: Array) -> Array:
    """Which detections (N,) of a joint are near the median of seven around them."""
    index = np.clip(np.arange(len(xy))[:, None] + np.arange(-3, 4), 0, len(xy) - 1)
    away = np.linalg.norm(xy - np.median(xy[index], axis=1), axis=-1)
    steady: Array = away < _FAR * size + 3 * np.median(away)
    return steady


def _smoothed(xy: Array, seen: Array, sigma_s: float) -> Array:
    """Mean (G, J, 2) of the seen points around each, with Gaussian weights."""
    weight = gaussian_filter1d(seen, sigma_s * RATE, axis=0, mode="constant")
    total = gaussian_filter1d(xy * seen[..., None], sigma_s * RATE, axis=0, mode="constant")
    mean: Array = total / np.maximum(weight, 1e-6)[..., None]
    return mean


@dataclass(frozen=True, eq=False)
class Candidate:
    """A lag that was refined, with its evidence.

    lag      grid points, with fractions
    seconds  that both views show
    share    of the movement along the shared direction that remains as residual; 1 where the views are unrelated
    misfit   median distance of the joints from one geometry, sizes of the body
    steps    (S,) lags tried around it; curve (K, S): residual of each window at each of them
    time     (K,) middles of the windows, grid points of b
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
        """The number by which candidates are ranked: how small the residual is, and for how long, in nats."""
        return -math.log(self.share) * self.seconds


# --- coarse: all lags ------------------------------------------------------------------------------------------------


def coarse_lags(a: Trajectories, b: Trajectories, least_s: float) -> tuple[Array, Array, list[float]]:
    """Lags (L,), their evidence (L,) in nats where both views show `least_s` or more, and the likeliest lags."""
    lags = np.arange(-(len(b.xy) - 1), len(a.xy))
    moments = [_moments(*both, a.seen, b.seen) for both in zip(a.bands, b.bands, strict=True)]
    count = np.maximum(moments[0]["mm"], 1.0)
    seconds = count / len(_JOINTS) / RATE
    best = np.full(len(lags), -np.inf)
    for p in _TILTS:
        for q in _TILTS:
            total = np.full(len(lags), -0.5 * (p**2 + q**2) / _USUAL_TILT**2)
            for sums, noise, (smooth, _) in zip(moments, _BAND_NOISE, _BANDS, strict=True):
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
    while len(found) < _CANDIDATES and left[at := int(np.argmax(left))] > _LEAST_SHARE * heights.max(initial=1e-9):
        found.append(float(lags[at]))
        left[max(0, at - apart) : at + apart + 1] = -np.inf
    return lags, heights, found


def _evidence(correlation: Array, seconds: Array, smooth_s: float) -> Array:
    """Log likelihood ratio of one common movement against two unrelated ones, from their correlation."""
    r = np.clip(correlation, -0.9999, 0.9999)
    nats: Array = -0.5 * np.sign(r) * np.log1p(-r * r) * seconds / (_INDEPENDENT * smooth_s)
    return nats


def _moments(a: Array, b: Array, seen_a: Array, seen_b: Array) -> dict[str, Array]:
    """Sums over time and joints at every lag: products of the axes of a and b, squares of each where both are seen."""
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


# --- fine: one lag and the epipolar geometry -------------------------------------------------------------------------


def refine(a: Trajectories, b: Trajectories, lag: float, *, reach: int = _REACH) -> Candidate | None:
    """The lag within `reach` of `lag` at which the joints fit one geometry best; None if the views hardly overlap."""
    for margin in (reach, *[_FINE_REACH] * 4):
        span = _span(a, b, lag, margin + 1)
        if span[1] - span[0] < RATE:
            return None
        pair = _paired(a, b, lag, span)
        if pair.seen.sum() < RATE * len(_JOINTS) / 4:  # all joints for a quarter of a second, or some for longer
            return None
        geometry = _fit_geometry(pair, (span[1] - span[0]) / RATE)
        steps = lag + np.arange(-margin, margin + 1)
        residuals = np.stack([_residuals(_paired(a, b, step, span), geometry) for step in steps], axis=1)
        found = lowest(steps, residuals.sum(axis=0))
        moved, lag = abs(found - lag), found
        if margin == _FINE_REACH and moved < 0.1:
            break
    curve, time = _sum_in_windows(residuals, span)
    pair, seconds = _paired(a, b, lag, span), (span[1] - span[0]) / RATE
    unrelated = _unrelated_residual(pair, _paired(a, b, lag, span, movement=True), geometry)
    share = float(np.clip(residuals.sum(axis=0).min() / max(unrelated, 1e-9), 1e-6, 1e6))
    misfit = float(np.median(np.abs(_distance(pair, geometry))[pair.seen > 0]))
    return Candidate(lag, seconds, share, misfit, steps, curve, time)


def _unrelated_residual(pair: _Pair, movement: _Pair, geometry: Array) -> float:
    """The residual that would remain of both views' movement if they had nothing in common."""
    along = _derivatives(pair, geometry)
    along /= np.linalg.norm(along, axis=-1, keepdims=True) + 1e-6
    by_a, by_b = (along[..., :2] * movement.a).sum(axis=-1), (along[..., 2:] * movement.b).sum(axis=-1)
    return float((pair.seen * np.log1p((by_a**2 + by_b**2) / _LARGE_RESIDUAL**2)).sum())


def lowest(steps: Array, curve: Array) -> float:
    """Where, between steps, a curve is lowest: vertex of the parabola through the five values around the smallest."""
    at = min(max(int(np.argmin(curve)), 2), len(curve) - 3)
    near = slice(at - 2, at + 3)
    bend, slope, _ = np.polyfit(steps[near] - steps[at], curve[near], 2)
    shift = -slope / (2 * bend) if bend > 0 else 0.0
    return float(np.clip(steps[at] + np.clip(shift, -2, 2), steps[0], steps[-1]))


def _span(a: Trajectories, b: Trajectories, lag: float, margin: int) -> tuple[int, int]:
    """Points of b that lie in a for every lag within `margin` of `lag`."""
    return max(0, math.ceil(margin - lag)), min(len(b.xy), math.floor(len(a.xy) - 2 - lag - margin))


def _paired(
    a: Trajectories, b: Trajectories, lag: float, span: tuple[int, int], *, movement: bool = False
) -> _Pair:  # fmt: skip
    """Positions (or movement) (G, J, 2) of b at points span[0] to span[1], and of a `lag` points later."""
    of_a, of_b = (a.movement, b.movement) if movement else (a.xy, b.xy)
    low, high = span
    first = math.floor(low + lag)
    share, count = low + lag - first, high - low
    before, after = slice(first, first + count), slice(first + 1, first + 1 + count)
    seen = np.minimum(a.seen[before], a.seen[after]) * b.seen[low:high]
    return _Pair(of_a[before] * (1 - share) + of_a[after] * share, of_b[low:high], seen)


def _residuals(pair: _Pair, geometry: Array) -> Array:
    """Residual of each frame (N,): over the distances of all joints from the geometry, less their running mean."""
    away = _distance(pair, geometry)
    steady = _running_sum(away * pair.seen) / np.maximum(_running_sum(pair.seen), 1e-6)
    residual: Array = (pair.seen * np.log1p(((away - steady) / _LARGE_RESIDUAL) ** 2)).sum(axis=1)
    return residual


def _sum_in_windows(residuals: Array, span: tuple[int, int]) -> tuple[Array, Array]:
    """Sums (K, S) over successive windows of residuals (N, S), and the windows' middles (K,) in grid points."""
    count = int(np.clip(len(residuals) / RATE / _WINDOW_S, 5, _WINDOWS))
    edges = np.linspace(0, len(residuals), count + 1).astype(int)
    return np.add.reduceat(residuals, edges[:-1], axis=0), span[0] + 0.5 * (edges[1:] + edges[:-1])


# --- the epipolar geometry of two views -------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Pair:
    """Joints in both views at the same moments, in sizes of the body. a, b (..., 2); seen (...) 0 or 1."""

    a: Array
    b: Array
    seen: Array


def _terms(pair: _Pair) -> tuple[Array, Array]:
    """The epipolar constraint as y_a = terms @ geometry: terms (..., 8), y_a (...)."""
    (xa, ya), (xb, yb) = np.moveaxis(pair.a, -1, 0), np.moveaxis(pair.b, -1, 0)
    return np.stack([xb * xa, xb * ya, yb * xa, yb * ya, xa, xb, yb, np.ones_like(xa)], axis=-1), ya


def _derivatives(pair: _Pair, g: Array) -> Array:
    """Derivatives (..., 4) of the constraint by x_a, y_a, x_b, y_b."""
    xa, ya, xb, yb = pair.a[..., 0], pair.a[..., 1], pair.b[..., 0], pair.b[..., 1]
    by_a = -(g[0] * xb + g[2] * yb + g[4]), 1 - (g[1] * xb + g[3] * yb)
    by_b = -(g[0] * xa + g[1] * ya + g[5]), -(g[2] * xa + g[3] * ya + g[6])
    return np.stack([*by_a, *by_b], axis=-1)


def _distance(pair: _Pair, geometry: Array) -> Array:
    """Signed Sampson distance (...) of each pair of points from the constraint, over both views."""
    by_xa, by_ya, by_xb, by_yb = np.moveaxis(_derivatives(pair, geometry), -1, 0)
    rest = pair.a[..., 1] - geometry[4] * pair.a[..., 0] - geometry[7] + by_xb * pair.b[..., 0] + by_yb * pair.b[..., 1]
    distance: Array = rest / (np.sqrt(by_xa**2 + by_ya**2 + by_xb**2 + by_yb**2) + 1e-6)
    return distance


def _fit_geometry(pair: _Pair, seconds: float) -> Array:
    """The epipolar geometry (8,) from all joints of all frames, which last `seconds`: robust, with priors.

    The priors (upright phones, a body small against its distance) decide only where the joints do not.
    """
    shown = pair.seen > 0.5
    flat = _Pair(pair.a[shown][::3], pair.b[shown][::3], shown)
    terms, target = _terms(flat)
    geometry = _USUAL_GEOMETRY
    for _ in range(5):
        length = np.linalg.norm(_derivatives(flat, geometry), axis=-1) + 1e-6
        away = (target - terms @ geometry) / length
        far = max(2.5 * _JOINT_NOISE, 2.2 * float(np.median(np.abs(away))))
        weight = 1 / length**2 / (1 + (away / far) ** 2)
        weight *= _DETECTIONS_PER_S * seconds / weight.sum() / _JOINT_NOISE**2
        normal = (terms * weight[:, None]).T @ terms + np.diag(_GEOMETRY_SIGMA**-2)
        geometry = np.linalg.solve(normal, (terms * weight[:, None]).T @ target + _USUAL_GEOMETRY * _GEOMETRY_SIGMA**-2)
    return geometry
