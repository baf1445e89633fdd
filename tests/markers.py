"""Colored dots as joints: the detector for drawn scenes, where the truth is known to a fraction of a pixel."""

from __future__ import annotations

import colorsys

import cv2
import numpy as np
from numpy import ndarray as Array

from twoview.detectors import Person
from twoview.skeleton import COCO17

LEAST_SATURATION = 0.45  # of a dot's pixel; what surrounds the dots has to be grayer
LEAST_VALUE = 0.3
LEAST_PIXELS = 5

# One hue a joint, evenly round the circle; neighbors on the body get distant hues, so that touching dots stay apart.
HUES = tuple((5 * joint % len(COCO17)) / len(COCO17) for joint in range(len(COCO17)))
COLORS: tuple[tuple[int, int, int], ...] = tuple(
    (round(255 * r), round(255 * g), round(255 * b)) for r, g, b in (colorsys.hsv_to_rgb(h, 1.0, 1.0) for h in HUES)
)


class Markers:
    """Finds one dot of each color in COLORS; scores are 1 where a dot was found and 0 where it was not."""

    name = "markers"
    skeleton = COCO17

    def __init__(self, name: str = "markers", *, device: str = "auto", finder: str = "", flip: bool = False) -> None:
        del name, device, finder, flip  # one way of looking, on the processor

    def __call__(self, rgb: Array) -> list[Person]:
        """The one person in a picture (H, W, 3) uint8, or nobody where fewer than three dots were found."""
        hsv = cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2HSV)
        vivid = (hsv[..., 1] > LEAST_SATURATION) & (hsv[..., 2] > LEAST_VALUE)
        nearest = np.round(hsv[..., 0] / 360 * len(HUES)).astype(int) % len(HUES)
        xy, score = np.full((len(HUES), 2), np.nan), np.zeros(len(HUES))
        for joint, hue in enumerate(HUES):
            dot = (vivid & (nearest == round(hue * len(HUES)))).astype(np.uint8)
            _, _, stats, centers = cv2.connectedComponentsWithStats(dot, connectivity=8)
            areas = stats[1:, cv2.CC_STAT_AREA]
            if len(areas) and areas.max() >= LEAST_PIXELS:
                xy[joint], score[joint] = centers[1 + int(areas.argmax())], 1.0
        found = score > 0
        if found.sum() < 3:
            return []
        return [Person(xy, score, np.concatenate([xy[found].min(axis=0), xy[found].max(axis=0)]))]
