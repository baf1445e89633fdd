"""The epipolar constraint between two still, uncalibrated cameras, from the joints of one body seen by both.

In coordinates of the body's size it is written as y_a = terms @ geometry: the fundamental matrix, scaled so that y_a
has the factor 1. Near the affine case (a body small against its distance) four of the eight numbers are near 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Array = np.ndarray

_USUAL = np.array([0, 0, 0, 0, 0, 0, 1.0, 0])  # upright, level cameras at one distance
_SPREAD = np.array([0.3, 0.3, 0.3, 0.3, 0.35, 0.35, 0.4, 2.0])  # standard deviations of phones from that
_NOISE = 0.012  # of a joint against the geometry, sizes of the body
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
        far = max(2.5 * _NOISE, 2.2 * float(np.median(np.abs(away))))
        weight = 1 / length**2 / (1 + (away / far) ** 2)
        weight *= _LOOKS * seconds / weight.sum() / _NOISE**2
        normal = (terms * weight[:, None]).T @ terms + np.diag(_SPREAD**-2)
        geometry = np.linalg.solve(normal, (terms * weight[:, None]).T @ target + _USUAL * _SPREAD**-2)
    return geometry
