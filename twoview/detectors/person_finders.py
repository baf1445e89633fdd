"""Person finders of two-step detectors: MoveNet MultiPose, or an RTMDet or YOLOX person detector in ONNX."""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray as Array

from twoview.detectors.crops import keep_best, letterbox, unletterbox
from twoview.detectors.onnx_runtime import misfit, open_session
from twoview.errors import DetectorError
from twoview.storage.weights import WEIGHTS, locate

LEAST_SCORE = 0.3
MOST_OVERLAP = 0.65  # two boxes that share more are one person
SEARCH_SIDES = (256, 512)  # px of the picture's longer side; the second where the first search finds nobody
MULTIPOSE_LEAST_SCORE = 0.15
FILL = 114  # gray level around a picture that does not have the network's shape, as in OpenMMLab
PERSON = 0  # class number of people in COCO
# Mean and standard deviation of blue, green, red that RTMDet was trained with; YOLOX takes plain values.
RTMDET_MEAN = np.array([103.53, 116.28, 123.675], np.float32)
RTMDET_STD = np.array([57.375, 57.12, 58.395], np.float32)


def build_finder(name: str, *, device: str = "auto") -> MultiPose | OnnxFinder:
    """The finder of that name (movenet, or one of the weights table), or of an .onnx file.

    Its `side` is the number of px of a picture's longer side that the network uses; several threads may call `find`.
    The name of a file must hold rtmdet or yolox: the two networks need their pictures prepared differently.
    """
    if name == "movenet":
        return MultiPose(device=device)
    kind = next((kind for kind in ("rtmdet", "yolox") if kind in Path(name).name.lower()), None)
    if kind is None or not (name in WEIGHTS or Path(name).suffix == ".onnx"):
        known = ", ".join(["movenet", *(n for n in WEIGHTS if n.startswith(("rtmdet", "yolox")))])
        raise DetectorError(
            f"unknown person finder {name!r}; known: {known}, or an .onnx file with rtmdet or yolox in its name",
            hint="--set detect.finder=movenet ships with twoview and needs no download",
        )
    path = locate(name) if name in WEIGHTS else Path(name)
    return OnnxFinder(path, normalize=kind == "rtmdet", device=device)


def try_file(name: str, path: Path) -> None:
    """Raise DetectorError unless a file is the person finder that the table of weights means by `name`."""
    finder = OnnxFinder(path, normalize=name.startswith("rtmdet"), device="cpu")
    finder.find(np.full((64, 64, 3), FILL, np.uint8))


class MultiPose:
    """MoveNet MultiPose as a person finder: at most six people, the highest score first."""

    name, side = "multipose", max(SEARCH_SIDES)

    def __init__(self, *, device: str = "auto") -> None:
        self._session = open_session(locate("movenet-multipose"), device=device)

    def find(self, rgb: Array) -> Array:
        """Boxes of people (N, 5), left, top, right, bottom in px and score, best first."""
        for side in SEARCH_SIDES:
            boxes = self._search(rgb, side)
            if len(boxes):
                break
        return boxes

    def _search(self, rgb: Array, side: int) -> Array:
        height, width = rgb.shape[:2]
        shorter = 32 * math.ceil(side * min(height, width) / max(height, width) / 32)
        size = (side, shorter) if height > width else (shorter, side)
        small, scale = letterbox(rgb, size, 0)
        found = self._session.run(None, {"input": small[None].astype(np.int32)})[0][0].astype(np.float64)
        top_left, bottom_right = found[:, [52, 51]] * size[::-1], found[:, [54, 53]] * size[::-1]
        boxes = np.concatenate([unletterbox(top_left, scale), unletterbox(bottom_right, scale), found[:, 55:]], axis=1)
        return keep_best(boxes[boxes[:, 4] >= MULTIPOSE_LEAST_SCORE], most_overlap=MOST_OVERLAP)


class OnnxFinder:
    """A person detector in ONNX: OpenMMLab's end-to-end exports (boxes, classes), or either network's raw heads."""

    def __init__(self, path: Path, *, normalize: bool, device: str = "auto") -> None:
        self.name = path.stem
        self._session = open_session(path, device=device)
        self._normalize = normalize
        shape = self._session.get_inputs()[0].shape
        if len(self._session.get_inputs()) != 1 or len(shape) != 4 or shape[1] != 3:
            raise misfit(path, self._session, "one input of 3 color planes [N, 3, H, W]")
        self._path = path
        self._size = tuple(side if isinstance(side, int) else 640 for side in shape[2:])
        self.side = max(self._size)

    def find(self, rgb: Array) -> Array:
        """Boxes of people (N, 5), left, top, right, bottom in px and score, best first."""
        picture, scale = letterbox(rgb, self._size, FILL)  # type: ignore[arg-type]
        values = picture[..., ::-1].astype(np.float32)
        if self._normalize:
            values -= RTMDET_MEAN
            values /= RTMDET_STD
        feed = {self._session.get_inputs()[0].name: np.ascontiguousarray(values.transpose(2, 0, 1)[None])}
        boxes = self._read(self._session.run(None, feed)).astype(np.float64)
        boxes = boxes[boxes[:, 4] >= LEAST_SCORE]
        boxes[:, :2], boxes[:, 2:4] = unletterbox(boxes[:, :2], scale), unletterbox(boxes[:, 2:4], scale)
        return keep_best(boxes, most_overlap=MOST_OVERLAP)

    def _read(self, outputs: list[Any]) -> Array:
        """Boxes (N, 5) in px of the network's picture, from any of the layouts that such files have."""
        with suppress(
            ValueError, IndexError, AttributeError, TypeError, MemoryError
        ):  # shapes that do not belong together
            boxes = self._boxes(outputs)
            if boxes is not None and boxes.ndim == 2 and boxes.shape[1] == 5:
                return boxes
        raise misfit(
            self._path,
            self._session,
            "boxes [1, N, 5] with classes [1, N], three RTMDet maps [1, h, w, 5], or YOLOX rows",
        )

    def _boxes(self, outputs: list[Any]) -> Array | None:
        first = outputs[0]
        if len(outputs) == 2 and first.ndim == 3 and first.shape[-1] == 5:  # boxes with scores, and their classes
            people: Array = first[0][outputs[1][0] == PERSON]
            return people
        if len(outputs) == 3 and all(o.ndim == 4 and o.shape[-1] == 5 for o in outputs):
            return np.concatenate([_distances(o[0], self._size[0] / o.shape[1]) for o in outputs])
        if len(outputs) == 1 and first.ndim == 3 and first.shape[-1] >= 6:
            return _grid(first[0], self._size)
        return None


def _distances(head: Array, stride: float) -> Array:
    """RTMDet's raw head (h, w, 5), a logit and the distances to the four sides in px -> boxes (h * w, 5)."""
    y, x = np.mgrid[: head.shape[0], : head.shape[1]] * stride
    left, top, right, bottom = np.moveaxis(head[..., 1:], -1, 0)
    score = 1 / (1 + np.exp(-np.clip(head[..., 0], -50.0, 50.0)))
    return np.stack([x - left, y - top, x + right, y + bottom, score], axis=-1).reshape(-1, 5)


def _grid(rows: Array, size: tuple[int, ...]) -> Array:
    """YOLOX's raw rows (N, 5 + classes) over strides 8, 16 and 32 -> boxes (N, 5) with people's scores."""
    cells, strides = [], []
    for stride in (8, 16, 32):
        y, x = np.mgrid[: size[0] // stride, : size[1] // stride]
        cells.append(np.stack([x, y], axis=-1).reshape(-1, 2))
        strides.append(np.full((cells[-1].shape[0], 1), stride))
    cell, stride_ = np.concatenate(cells), np.concatenate(strides)
    center, half = (rows[:, :2] + cell) * stride_, np.exp(rows[:, 2:4]) * stride_ / 2
    score = rows[:, 4:5] * rows[:, 5 + PERSON : 6 + PERSON]
    return np.concatenate([center - half, center + half, score], axis=1)
