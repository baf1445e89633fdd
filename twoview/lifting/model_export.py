"""Write a model as one file for use elsewhere, with a description inside: pixels of one view in, 3D out.

`pt` is our own model file. `onnx` and `pt2` hold all steps from pixels to poses, framing included, so that nothing of
this package is needed to run them; both are compared with the model that they were made from.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from twoview.errors import LifterError, MissingBackend
from twoview.geometry.framing import Rule, default_focal, frame_clip, to_camera, to_screen
from twoview.lifting.model import Model, save_model
from twoview.machine import onnx_runtime
from twoview.storage import records
from twoview.texts import json_text

TOLERANCE = 1e-4  # largest difference to the model itself that an exported file may show, screen units

INPUTS = {
    "xy": "(batch, frames, 17, 2) float32, pixels of the upright picture, x right, y down; anything where score is 0",
    "score": "(batch, frames, 17) float32, 0 to 1, 0 where unseen",
    "size": "(batch, 2) float32, the picture's width and height in pixels",
    "focal": "(batch,) float32, focal length in pixels; 0 where unknown",
}
OUTPUT = (
    "(batch, frames, 17, 3) float32, root-relative, x right, y down, z away from the camera; the unit is half the"
    " picture's width at the root's depth, so times root depth * width / (2 * focal) it is that of the depth"
)


@dataclass(frozen=True)
class Exported:
    """What was written, and its largest difference from the model itself, screen units; None if not compared."""

    path: Path
    kind: str
    difference: float | None


class Monocular(nn.Module):
    """From pixels of one view to root-relative 3D in one call: framing, lifter, and back to the camera's axes."""

    def __init__(self, lifter: nn.Module, rule: Rule) -> None:
        super().__init__()
        self.lifter, self.rule = lifter, rule

    def forward(self, xy: Tensor, score: Tensor, size: Tensor, focal: Tensor) -> Tensor:
        """Shapes and units are those of INPUTS and OUTPUT."""
        focal = torch.where(focal > 0, focal, default_focal(size))
        seen = score[..., None] > 0
        framing = frame_clip(xy, score, size, self.rule, focal=focal)
        screen = torch.where(
            seen, to_screen(torch.where(seen, xy, torch.zeros_like(xy)), framing), torch.zeros_like(xy)
        )
        return to_camera(self.lifter(torch.cat([screen, score[..., None]], dim=-1)), framing)


def export(model: Model, path: Path | str, *, kind: str = "pt") -> Exported:
    """Write a model as one self-describing file of a kind in EXPORTERS, and compare its output with the model's.

    Raises LifterError for an unknown kind, and for a file whose output differs from the model's.
    """
    if kind not in EXPORTERS:
        raise LifterError(f"no export to {kind!r}", hint=f"known: {', '.join(EXPORTERS)}; the file's suffix names it")
    difference = EXPORTERS[kind](model, Path(path))
    if difference is not None and not difference < TOLERANCE:
        Path(path).unlink()
        raise LifterError(
            f"the exported file differs from the model by up to {difference:.2g} screen units; it was removed"
        )
    return Exported(Path(path), kind, difference)


def describe(model: Model) -> dict[str, str]:
    """The description inside an exported file, as strings."""
    facts = {**records.header("exported-model"), **model.facts(), "joints": model.joints.joints}
    facts |= {"inputs": INPUTS, "output": OUTPUT}
    return {f"twoview.{key}": value if isinstance(value, str) else json_text(value) for key, value in facts.items()}


def examples(model: Model, batch: int, frames: int) -> tuple[Tensor, ...]:
    """Random inputs to compare models with, in a portrait picture, some joints unseen."""
    generator = torch.Generator().manual_seed(batch * 1000 + frames)
    xy = torch.randn(batch, frames, 17, 2, generator=generator).mul(120) + torch.tensor([600.0, 900.0])
    score = torch.rand(batch, frames, 17, generator=generator)
    score = torch.where(score < 0.1, torch.zeros(()), score)
    size = torch.tensor([[1080.0, 1920.0]]).expand(batch, 2).contiguous()
    return xy.to(model.device), score.to(model.device), size.to(model.device), torch.zeros(batch, device=model.device)


def _to_pt(model: Model, path: Path) -> None:
    save_model(path, model)


def _to_onnx(model: Model, path: Path) -> float:
    """ONNX, batch and frames dynamic; compared with the model in ONNX Runtime.

    Raises MissingBackend without the packages of the extra `onnx`.
    """
    if missing := [name for name in ("onnx", "onnxscript") if find_spec(name) is None]:
        raise MissingBackend(
            f"{' and '.join(missing)} not installed; onnx and onnxscript write a model as ONNX",
            hint="pip install onnx onnxscript   or write model.pt2 instead",
        )
    network = Monocular(model.lifter, model.framing).eval()
    with _quiet():
        program = torch.onnx.export(
            network,
            examples(model, 2, min(9, model.clip_length)),
            input_names=list(INPUTS),
            output_names=["pose"],
            dynamic_shapes=_dynamic(model),
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        program.model.metadata_props.update(describe(model))
        with records.atomic(path) as temporary:
            program.save(str(temporary), external_data=False)
    session = onnx_runtime().InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(*inputs: Tensor) -> Tensor:
        named = dict(zip(INPUTS, (value.cpu().numpy() for value in inputs), strict=True))
        return torch.from_numpy(session.run(["pose"], named)[0])

    return compare(model, network, run)


def _to_pt2(model: Model, path: Path) -> float:
    """PyTorch's own graph format, for C++ and for servers without this package."""
    network = Monocular(model.lifter, model.framing).eval()
    with _quiet():
        inputs = examples(model, 2, min(9, model.clip_length))
        program = torch.export.export(network, inputs, dynamic_shapes=_dynamic(model))
        with records.atomic(path) as temporary:
            torch.export.save(program, temporary, extra_files=describe(model))
        loaded = torch.export.load(path).module()
    return compare(model, network, loaded)


EXPORTERS: Mapping[str, Callable[[Model, Path], float | None]] = {"pt": _to_pt, "onnx": _to_onnx, "pt2": _to_pt2}


@torch.inference_mode()
def compare(model: Model, network: nn.Module, run: Callable[..., Tensor]) -> float:
    """Largest difference between two functions over clips from one frame to the longest, alone and in batches."""
    tried: Sequence[tuple[int, int]] = ((1, 1), (3, min(5, model.clip_length)), (1, model.clip_length))
    inputs = [examples(model, batch, frames) for batch, frames in tried]
    return max(float((run(*values).cpu() - network(*values).cpu()).abs().max()) for values in inputs)


def _dynamic(model: Model) -> tuple[Any, ...]:
    batch = torch.export.Dim("batch", min=1, max=4096)
    frames = torch.export.Dim("frames", min=1, max=model.clip_length) if model.clip_length > 1 else 1
    return {0: batch, 1: frames}, {0: batch, 1: frames}, {0: batch}, {0: batch}


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' warnings about packages that we do not need."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "torch.export")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
