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
    (xa, ya), (xb, yb), g = np.moveaxis(pair.a, -1, 0), np.moveaxis(pair.b, -1, 0), geometry
    rows = [
        -(g[0] * xb + g[2] * yb + g[4]), 1 - (g[1] * xb + g[3] * yb),
        -(g[0] * xa + g[1] * ya + g[5]), -(g[2] * xa + g[3] * ya + g[6]),
    ]  # fmt: skip
    along = np.stack(rows, axis=-1)
    length = np.linalg.norm(along, axis=-1, keepdims=True) + 1e-6
    return along / length, length[..., 0]


def distance(pair: Pair, geometry: Array) -> Array:
    """Signed distance (...) of each pair of points from the constraint (Sampson's, over both views)."""
    terms, target = _terms(pair)
    return (target - terms @ geometry) / slopes(pair, geometry)[1]


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
