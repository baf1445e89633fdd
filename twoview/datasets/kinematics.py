"""Shared by the skeleton readers: joint angles to positions, and Human3.6M's joints in CMU's words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from twoview.errors import FormatError
from twoview.skeleton import H36M17

Array = np.ndarray
Points = Mapping[str, Array]  # name -> (T, 3) metres


def axis_rotation(axis: str, degrees: Array) -> Array:
    """Rotation matrices (..., 3, 3) by angles (...,) about "x", "y" or "z"."""
    first = "xyz".index(axis.lower())
    a, b = (first + 1) % 3, (first + 2) % 3
    angle = np.deg2rad(degrees)
    out = np.zeros((*np.shape(angle), 3, 3))
    out[..., first, first] = 1
    out[..., a, a] = out[..., b, b] = np.cos(angle)
    out[..., b, a] = np.sin(angle)
    out[..., a, b] = -np.sin(angle)
    return out


def rotation(axes: Sequence[str], degrees: Array) -> Array:
    """Product, left to right, of turns about `axes`; degrees (..., len(axes)) -> (..., 3, 3)."""
    out = np.broadcast_to(np.eye(3), (*degrees.shape[:-1], 3, 3))
    for index, axis in enumerate(axes):
        out = out @ axis_rotation(axis, degrees[..., index])
    return out


def z_up(points: Array) -> Array:
    """Points (..., 3) whose y axis points up -> the same with z up, right-handed."""
    return np.stack([points[..., 0], -points[..., 2], points[..., 1]], axis=-1)


def to_h36m(points: Points, names: Mapping[str, str | tuple[str, str]], where: str) -> Array:
    """Named points -> (T, 17, 3) in Human3.6M order; the pelvis is the middle of the hips, whatever the file's root.

    names  Human3.6M joint -> name of a point, or of two whose middle it is
    """
    missing = sorted(
        {n for value in names.values() for n in ([value] if isinstance(value, str) else value)} - set(points)
    )
    if missing:
        raise FormatError(
            f"{where} has no {', '.join(missing)}",
            hint=f"its points are {', '.join(points)}; give a table from Human3.6M's joints to these",
        )
    pick = {j: points[v] if isinstance(v, str) else (points[v[0]] + points[v[1]]) / 2 for j, v in names.items()}
    pick["pelvis"] = (pick["left_hip"] + pick["right_hip"]) / 2
    return z_up(np.stack([pick[joint] for joint in H36M17.joints], axis=1)).astype(np.float32)
