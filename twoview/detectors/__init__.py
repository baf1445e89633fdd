"""Detectors: a picture in, people with keypoints out.

A detector is any object with a `name`, a `skeleton` and a call `rgb (H, W, 3) uint8 -> list[Person]`. A detector in two
steps (find people, then place each person's keypoints) also offers `find` and `pose`: `detection` then searches for
people only every few frames and spreads the second step over frames and processor cores.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy import ndarray as Array

from twoview import plugins
from twoview.detectors.crops import crop, crop_matrix, uncrop
from twoview.errors import DetectorError, TwoViewError
from twoview.machine import detects_in_torch
from twoview.skeleton import Skeleton

_log = logging.getLogger(__name__)


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
    """What every detector offers: its name and version, kept with the poses, and the joints of its keypoints."""

    name: str
    skeleton: Skeleton

    def __call__(self, rgb: Array) -> list[Person]:
        """Everyone in one picture (H, W, 3) uint8 RGB."""


@runtime_checkable
class TopDown(Detector, Protocol):
    """A detector in two steps, which may be called from several threads at once."""

    batch: int  # best number of people in one call of `pose`: 1 on a processor, more on a GPU

    def find(self, rgb: Array) -> Array:
        """Boxes of people (N, 5): left, top, right, bottom in px and a score 0..1, best first."""

    def pose(self, pictures: Sequence[Array], boxes: Array) -> tuple[Array, Array]:
        """Keypoints (N, J, 2) px and scores (N, J) of the person in box i (N, 4) of picture i."""


@runtime_checkable
class CropDetector(TopDown, Protocol):
    """A detector in two steps whose keypoint network gets a small crop around each person, and nothing else.

    crop_size  (width, height) px of a crop
    padding    size of the crop over the size of the person's box
    """

    crop_size: tuple[int, int]
    padding: float

    def pose_crops(self, crops: Array) -> tuple[Array, Array]:
        """Keypoints (N, J, 2) in crop px and scores (N, J) of the person in each crop (N, height, width, 3) uint8."""


class PersonCrop(NamedTuple):
    """The part of a picture that the keypoint network gets for one person.

    box     (4,) the person's box in px of the picture
    matrix  (2, 3) from picture px to px of the crop
    pixels  (H, W, 3) uint8
    """

    box: Array
    matrix: Array
    pixels: Array


def poses_of(detector: CropDetector, crops: Sequence[PersonCrop]) -> tuple[Array, Array]:
    """Keypoints (N, J, 2) in px of the picture and scores (N, J): one call of the keypoint network for all crops."""
    xy, score = detector.pose_crops(np.stack([one.pixels for one in crops]))
    return np.stack([uncrop(points, one.matrix) for points, one in zip(xy, crops, strict=True)]), score


def pose_in_crops(detector: CropDetector, pictures: Sequence[Array], boxes: Array) -> tuple[Array, Array]:
    """The method `pose` of every CropDetector."""
    size, joints = detector.crop_size, len(detector.skeleton)
    if not len(boxes):
        return np.zeros((0, joints, 2)), np.zeros((0, joints))
    matrices = [crop_matrix(box, size, padding=detector.padding) for box in boxes]
    rows = zip(boxes, matrices, pictures, strict=True)
    return poses_of(detector, [PersonCrop(box, matrix, crop(rgb, matrix, size)) for box, matrix, rgb in rows])


def everyone(detector: TopDown, rgb: Array) -> list[Person]:
    """The call of every two-step detector: `find`, then `pose`."""
    boxes = detector.find(rgb)
    if not len(boxes):
        return []
    xy, score = detector.pose([rgb] * len(boxes), boxes[:, :4])
    return [Person(*row) for row in zip(xy, score, boxes[:, :4], strict=True)]


AUTO, BEST, SHIPPED = "auto", "rtmpose-m", "movenet"
_IMPATIENT_S = 10.0  # that a server may be silent before the detector that ships is taken
_RTMPOSE = "twoview.detectors.rtmpose:RTMPose"
# Name -> "module:Class"; each class is called with (name, device=..., finder=..., flip=...).
DETECTORS: dict[str, str] = {
    "movenet": "twoview.detectors.movenet:MoveNet",
    **{f"rtmpose-{size}{joints}": _RTMPOSE for joints in ("", "-26") for size in "tsml"},
    "mmpose": "twoview.detectors.mmpose:MMPose",
}


def choose(device: str = "auto") -> str:
    """The detector for those who name none: BEST where it is on this machine or can be fetched, else SHIPPED.

    The log then warns what is lost, and how to get the other.
    """
    from twoview.storage.weights import locate

    try:
        locate(f"{BEST}-torch" if detects_in_torch(device) else BEST, timeout_s=_IMPATIENT_S)
    except TwoViewError as error:
        _log.warning(
            "detecting with %s, which is included: %s. By its authors' figures %s finds keypoints more accurately. To "
            "use it: `twoview weights get %s` with a network, or `twoview weights add %s FILE`; then --detector %s",
            SHIPPED, error.message, BEST, BEST, BEST, BEST,
        )  # fmt: skip
        return SHIPPED
    return BEST


def build(detector: str | Detector, *, device: str = "auto", finder: str = "", flip: bool = False) -> Detector:
    """The detector of that name, of an `.onnx` or `.pth` file, of `mmpose:config[,checkpoint]`, or `module:Name`.

    "auto" is what `choose` chooses.
    finder  person finder of a two-step detector: a name or an .onnx file; "" is the detector's default
    flip    average with the mirrored crop: twice the time, some percent less error
    Raises DetectorError for an unknown name, with the known ones.
    """
    if not isinstance(detector, str):
        return detector
    detector = choose(device) if detector == AUTO else detector
    given: tuple[str, ...]
    options: dict[str, Any] = {"device": device, "flip": flip, **({"finder": finder} if finder else {})}
    name, colon, rest = detector.partition(":")
    if detector in DETECTORS:
        target, given = DETECTORS[detector], (detector,)
    elif name == "mmpose" and colon:
        target, given = DETECTORS["mmpose"], (rest,)
    elif Path(detector).suffix in (".onnx", ".pth", ".zip"):
        target, given = _RTMPOSE, (detector,)
    elif colon:
        target, given, options = detector, (), {}
    else:
        raise DetectorError(
            f"unknown detector {detector!r}; known: {', '.join(DETECTORS)}, an .onnx or .pth file, "
            "or package.module:Name",
            hint="--detector movenet ships with twoview and needs no download",
        )
    built: Detector = plugins.load(target, "detector", DetectorError)(*given, **options)
    return built
