"""RTMPose: the official ONNX exports in ONNX Runtime, or the official .pth files in plain PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from twoview.detectors import Person, everyone, pose_in_crops, simcc
from twoview.detectors.people import build_finder
from twoview.detectors.runtime import misfit, open_session, pick_device
from twoview.errors import DetectorError
from twoview.skeleton import COCO17, HALPE26, Skeleton
from twoview.weights import WEIGHTS, locate

Array = np.ndarray

SKELETONS: dict[int, Skeleton] = {17: COCO17, 26: HALPE26}
DEFAULT_FINDER = "movenet"  # it ships, so that RTMPose needs one download and not two
GPU_BATCH = 32


class Engine(Protocol):
    """Runs the network; `size` is the crop's (width, height)."""

    label: str
    size: tuple[int, int]
    joints: int
    batch: int

    def run(self, inputs: Array) -> tuple[Array, Array]:
        """Crops (N, 3, height, width) -> bins along x and along y, (N, J, bins)."""


class RTMPose:
    """Keypoints from RTMPose, in the people that the finder found.

    name    of the weights table, an .onnx file or MMPose's .pth file; 17 (COCO) or 26 (Halpe) joints
    device  cpu, cuda, or auto. ONNX Runtime is used for .onnx and names, PyTorch for .pth, and for names on a
            graphics card where ONNX Runtime has no CUDA; `name` afterwards says which it was
    """

    def __init__(self, name: str, *, device: str = "auto", finder: str = "", flip: bool = False) -> None:
        self._engine = build_engine(name, device=device)
        self._finder = build_finder(finder or DEFAULT_FINDER, device="auto" if device == "auto" else device)
        if self._engine.joints not in SKELETONS:
            raise DetectorError(
                f"{name} has {self._engine.joints} keypoints; expected 17 (COCO) or 26 (Halpe)",
                hint="body models with 17 or 26 keypoints fit; see `twoview weights list`",
            )
        self.skeleton = SKELETONS[self._engine.joints]
        self.flip, self.search_side = flip, self._finder.side
        self.batch, self.crop_size, self.padding = self._engine.batch, self._engine.size, simcc.PADDING
        self.name = f"{Path(name).stem} {self._finder.name}{' flip' if flip else ''} ({self._engine.label})"

    def find(self, rgb: Array) -> Array:
        """Boxes of people (N, 5), left, top, right, bottom in px and score, best first."""
        return self._finder.find(rgb)

    def pose(self, pictures: Sequence[Array], boxes: Array) -> tuple[Array, Array]:
        """Keypoints (N, J, 2) px and scores (N, J) of the person in box i (N, 4) of picture i."""
        return pose_in_crops(self, pictures, boxes)

    def look(self, crops: Array) -> tuple[Array, Array]:
        """Keypoints (N, J, 2) in crop px and scores (N, J) of the person in each crop (N, height, width, 3) uint8."""
        inputs = simcc.prepare(crops)
        bins = self._engine.run(inputs)
        if self.flip:
            bins = simcc.average(bins, self._engine.run(simcc.mirror(inputs)), self.skeleton.flip_order)
        return simcc.decode(*bins, self.crop_size)

    def __call__(self, rgb: Array) -> list[Person]:
        """Everyone in one picture."""
        return everyone(self, rgb)


def build_engine(name: str, *, device: str = "auto") -> Engine:
    """The engine for named weights, an .onnx file or a .pth file. Raises DetectorError where it does not fit."""
    if name in WEIGHTS:
        if device in ("auto", "cuda") and not _runtime_has_cuda() and _torch_has_cuda():
            return TorchEngine(locate(f"{name}-torch"), device="cuda")
        return OnnxEngine(locate(name), device=device)
    path = Path(name)
    if not path.exists():
        raise DetectorError(f"no such file: {path}", hint="check the path, or name one of `twoview weights list`")
    return TorchEngine(path, device=device) if path.suffix == ".pth" else OnnxEngine(path, device=device)


class OnnxEngine:
    """An RTMPose export: one input [N, 3, H, W], SimCC outputs along x and y, taken by position."""

    def __init__(self, path: Path, *, device: str = "auto") -> None:
        device = pick_device(device)
        self._session = open_session(path, device=device)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        wanted = "one input [N, 3, H, W] and two SimCC outputs [N, joints, bins]"
        if len(inputs) != 1 or len(outputs) != 2 or len(inputs[0].shape) != 4 or inputs[0].shape[1] != 3:
            raise misfit(path, self._session, wanted)
        if any(len(output.shape) != 3 for output in outputs):
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
        self.batch = GPU_BATCH if device == "cuda" else 1  # a processor gains nothing from batches
        self.label = f"ONNX Runtime, {device}"

    def run(self, inputs: Array) -> tuple[Array, Array]:
        """Crops (N, 3, height, width) -> bins along x and along y, (N, J, bins)."""
        parts = [inputs[i : i + 1] for i in range(len(inputs))] if self._single else [inputs]
        outputs = [self._session.run(None, {self._input: part}) for part in parts]
        return np.concatenate([o[0] for o in outputs]), np.concatenate([o[1] for o in outputs])


class TorchEngine:
    """MMPose's own RTMPose checkpoint in plain PyTorch."""

    def __init__(self, path: Path, *, device: str = "auto") -> None:
        import torch

        from twoview.detectors.cspnext import from_state

        if device == "cuda" and not torch.cuda.is_available():
            raise DetectorError(
                "device cuda was asked for, and this PyTorch sees no CUDA device",
                hint="install a CUDA build of torch (pytorch.org), or use --device cpu",
            )
        device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        try:
            network = from_state(read_checkpoint(path))
        except (KeyError, RuntimeError) as error:
            raise DetectorError(
                f"{path} is not an RTMPose checkpoint: {str(error).splitlines()[0][:200]}",
                hint="for other mmpose models: --detector mmpose:CONFIG,CHECKPOINT",
            ) from error
        self._torch: Any = torch
        self._device = device
        self._network = network.to(device)
        self.size = network.picture
        self.joints = network.head.final_layer.out_channels
        self.batch = GPU_BATCH if device == "cuda" else 1
        self.label = f"PyTorch, {device}"

    def run(self, inputs: Array) -> tuple[Array, Array]:
        """Crops (N, 3, height, width) -> bins along x and along y, (N, J, bins)."""
        with self._torch.inference_mode():
            x, y = self._network(self._torch.from_numpy(inputs).to(self._device))
        return x.cpu().numpy(), y.cpu().numpy()


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The state dict in one of MMPose's .pth files, read without running anything in it (weights only)."""
    import pickle

    import torch

    try:
        with torch.serialization.safe_globals(safe_globals()):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError) as error:
        raise DetectorError(
            f"{path} cannot be read as a PyTorch checkpoint: {str(error).splitlines()[0][:200]}",
            hint="download it again; files that need code to be run are refused",
        ) from error
    return content.get("state_dict", content)


def safe_globals() -> list[Any]:
    """What MMPose's checkpoints hold beside tensors: numpy arrays, under their old and their new names."""
    from numpy._core.multiarray import _reconstruct, scalar

    named = [
        (function, f"{module}.multiarray.{function.__name__}")
        for module in ("numpy.core", "numpy._core")
        for function in (_reconstruct, scalar)
    ]
    kinds = [type(np.dtype(kind)) for kind in (np.float32, np.float64, np.int64, np.int32, np.bool_, np.uint8)]
    return [np.ndarray, np.dtype, *named, *kinds]


def _runtime_has_cuda() -> bool:
    import onnxruntime

    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def _torch_has_cuda() -> bool:
    """Whether PyTorch has a graphics card, asked only where it is likely, since importing it takes seconds."""
    import shutil

    if shutil.which("nvidia-smi") is None:
        return False
    import torch

    return bool(torch.cuda.is_available())
