"""RTMPose: the official ONNX exports in ONNX Runtime, or the official .pth files in plain PyTorch.

Its networks give one distribution over x and one over y for each joint (SimCC).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray as Array

from twoview.detectors import everyone, pose_in_crops
from twoview.detectors.onnx_runtime import misfit, open_session
from twoview.detectors.person_finders import build_finder
from twoview.errors import DetectorError
from twoview.machine import detects_in_torch, onnx_device, torch_device
from twoview.skeleton import COCO17, HALPE26, Skeleton
from twoview.storage.weights import WEIGHTS, locate

PADDING = 1.25  # the crop over the person's box, MMPose
MEAN = np.array([123.675, 116.28, 103.53], np.float32)  # of the training pictures, red, green, blue
STD = np.array([58.395, 57.12, 57.375], np.float32)


def prepare(crops: Array) -> Array:
    """Network input (N, 3, height, width) float32 of RGB crops (N, height, width, 3) uint8."""
    inputs = np.empty((len(crops), 3, *crops.shape[1:3]), np.float32)
    for crop, planes in zip(crops, inputs, strict=True):
        for color in range(3):  # each plane at once: a quarter of the time that numpy takes for all three
            np.subtract(crop[..., color], MEAN[color], out=planes[color], dtype=np.float32)
            planes[color] /= STD[color]
    return inputs


def decode(along_x: Array, along_y: Array, size: tuple[int, int]) -> tuple[Array, Array]:
    """Joints (N, J, 2) in crop px and scores (N, J) from the two outputs (N, J, bins).

    The place is that of the highest bin, the score the lower of the two heights (MMPose's rule), cut to 0..1; a joint
    whose score is not above 0 was not located and is NaN.
    """
    bins = np.array([along_x.shape[-1] / size[0], along_y.shape[-1] / size[1]])
    xy = np.stack([along_x.argmax(axis=-1), along_y.argmax(axis=-1)], axis=-1) / bins
    score = np.nan_to_num(np.minimum(along_x.max(axis=-1), along_y.max(axis=-1)).astype(np.float64))
    return np.where(score[..., None] > 0, xy, np.nan), np.clip(score, 0.0, 1.0)


def average(plain: tuple[Array, Array], mirrored: tuple[Array, Array], order: Sequence[int]) -> tuple[Array, Array]:
    """Mean of the outputs for crops and for mirrored crops, as in MMPose's flip test: bins reversed, sides swapped."""
    order = list(order)
    (x, y), (mirrored_x, mirrored_y) = plain, mirrored
    return (x + mirrored_x[:, order, ::-1]) / 2, (y + mirrored_y[:, order]) / 2


SKELETONS: dict[int, Skeleton] = {17: COCO17, 26: HALPE26}
DEFAULT_FINDER = "movenet"  # it ships, so RTMPose needs one download and not two
GPU_BATCH = 32
SIZE = (192, 256)  # width and height of a crop, of all files in the table of weights


class RTMPose:
    """Keypoints of RTMPose, in the boxes of the person finder.

    name    of the weights table, an .onnx file or MMPose's .pth file; 17 (COCO) or 26 (Halpe) joints
    device  cpu, cuda, or auto. ONNX Runtime is used for .onnx and names, PyTorch for .pth, and for names on a GPU
            where ONNX Runtime has no CUDA; the attribute `name` says which is used
    """

    def __init__(self, name: str, *, device: str = "auto", finder: str = "", flip: bool = False) -> None:
        self._engine = build_engine(name, device=device)
        found = build_finder(finder or DEFAULT_FINDER, device=device)
        if self._engine.joints not in SKELETONS:
            raise DetectorError(
                f"{name} has {self._engine.joints} keypoints; expected 17 (COCO) or 26 (Halpe)",
                hint="body models with 17 or 26 keypoints fit; see `twoview weights list`",
            )
        self.skeleton = SKELETONS[self._engine.joints]
        self.flip, self.find, self.search_side = flip, found.find, found.side
        self.batch, self.crop_size, self.padding = self._engine.batch, self._engine.size, PADDING
        self.name = f"{Path(name).stem} {found.name}{' flip' if flip else ''} ({self._engine.label})"

    __call__ = everyone
    pose = pose_in_crops

    def pose_crops(self, crops: Array) -> tuple[Array, Array]:
        """Keypoints (N, J, 2) in crop px and scores (N, J) of the person in each crop (N, height, width, 3) uint8."""
        inputs = prepare(crops)
        bins = self._engine.run(inputs)
        if self.flip:
            bins = average(bins, self._engine.run(np.ascontiguousarray(inputs[..., ::-1])), self.skeleton.flip_order)
        return decode(*bins, self.crop_size)


def build_engine(name: str, *, device: str = "auto") -> OnnxEngine | TorchEngine:
    """The engine for named weights, an .onnx file or a .pth file; its `size` is the crop's (width, height).

    Raises DetectorError where the file does not fit.
    """
    if name in WEIGHTS:
        if detects_in_torch(device):
            return TorchEngine(locate(f"{name}-torch"), device="cuda")
        return OnnxEngine(locate(name), device=device)
    path = Path(name)
    if not os.path.exists(path):
        raise DetectorError(f"no such file: {path}", hint="check the path, or name one of `twoview weights list`")
    return TorchEngine(path, device=device) if path.suffix == ".pth" else OnnxEngine(path, device=device)


def try_file(name: str, path: Path) -> None:
    """Raise DetectorError unless a file is the RTMPose that the table of weights means by `name`."""
    engine: OnnxEngine | TorchEngine
    engine = TorchEngine(path, device="cpu") if name.endswith("-torch") else OnnxEngine(path, device="cpu")
    joints, (width, height) = 26 if "-26" in name else 17, SIZE
    if engine.joints != joints or engine.size != SIZE:
        raise DetectorError(
            f"{path} has {engine.joints} keypoints in crops of {engine.size}; expected {joints} in {SIZE}"
        )
    if isinstance(engine, TorchEngine) and engine.letter != name.split("-")[1]:
        raise DetectorError(f"{path} is of the size {engine.letter}")
    for bins in engine.run(np.zeros((1, 3, height, width), np.float32)):
        if bins.shape[:2] != (1, joints) or not np.isfinite(bins).all():
            raise DetectorError(
                f"{path} answers with values {bins.shape}, not all of them finite numbers for its keypoints"
            )


class OnnxEngine:
    """An RTMPose export: one input [N, 3, H, W], SimCC outputs along x and y, taken by position."""

    def __init__(self, path: Path, *, device: str = "auto") -> None:
        device = onnx_device(device)
        self._session, self._path = open_session(path, device=device), path
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        wanted = "one input [N, 3, H, W] and two SimCC outputs [N, joints, bins]"
        dimensions = [len(one.shape) for one in (*inputs, *outputs)]
        if len(inputs) != 1 or dimensions != [4, 3, 3] or inputs[0].shape[1] != 3:
            raise misfit(path, self._session, wanted)
        height, width = (
            side if isinstance(side, int) else known
            for side, known in zip(inputs[0].shape[2:], (256, 192), strict=True)
        )
        self._input = inputs[0].name
        self._single = isinstance(inputs[0].shape[0], int)
        self.size = (width, height)
        joints = outputs[0].shape[1]
        self.joints = (
            joints if isinstance(joints, int) else self.run(np.zeros((1, 3, height, width), np.float32))[0].shape[1]
        )
        self.batch = GPU_BATCH if device == "cuda" else 1  # a CPU gains nothing from batches
        self.label = f"ONNX Runtime, {device}"

    def run(self, inputs: Array) -> tuple[Array, Array]:
        """Crops (N, 3, height, width) -> bins along x and along y, (N, J, bins)."""
        parts = [inputs[i : i + 1] for i in range(len(inputs))] if self._single else [inputs]
        outputs = [self._session.run(None, {self._input: part}) for part in parts]
        for part, found in zip(parts, outputs, strict=True):
            if any(np.ndim(bins) != 3 or len(bins) != len(part) for bins in found):
                raise misfit(self._path, self._session, "two SimCC outputs [N, joints, bins]")
        return np.concatenate([o[0] for o in outputs]), np.concatenate([o[1] for o in outputs])


class TorchEngine:
    """MMPose's own RTMPose checkpoint in plain PyTorch."""

    def __init__(self, path: Path, *, device: str = "auto") -> None:
        import torch

        from twoview.detectors.rtmpose_network import from_state
        from twoview.storage import torch_files

        self._device = torch_device(device, DetectorError)
        content = torch_files.read(path, DetectorError)
        try:
            network = from_state(content.get("state_dict", content))
        except (KeyError, RuntimeError, TypeError, AttributeError, IndexError) as error:
            raise DetectorError(
                f"{path} is not an RTMPose checkpoint: {str(error).splitlines()[0][:200]}",
                hint="for other mmpose models: --detector mmpose:CONFIG,CHECKPOINT",
            ) from error
        self._torch: Any = torch
        self._network = network.to(self._device)
        self.size, self.letter = network.picture, network.letter
        self.joints = network.head.final_layer.out_channels
        self.batch = GPU_BATCH if self._device.type == "cuda" else 1
        self.label = f"PyTorch, {self._device}"

    def run(self, inputs: Array) -> tuple[Array, Array]:
        """Crops (N, 3, height, width) -> bins along x and along y, (N, J, bins)."""
        with self._torch.inference_mode():
            x, y = self._network(self._torch.from_numpy(inputs).to(self._device))
        return x.cpu().numpy(), y.cpu().numpy()
