"""Videos of bright blobs on legs, and the detectors that find them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from twoview.config import DetectConfig
from twoview.detectors import Person, everyone
from twoview.media.writer import VideoWriter
from twoview.skeleton import COCO17

SIZE, RATE = (320, 240), 30


SHAPE = np.stack([np.tile([-0.4, 0.4], 9)[:17], np.linspace(-0.45, 0.45, 17)], axis=-1)


class Blobs:
    """A detector in two steps for drawn people: white figures, whose joints fill their box."""

    name, skeleton, batch = "blobs", COCO17, 1
    searches = built = 0  # of all detectors of this kind

    def __init__(self) -> None:
        Blobs.built += 1

    def find(self, rgb: np.ndarray) -> np.ndarray:
        Blobs.searches += 1
        _, _, stats, _ = cv2.connectedComponentsWithStats((rgb.min(axis=-1) > 150).astype(np.uint8))
        boxes = [[x, y, x + w, y + h, 0.9] for x, y, w, h, area in stats[1:] if area > 60]
        return np.array(boxes, float).reshape(-1, 5)

    def pose(self, pictures, boxes) -> tuple[np.ndarray, np.ndarray]:
        xy, score = np.full((len(boxes), 17, 2), np.nan), np.zeros((len(boxes), 17))
        for i, (rgb, box) in enumerate(zip(pictures, boxes, strict=True)):
            middle, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) * 0.75 + 4
            low = np.maximum(np.floor(middle - half), 0).astype(int)
            high = np.ceil(middle + half).astype(int)
            y, x = np.nonzero(rgb[low[1] : high[1], low[0] : high[0]].min(axis=-1) > 150)
            if len(x) > 30:
                left, top, right, bottom = x.min(), y.min(), x.max(), y.max()
                xy[i] = low + [(left + right) / 2, (top + bottom) / 2] + SHAPE * [right - left, bottom - top]
                score[i] = 0.8
        return xy, score

    def __call__(self, rgb: np.ndarray) -> list[Person]:
        return everyone(self, rgb)


class Crops(Blobs):
    """The same, seeing nothing but a crop around each person."""

    name, crop_size, padding = "crops", (96, 128), 1.25

    def pose_crops(self, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        whole = np.tile([0.0, 0.0, 96.0, 128.0], (len(crops), 1))
        return Blobs.pose(self, crops, whole)


def film(path: Path, *people, frames: int = 90, hidden=()) -> Path:
    """White figures of (x, y, height) at each frame on gray; frames in `hidden` show nobody."""
    with VideoWriter(path, SIZE, RATE) as writer:
        for frame in range(frames):
            rgb = np.full((SIZE[1], SIZE[0], 3), 60, np.uint8)
            for where in people:
                place = where(frame)
                if place is not None and frame not in hidden:
                    x, y, height = place
                    corner, other = (
                        (int(x - height / 6), int(y - height / 2)),
                        (int(x + height / 6), int(y + height / 2)),
                    )
                    cv2.rectangle(rgb, corner, other, (230, 230, 230), -1)
            writer.write(rgb)
    return path


def runner(frame: int) -> tuple[float, float, float]:
    return 60 + 2.2 * frame, 120 + 10 * np.sin(frame / 8), 100.0


def jumper(x: float, height: float):
    """Somebody who grows and shrinks at two moments."""
    return lambda f: (x, 120, height * (1 + 0.25 * np.sin(f / 3) * (20 < f < 50 or 80 < f < 100)))


def walker(x: float, height: float):
    """Somebody who drifts to the right and moves a little all the time."""
    return lambda f: (x + 0.3 * f, 120, height * (1 + 0.1 * np.sin(f / 4)))


CONFIG = DetectConfig(detector=f"{__name__}:Blobs")


def middle(poses) -> np.ndarray:
    return (np.nanmin(poses.xy, axis=1) + np.nanmax(poses.xy, axis=1)) / 2
