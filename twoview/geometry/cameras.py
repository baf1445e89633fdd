"""Cameras: one type, one projection and one place for the principal point, for numpy arrays and torch tensors alike.

Camera axes are x right, y down, z away from the camera. Pixel (0, 0) is the center of the top left pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import numpy as np
from numpy import ndarray as Array

if TYPE_CHECKING:
    from torch import Tensor  # this module serves numpy code too, which must not load torch

    Values = TypeVar("Values", Array, Tensor)
else:
    Values = TypeVar("Values")

NEAREST = 0.05
"""Least depth of a projected point, in the unit of the points: keeps wild guesses finite, and gradients with them."""


def principal_point(size: Values) -> Values:
    """The pixel (..., 2) taken for the optical axis of an uncalibrated picture of `size` (..., 2) px: half its size.

    It is also the origin of screen units, MotionBERT's `2 * x / width - 1`, and so a part of every trained lifter. The
    middle of the pixels, whose centers run from 0 to size - 1, is half a pixel nearer to the top left: 0.02 degrees in
    a phone's video, far less than a phone's lens is off. A second convention would set input and label apart.
    """
    return size / 2


def project(points: Values, focal: Values | float, *, nearest: float = NEAREST) -> Values:
    """Pinhole projection of points (..., 3) in camera axes: (..., 2) from the principal point, in the unit of `focal`.

    focal    broadcasts against (..., 2)
    nearest  points nearer than this, or behind the camera, are projected as if they were this far away
    """
    projected: Values = points[..., :2] / points[..., 2:].clip(min=nearest) * focal
    return projected


@dataclass(frozen=True, eq=False)
class Camera(Generic[Values]):
    """A camera, or a batch of them: `camera = rotation @ (world - position)`, then lens, then pixels.

    rotation    (..., 3, 3)  from world axes to camera axes
    position    (..., 3) m   where the camera stands in the world
    focal       (..., 2) px  along x and y, or (...) for both
    center      (..., 2) px  the principal point
    size        (width, height) px of the picture, or (..., 2) of a batch
    distortion  of a single camera: up to 8 numbers of OpenCV's model, k1 k2 p1 p2 k3 k4 k5 k6
    """

    rotation: Values
    position: Values
    focal: Values
    center: Values
    size: Any
    distortion: tuple[float, ...] = ()

    @property
    def mean_focal(self) -> float:
        """The focal length px of a single camera, where one number stands for both axes: their mean."""
        return float(np.mean(self.focal))

    def to_camera(self, world: Values) -> Values:
        """World points (..., N, 3) m in camera axes; the leading axes are those of the batch."""
        offset = self._flat(world) - self.position[..., None, :]
        turned: Values = offset @ self.rotation.swapaxes(-1, -2)
        return turned.reshape(world.shape)

    def project(self, points: Values, *, nearest: float | None = None) -> Values:
        """Pixels (..., N, 2) of points (..., N, 3) m in camera axes.

        nearest  as in the function `project`; by default, points behind the camera become NaN
        """
        flat = self._flat(points)
        single = self.focal.ndim == self.rotation.ndim - 2
        focal = self.focal[..., None, None] if single else self.focal[..., None, :]
        plane: Any = project(flat, 1.0, nearest=nearest or 1e-12)
        if any(self.distortion):
            plane = _distorted(plane, self.distortion)
        pixels = plane * focal + self.center[..., None, :]
        if nearest is None:
            pixels[flat[..., 2] <= 0] = float("nan")
        return cast("Values", pixels.reshape((*points.shape[:-1], 2)))

    def _flat(self, points: Values) -> Values:
        """Points with the axes that are not the batch's made into one: (..., N, 3)."""
        return points.reshape((*self.rotation.shape[:-2], -1, 3))


def _distorted(plane: Array, distortion: tuple[float, ...]) -> Array:
    """Positions (..., 2) at depth 1 where the lens shows them: OpenCV's rational model."""
    k1, k2, p1, p2, k3, k4, k5, k6 = (*distortion, *(0.0,) * (8 - len(distortion)))
    x, y = plane[..., 0], plane[..., 1]
    r2 = x * x + y * y
    radial = (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
    shown_x = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
    shown_y = y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
    return np.stack([shown_x, shown_y], axis=-1)


def turned(camera: Camera[Array], quarters: int) -> Camera[Array]:
    """The camera of its picture turned clockwise by so many times 90 degrees.

    Pixel (x, y) of a picture (w, h) goes to (h - 1 - y, x), as (0, 0) is the center of a pixel and not its corner.
    """
    if quarters % 4 == 0:
        return camera
    quarter = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    k1, k2, p1, p2, *more = (*camera.distortion, *(0.0,) * (4 - len(camera.distortion)))
    once = Camera(
        quarter @ camera.rotation,
        camera.position,
        camera.focal[::-1],
        np.array([camera.size[1] - 1 - camera.center[1], camera.center[0]]),
        (camera.size[1], camera.size[0]),
        (k1, k2, p2, -p1, *more),
    )
    return turned(once, quarters - 1)
