"""How two views of one body line up, from their moves alone: coarse to fine, with the evidence.

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

import numpy as np
from scipy import fft

from twoview import epipolar
from twoview.epipolar import Pair
from twoview.motionfeatures import BANDS, JOINTS, RATE, Moves, running_sum

Array = np.ndarray

_NOISE = (0.004, 0.003, 0.002)  # of a joint in each band, sizes of the body
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
            for sums, noise, (smooth, _) in zip(moments, _NOISE, BANDS, strict=True):
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
        geometry = epipolar.fit(pair, (span[1] - span[0]) / RATE)
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
    misfit = float(np.median(np.abs(epipolar.distance(pair, geometry))[pair.seen > 0]))
    return Fit(lag, seconds, share, misfit, steps, curve, time)


def _enough(pair: Pair) -> bool:
    """Whether a quarter of a second of all joints, or as much of some, is seen in both views."""
    return float(pair.seen.sum()) >= RATE * len(JOINTS) / 4


def _alone(pair: Pair, moved: Pair, geometry: Array) -> float:
    """What would be left over of both views' movement along the shared direction if they had nothing in common."""
    along, _ = epipolar.slopes(pair, geometry)
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
    away = epipolar.distance(pair, geometry)
    lasting = running_sum(away * pair.seen) / np.maximum(running_sum(pair.seen), 1e-6)
    return (pair.seen * np.log1p(((away - lasting) / _LEFT_OVER) ** 2)).sum(axis=1)


def _in_stretches(left: Array, span: tuple[int, int]) -> tuple[Array, Array]:
    """Sums (K, S) over successive stretches of what is left over (N, S), and the stretches' middles (K,)."""
    count = int(np.clip(len(left) / RATE / _WINDOW_S, 5, _WINDOWS))
    edges = np.linspace(0, len(left), count + 1).astype(int)
    return np.add.reduceat(left, edges[:-1], axis=0), span[0] + 0.5 * (edges[1:] + edges[:-1])
