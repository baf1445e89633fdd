"""Any top-down model of MMPose, run by MMPose itself, which nothing else needs.

MMPose imports packages that its body models do not use and that cannot be installed beside this PyTorch. During the
import, stand-ins take the place of packages that are missing; afterwards they are removed again.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import io
import os
import sys
import threading
import types
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray as Array

from twoview.detectors import everyone
from twoview.detectors.person_finders import build_finder
from twoview.detectors.rtmpose import DEFAULT_FINDER
from twoview.errors import DetectorError, MissingBackend
from twoview.machine import torch_device
from twoview.skeleton import COCO17, H36M17, HALPE26, Skeleton
from twoview.storage.torch_files import plain_types

INSTALL = 'pip install "twoview[mmpose]" && pip install --no-deps mmpose==1.3.2'
SKELETONS: dict[int, tuple[Skeleton, ...]] = {17: (COCO17, H36M17), 26: (HALPE26,)}


class MMPose:
    """A model of MMPose: `config[,checkpoint]`, a config file or the name of one that ships with MMPose.

    Without a checkpoint the weights are random, which is only good for a trial. Boxes come from our person finder.
    """

    def __init__(self, spec: str, *, device: str = "auto", finder: str = "", flip: bool = False) -> None:
        config, _, checkpoint = spec.partition(",")
        if config in ("", "mmpose"):
            raise DetectorError(
                "the mmpose detector needs to know which model",
                hint="--detector mmpose:CONFIG,CHECKPOINT.pth   for instance a config's name from mmpose/.mim/configs",
            )
        with mmpose_imports():
            from mmengine.config import Config
            from mmpose import apis

        device = str(torch_device(device, DetectorError))
        settings = Config.fromfile(find_config(config))
        settings.model.backbone.pop("_scope_", None)  # else it looks for MMDetection's copy of the backbone
        settings.default_scope = "mmpose"
        settings.model.setdefault("test_cfg", {})["flip_test"] = flip
        if checkpoint and not os.path.exists(checkpoint):
            raise DetectorError(f"no such checkpoint: {checkpoint}", hint="--detector mmpose:CONFIG,CHECKPOINT.pth")
        quiet = redirect_stdout(io.StringIO())  # MMEngine prints what it loads
        with plain_types(), warnings.catch_warnings(), quiet:
            warnings.simplefilter("ignore")
            try:
                self._model = apis.init_model(settings, checkpoint or None, device=device)
            except Exception as error:  # MMPose's parts raise errors of many types
                raise DetectorError(
                    f"MMPose cannot build {config} with {checkpoint or 'random weights'}: {str(error)[:300]}",
                    hint="check that config and checkpoint belong together",
                ) from error
        self._infer = apis.inference_topdown
        found = build_finder(finder or DEFAULT_FINDER, device="auto" if device == "cuda" else device)
        self._lock = threading.Lock()  # MMPose's pipeline is not written for several threads
        self.skeleton = _skeleton_of(self._model.dataset_meta, config)
        self.batch, self.find, self.search_side = 32, found.find, found.side
        self.name = f"mmpose {Path(config).stem} {found.name}{' flip' if flip else ''} (MMPose, {device})"

    __call__ = everyone

    def pose(self, pictures: Sequence[Array], boxes: Array) -> tuple[Array, Array]:
        """Keypoints (N, J, 2) px and scores (N, J) of the person in box i (N, 4) of picture i."""
        joints = len(self.skeleton)
        xy, score = np.zeros((len(boxes), joints, 2)), np.zeros((len(boxes), joints))
        for i, (rgb, box) in enumerate(zip(pictures, boxes, strict=True)):
            with self._lock:
                bgr = np.ascontiguousarray(rgb[..., ::-1])
                (result,) = self._infer(self._model, bgr, np.asarray(box, np.float32)[None])
            xy[i], score[i] = result.pred_instances.keypoints[0], result.pred_instances.keypoint_scores[0]
        return np.where(score[..., None] > 0, xy, np.nan), np.clip(score, 0.0, 1.0)


def find_config(name: str) -> str:
    """A config file, or one that ships with MMPose whose file name is (or is unique in containing) `name`."""
    if os.path.isfile(name):
        return name
    spec = importlib.util.find_spec("mmpose")
    folder = Path(next(iter(spec.submodule_search_locations or []))) / ".mim" / "configs" if spec else Path()
    known = sorted(folder.rglob("*.py"))
    wanted = name.removesuffix(".py")
    found = [path for path in known if path.stem == wanted] or [path for path in known if wanted in path.stem]
    if len(found) != 1:
        some = ", ".join(path.stem for path in found[:5])
        raise DetectorError(
            f"{len(found)} of MMPose's configs are called {name!r}" + (f": {some} ..." if found else ""),
            hint="give a config file, or the full name of one in mmpose/.mim/configs",
        )
    return str(found[0])


def _skeleton_of(meta: dict[str, Any], config: str) -> Skeleton:
    names = tuple(name for _, name in sorted(meta.get("keypoint_id2name", {}).items()))
    for skeleton in SKELETONS.get(len(names), ()):
        if all(word in names for word in ("left_hip", "right_ankle")) and names[:5] == skeleton.joints[:5]:
            return skeleton
    raise DetectorError(
        f"{config} has {len(names)} keypoints ({', '.join(names[:4])}, ...); expected COCO-17 or Halpe-26",
        hint="choose a body model with 17 (COCO) or 26 (Halpe) keypoints",
    )


@contextmanager
def mmpose_imports() -> Iterator[None]:
    """Stand-ins for what MMPose imports and its body models do not use; real packages win, and all is put back.

    Raises MissingBackend with the command that installs MMPose.
    """
    needed = ("mmpose", "mmengine", "mmcv", "pycocotools")
    missing = [name for name in needed if name not in sys.modules and importlib.util.find_spec(name) is None]
    if missing:
        raise MissingBackend(f"{', '.join(missing)} is not installed, and --detector mmpose needs it", hint=INSTALL)
    stand_ins = {name: module for name, module in _stand_ins().items() if name not in sys.modules}
    sys.modules.update(stand_ins)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except ImportError as error:
        raise MissingBackend(f"MMPose cannot be imported: {error}", hint=INSTALL) from error
    finally:
        for name, module in stand_ins.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


def _works(name: str) -> bool:
    """Whether a package is installed and its import succeeds; some are installed and fail on this numpy or PyTorch."""
    try:
        importlib.import_module(name)
    except Exception:  # a broken binary package raises RuntimeError, ValueError or ImportError
        return False
    return True


def _stand_ins() -> dict[str, types.ModuleType]:
    """Module name -> stand-in, for those that are not installed or do not work."""
    modules: dict[str, types.ModuleType] = {}
    if not _works("torchvision"):
        modules["torchvision"] = _module("torchvision")
        modules["torchvision.transforms"] = _module("torchvision.transforms", ToPILImage=_absent("ToPILImage"))
    if not _works("mmcv.ops"):
        attention = "MultiScaleDeformableAttention"
        modules["mmcv.ops"] = _module("mmcv.ops", **{attention: _absent(attention)})
    if not _works("mmdet.utils"):
        modules["mmdet"] = _module("mmdet")
        modules["mmdet.utils"] = _module("mmdet.utils", ConfigType=dict, reduce_mean=lambda value: value)
    if not _works("xtcocotools.mask"):
        for part in ("", ".coco", ".cocoeval", ".mask"):
            modules[f"xtcocotools{part}"] = importlib.import_module(f"pycocotools{part}")
    if not _works("pkg_resources"):  # left out of newer setuptools; MMPose's inferencers ask for it
        names = ("MMPoseInferencer", "Pose2DInferencer")
        modules["mmpose.apis.inferencers"] = _module("mmpose.apis.inferencers", **{n: _absent(n) for n in names})
    return modules


def _module(name: str, **attributes: Any) -> types.ModuleType:
    module = types.ModuleType(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
    module.__path__ = []
    module.__dict__.update(attributes)
    return module


def _absent(name: str) -> type:
    """A class that raises MissingBackend when it is used."""

    def refuse(self: Any, *_: Any, **__: Any) -> None:
        raise MissingBackend(f"{name} is not part of this installation; the models that twoview reads do without it")

    return type(name, (), {"__init__": refuse})
