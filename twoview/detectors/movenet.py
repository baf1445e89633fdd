"""The detector that ships: MoveNet MultiPose finds people, MoveNet Thunder places their COCO-17 keypoints."""

from __future__ import annotations

import numpy as np
from numpy import ndarray as Array

from twoview.detectors import everyone, pose_in_crops
from twoview.detectors.onnx_runtime import open_session
from twoview.detectors.person_finders import build_finder
from twoview.machine import onnx_device
from twoview.skeleton import COCO17
from twoview.storage.weights import locate

CROP_SIDE = 256
PADDING = 1.15  # the crop's side over the longer side of the person's box
OFFSET = -0.25  # crop px added to Thunder's answers: mirrored crops then give mirrored joints on average


class MoveNet:
    """MoveNet in ONNX Runtime. Input is RGB; joints outside the crop get a low score."""

    def __init__(self, name: str = "movenet", *, device: str = "auto", finder: str = "", flip: bool = False) -> None:
        device = onnx_device(device)
        found = build_finder(finder or "movenet", device=device)
        self.name = f"{name} thunder {found.name}{' flip' if flip else ''} ({device})"
        self.skeleton = COCO17
        self.flip, self.find, self.search_side = flip, found.find, found.side
        self.batch = 1  # the networks take one picture at a time
        self.crop_size, self.padding = (CROP_SIDE, CROP_SIDE), PADDING
        self._thunder = open_session(locate("movenet-thunder"), device=device)

    __call__ = everyone
    pose = pose_in_crops

    def pose_crops(self, crops: Array) -> tuple[Array, Array]:
        """Keypoints (N, 17, 2) in crop px and scores (N, 17) of the person in each crop (N, 256, 256, 3) uint8."""
        xy, score = np.empty((len(crops), 17, 2)), np.empty((len(crops), 17))
        for i, square in enumerate(crops):
            xy[i], score[i] = self._pose_crop(square)
            if self.flip:
                mirrored, sure = self._pose_crop(square[:, ::-1])
                mirrored[:, 0] = CROP_SIDE - 1 - mirrored[:, 0]
                order = list(COCO17.flip_order)
                xy[i], score[i] = (xy[i] + mirrored[order]) / 2, (score[i] + sure[order]) / 2
        return xy, score

    def _pose_crop(self, square: Array) -> tuple[Array, Array]:
        """Keypoints (17, 2) in crop px and scores (17,) in one crop (256, 256, 3)."""
        out = self._thunder.run(None, {"input:0": square[None].astype(np.int32)})[0][0, 0].astype(np.float64)
        return out[:, 1::-1] * CROP_SIDE + OFFSET, np.clip(out[:, 2], 0.0, 1.0)
