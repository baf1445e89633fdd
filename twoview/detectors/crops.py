"""From a box in a picture to the input of a network, and back: letterboxes, crops, boxes."""

from __future__ import annotations

import numpy as np
from numpy import ndarray as Array

from twoview.media.opencv import cv2


def letterbox(rgb: Array, size: tuple[int, int], fill: int) -> tuple[Array, float]:
    """A picture (H, W, 3) scaled into the top left of (height, width) = `size`, and the scale applied."""
    height, width = rgb.shape[:2]
    scale = min(size[0] / height, size[1] / width)
    new = max(round(width * scale), 1), max(round(height * scale), 1)
    out = np.full((*size, 3), fill, np.uint8)
    out[: new[1], : new[0]] = cv2.resize(rgb, new, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    return out, scale


def unletterbox(xy: Array, scale: float | Array) -> Array:
    """Points in a letterboxed picture back to the original, pixel centers on pixel centers."""
    return (xy + 0.5) / scale - 0.5


def around(xy: Array, score: Array, *, least: float, grow: float = 0.0) -> Array:
    """The box (4,) around the joints with a score of at least `least`, grown by that share of its size on each side.

    NaN where fewer than two joints qualify.
    """
    seen = xy[(score >= least) & ~np.isnan(xy).any(axis=-1)]
    if len(seen) < 2:
        return np.full(4, np.nan)
    low, high = seen.min(axis=0), seen.max(axis=0)
    return np.concatenate([low - grow * (high - low), high + grow * (high - low)])


def overlap(a: Array, b: Array) -> Array:
    """Intersection over union of boxes a (N, 4) and b (M, 4) -> (N, M)."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:4], b[None, :, 2:4])
    both = np.clip(high - low, 0, None).prod(axis=-1)
    area = [np.clip(x[:, 2:4] - x[:, :2], 0, None).prod(axis=-1) for x in (a, b)]
    shares: Array = both / np.maximum(area[0][:, None] + area[1][None, :] - both, 1e-9)
    return shares


def keep_best(boxes: Array, *, most_overlap: float) -> Array:
    """Non-maximum suppression: boxes (N, 5) with scores -> those that overlap no better one, best first."""
    boxes = boxes[np.argsort(-boxes[:, 4], kind="stable")]
    kept: list[int] = []
    shared = overlap(boxes, boxes)
    for i in range(len(boxes)):
        if not (shared[i, kept] > most_overlap).any():
            kept.append(i)
    return boxes[kept]


def crop_matrix(box: Array, size: tuple[int, int], *, padding: float) -> Array:
    """The affine map (2, 3) from picture px to crop px: the box's center to the crop's, grown to the crop's shape.

    box      left, top, right, bottom; size (width, height) of the crop
    padding  how much larger than the box the crop is (1.25 in RTMPose)
    The convention is that of MMPose: crop px = (picture px - center) * width / w + width / 2.
    """
    width, height = size
    center = (box[:2] + box[2:4]) / 2
    w, h = np.maximum((box[2:4] - box[:2]) * padding, 1.0)
    w = max(w, h * width / height)
    scale = width / w
    return np.array(
        [[scale, 0.0, width / 2 - scale * center[0]], [0.0, scale, height / 2 - scale * center[1]]], np.float64
    )


def crop(rgb: Array, matrix: Array, size: tuple[int, int]) -> Array:
    """The crop (height, width, 3) uint8 that `matrix` describes; black outside the picture."""
    return cv2.warpAffine(rgb, matrix, size, flags=cv2.INTER_LINEAR)


def uncrop(xy: Array, matrix: Array) -> Array:
    """Points (..., 2) in crop px back to picture px."""
    points: Array = (xy - matrix[:, 2]) / matrix[0, 0]
    return points
