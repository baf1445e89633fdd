"""Detectors: pictures in, people with keypoints out.

A detector is any object with a `name`, a `skeleton` and a call `rgb (H, W, 3) uint8 -> list[Person]`. One that works in
two steps (find people, then look closely at each) also offers `find` and `pose`; `detection` then searches for people
only every few frames and spreads the second step over frames and processor cores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy import ndarray as Array

from twoview import plugins
from twoview.detectors.crops import crop, crop_matrix, uncrop
from twoview.errors import DetectorError
from twoview.skeleton import Skeleton


@dataclass(frozen=True, eq=False)
class Person:
    """One person in one picture.

    xy     (J, 2) px of the picture, (0, 0) the center of its top left pixel; NaN where not located
    score  (J,)   0..1
    box    (4,)   left, top, right, bottom in px
    """

    xy: Array
    score: Array
    box: Array


class Detector(Protocol):
    """The whole protocol; `skeleton` names the order of the joints."""

    @property
    def name(self) -> str:
        """Name and version, kept with the poses."""

    @property
    def skeleton(self) -> Skeleton:
        """The order of the joints."""

    def __call__(self, rgb: Array) -> list[Person]:
        """Everyone in one picture (H, W, 3) uint8 RGB."""


@runtime_checkable
class TopDown(Protocol):
    """A detector in two steps, which may be called from several threads at once."""

    name: str
    skeleton: Skeleton
    batch: int  # crops that `pose` takes best in one call: 1 on a processor, more on a graphics card

    def find(self, rgb: Array) -> Array:
        """Boxes of people (N, 5): left, top, right, bottom in px and a score 0..1, best first."""

    def pose(self, pictures: Sequence[Array], boxes: Array) -> tuple[Array, Array]:
        """Keypoints (N, J, 2) px and scores (N, J) of the person in box i (N, 4) of picture i."""

    def __call__(self, rgb: Array) -> list[Person]:
        """Everyone in one picture."""


@runtime_checkable
class Cropping(TopDown, Protocol):
    """A detector in two steps whose second sees a small crop around each person, and nothing else.

    crop_size  (width, height) px of a crop; padding: how much larger than the person's box it is
    """

    crop_size: tuple[int, int]
    padding: float

    def look(self, crops: Array) -> tuple[Array, Array]:
        """Keypoints (N, J, 2) in crop px and scores (N, J) of the person in each crop (N, height, width, 3) uint8."""


def pose_in_crops(detector: Cropping, pictures: Sequence[Array], boxes: Array) -> tuple[Array, Array]:
    """`pose` of every detector that looks at crops."""
    size, joints = detector.crop_size, len(detector.skeleton)
    if not len(boxes):
        return np.zeros((0, joints, 2)), np.zeros((0, joints))
    matrices = [crop_matrix(box, size, padding=detector.padding) for box in boxes]
    crops = [crop(rgb, matrix, size) for rgb, matrix in zip(pictures, matrices, strict=True)]
    xy, score = detector.look(np.stack(crops))
    return np.stack([uncrop(points, matrix) for points, matrix in zip(xy, matrices, strict=True)]), score


def everyone(detector: TopDown, rgb: Array) -> list[Person]:
    """`find`, then `pose`: the call of every two-step detector."""
    boxes = detector.find(rgb)
    if not len(boxes):
        return []
    xy, score = detector.pose([rgb] * len(boxes), boxes[:, :4])
    return [Person(*row) for row in zip(xy, score, boxes[:, :4], strict=True)]


# Name -> "module:Class"; each is called with (name, device=...).
DETECTORS: dict[str, str] = {
    "movenet": "twoview.detectors.movenet:MoveNet",
    "rtmpose-t": "twoview.detectors.rtmpose:RTMPose",
    "rtmpose-s": "twoview.detectors.rtmpose:RTMPose",
    "rtmpose-m": "twoview.detectors.rtmpose:RTMPose",
    "rtmpose-l": "twoview.detectors.rtmpose:RTMPose",
    "rtmpose-t-26": "twoview.detectors.rtmpose:RTMPose",
    "rtmpose-s-26": "twoview.detectors.rtmpose:RTMPose",
    "rtmpose-m-26": "twoview.detectors.rtmpose:RTMPose",
    "rtmpose-l-26": "twoview.detectors.rtmpose:RTMPose",
    "mmpose": "twoview.detectors.mmpose:MMPose",
}


def build(detector: str | Detector, *, device: str = "auto", finder: str = "", flip: bool = False) -> Detector:
    """The detector of that name, of an `.onnx` or `.pth` file, of `mmpose:config[,checkpoint]`, or `module:Name`.

    finder  who finds people for a top-down detector: a name or an .onnx file; "" is the detector's own choice
    flip    average with the mirrored crop: twice the time, some percent less error
    Raises DetectorError for an unknown name, with the known ones.
    """
    if not isinstance(detector, str):
        return detector
    options: dict[str, Any] = {"device": device, "flip": flip, **({"finder": finder} if finder else {})}
    name, colon, rest = detector.partition(":")
    if detector in DETECTORS:
        return plugins.load(DETECTORS[detector], "detector", DetectorError)(detector, **options)
    if name == "mmpose" and colon:
        return plugins.load(DETECTORS["mmpose"], "detector", DetectorError)(rest, **options)
    if Path(detector).suffix in (".onnx", ".pth", ".zip"):
        return plugins.load(DETECTORS["rtmpose-m"], "detector", DetectorError)(detector, **options)
    if colon:
        return plugins.load(detector, "detector", DetectorError)()
    raise DetectorError(
        f"unknown detector {detector!r}; known: {', '.join(DETECTORS)}, an .onnx or .pth file, or package.module:Name",
        hint="--detector movenet ships with twoview and needs no download",
    )
