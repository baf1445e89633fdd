"""3D poses from one view: a video is cut into overlapping windows, lifted, and blended so that no border shows.

Times are in seconds. The model works at the rate it was trained on; a faster video is lifted as several interleaved
sequences of that rate, so that no frame is left out, and the result has the video's own times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy import ndarray as Array
from torch import Tensor

from twoview.config import DetectConfig, InferConfig
from twoview.errors import LifterError
from twoview.geometry.framing import Framing, frame_clip, to_camera, to_pixels, to_screen
from twoview.geometry.similarity import mirror
from twoview.lifters.gate import GatedLifter
from twoview.lifting.model import Model, load_model
from twoview.machine import keep_memory
from twoview.poses import Poses2D, Poses3D, Source
from twoview.progress import OnProgress, Progress, report
from twoview.sigmas import lifted_sigma
from twoview.skeleton import H36M17, STATURE_M, stature
from twoview.storage import records

MIN_SEEN = 5  # joints of 17 that a frame must show to be lifted: training never had fewer
STEADY_S = 1.0  # time over which the athlete's size in the picture is averaged, for meters
_FRAMES_AT_ONCE = 1024  # of all windows in a batch: enough to keep a CPU busy with little memory
_HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


def infer(
    source: Path | str | Poses2D,
    model: Model | Path | str,
    *,
    config: InferConfig | None = None,
    detect_config: DetectConfig | None = None,
    on_progress: OnProgress | None = None,
) -> Poses3D:
    """3D poses from one view: a video (the athlete is detected first), saved 2D poses (`.npz`) or Poses2D.

    model  a model, its file, or the name of one: "twoview-small" ships

    Root-relative along the camera's axes, at the frames' own times; in meters with `config.height_m`, else in screen
    units. Frames in which the athlete is not seen are NaN. Raises LifterError where no frame could be lifted.
    """
    config = config or InferConfig()
    model = model if isinstance(model, Model) else load_model(model, device=config.device)
    poses = source if isinstance(source, Poses2D) else _read(Path(source), detect_config, on_progress)
    lifted = lift(model, poses, config, on_progress=on_progress)
    if not np.isfinite(lifted.xyz).any():
        seen = int((poses.score > 0).any(axis=1).sum())
        raise LifterError(
            f"nothing to lift: the athlete is seen in {seen} of {len(poses)} frames, and never with {MIN_SEEN} of "
            f"{len(H36M17)} joints",
            hint="look at the detections with `twoview show`, or try another detector",
        )
    return in_meters(lifted, config.height_m) if config.height_m else lifted


def _read(path: Path, config: DetectConfig | None, on_progress: OnProgress | None) -> Poses2D:
    if path.suffix == ".npz":
        return records.load_as(path, Poses2D)
    from twoview.detection.pipeline import detect

    return detect(path, config=config or DetectConfig(), view=path.stem, on_progress=on_progress)


def lift(
    model: Model, poses: Poses2D, config: InferConfig | None = None, *, on_progress: OnProgress | None = None
) -> Poses3D:
    """Poses2D with any known skeleton -> root-relative Poses3D in screen units at the same times; NaN where unseen."""
    found = _answers(model, poses, config or InferConfig(), to_camera, on_progress)
    made_by = f"{model.name} {model.card.get('name', '')}".strip()
    return replace(found, view=poses.view, source=Source(poses.source.video, made_by))


def pixel_poses(model: Model, poses: Poses2D, config: InferConfig | None = None) -> Array:
    """The lifter's own answer to Poses2D with any known skeleton, in pixels (T, 17, 3); NaN where unseen.

    x, y in the picture and z at its scale at the root: the 2.5D pose that MotionBERT's evaluation compares. Windows and
    blending are those of `lift`. See `framing.to_pixels` for what the focal length of `config` does.
    """
    return _answers(model, poses, config or InferConfig(), to_pixels, None).xyz


def _answers(
    model: Model,
    poses: Poses2D,
    config: InferConfig,
    undo: Callable[[Tensor, Framing], Tensor],
    on_progress: OnProgress | None,
) -> Poses3D:
    """What a lifter answers at the poses' times, NaN where unseen; `undo` takes it out of a clip's frame."""
    keep_memory()
    model, flat = model.adjusted(framing=config.framing), poses.to(H36M17)
    if not len(flat):
        return Poses3D(np.empty((0, len(H36M17), 3)), flat.time)
    frame_s = float(np.median(np.diff(flat.time))) if len(flat) > 1 else 1 / model.rate_hz
    sequences = interleave(frame_s, model.rate_hz)
    steps = max(round((flat.time[-1] - flat.time[0]) * model.rate_hz * sequences), 0)
    grid = np.linspace(flat.time[0], flat.time[-1], steps + 1) if steps else flat.time[:1]
    gap = max(config.max_gap_s, 1.5 * frame_s, 1.5 / model.rate_hz)
    even = flat.at(grid, max_gap=gap)
    cuts = list(windows(len(grid), sequences, model.clip_length, config.windows))
    made = _blend(model, even, cuts, config, undo=undo, on_progress=on_progress)
    xyz = np.where(((even.score > 0).sum(axis=1) < MIN_SEEN)[:, None, None], np.nan, made.xyz)
    sigma = _sigma(xyz, made, even.score) if undo is to_camera else None
    return Poses3D(xyz, grid, adapted_share=made.share, sigma=sigma).at(flat.time, max_gap=gap)


def _sigma(xyz: Array, made: _Blended, score: Array) -> Array:
    """Sigma (T, J) of poses xyz (T, J, 3) in screen units, from what `lifted_sigma` knows of a body of common size."""
    with np.errstate(invalid="ignore"):
        bones = np.stack([xyz[:, child] - xyz[:, parent] for parent, child in H36M17.bones], axis=1)
        meter = (stature(np.linalg.norm(bones, axis=-1)) / STATURE_M)[:, None]  # in screen units
        flip = None if made.flip is None else made.flip / meter
        return lifted_sigma(H36M17, score=score, window=made.window / meter, flip=flip) * meter


def interleave(frame_s: float, rate_hz: float) -> int:
    """How many interleaved sequences of `rate_hz` a video with a frame every `frame_s` seconds holds."""
    return max(int(np.ceil(1 / (frame_s * rate_hz) - 0.25)), 1)


def windows(frames: int, sequences: int, length: int, times: int = InferConfig.windows) -> Iterator[Array]:
    """Frame numbers (T,) of each window: T = `length`, or the sequence's own if shorter; one every `times`-th of it.

    Every `sequences`-th frame belongs to one sequence, and the last window of each ends with it. By thirds, and with
    weights of sin^2, every frame is the mean of two windows' worth of answers; by halves of one where windows end.
    """
    for first in range(min(sequences, frames)):
        own = np.arange(first, frames, sequences)
        size = min(length, len(own))
        last = len(own) - size
        for start in [*range(0, last, max(size // times, 1)), last]:
            yield own[start : start + size]


@dataclass(frozen=True, eq=False)
class _Blended:
    """What all windows together answer. T frames, J joints.

    xyz     (T, J, 3)  weighted mean; NaN without a window
    share   (T,)       of the adapted lifter, where a gate decides it
    window  (T, J)     standard deviation of the windows' answers, as a distance in 3D
    flip    (T, J)     half the distance of the answers to the picture and to its mirror image; None: not asked
    """

    xyz: Array
    share: Array | None
    window: Array
    flip: Array | None


def _blend(
    model: Model,
    poses: Poses2D,
    cuts: Sequence[Array],
    config: InferConfig,
    *,
    undo: Callable[[Tensor, Framing], Tensor],
    on_progress: OnProgress | None,
) -> _Blended:
    """All lifted windows as one. A window's weight falls to 0 at its ends."""
    total, shares = np.zeros((len(poses), len(H36M17), 3)), np.zeros(len(poses))
    squares, flips = np.zeros_like(total), np.zeros((len(poses), len(H36M17)))
    weight = np.zeros((len(poses), 1, 1))
    gate = isinstance(model.lifter, GatedLifter)
    lifter = model.lifter.parts if isinstance(model.lifter, GatedLifter) else model.lifter
    lifter = torch.compile(lifter, dynamic=True) if config.compile else lifter
    seen = [cut for cut in cuts if (poses.score[cut] > 0).any()]
    done = 0
    for batch in _batches(seen):
        at = np.stack(batch)
        answers, share, framing = _lift_windows(model, lifter, poses, at, config)
        lifted = undo(sum(answers[1:], answers[0]) / len(answers), framing).cpu().numpy()
        apart = np.zeros(lifted.shape[:-1])
        if len(answers) == 2:
            one, other = (undo(answer, framing) for answer in answers)
            apart = ((one - other).norm(dim=-1) / 2).cpu().numpy()
        fade = np.sin(np.pi * (np.arange(at.shape[1]) + 0.5) / at.shape[1])[:, None, None] ** 2
        for cut, xyz, far, own in zip(batch, lifted, apart, share.cpu().numpy(), strict=True):
            total[cut] += fade * xyz
            squares[cut] += fade * xyz.astype(np.float64) ** 2
            flips[cut] += fade[..., 0] * far**2
            shares[cut] += fade[:, 0, 0] * own
            weight[cut] += fade
        done += len(batch)
        report(on_progress, Progress("lift", done, len(seen), "windows"))
    every = np.maximum(weight, 1e-12)
    mean = total / every
    spread = np.sqrt(np.maximum(squares / every - mean**2, 0).sum(axis=-1))
    return _Blended(
        np.where(weight > 0, mean, np.nan), shares / every[:, 0, 0] if gate else None, spread,
        np.sqrt(flips / every[..., 0]) if config.flip else None,
    )  # fmt: skip


def _batches(cuts: Sequence[Array]) -> Iterator[list[Array]]:
    """Windows of one length together, few enough to fit in memory."""
    by_length: dict[int, list[Array]] = {}
    for cut in cuts:
        by_length.setdefault(len(cut), []).append(cut)
    for length, same in by_length.items():
        count = max(_FRAMES_AT_ONCE // length, 1)
        for start in range(0, len(same), count):
            yield same[start : start + count]


@torch.inference_mode()
def _lift_windows(
    model: Model, lifter: Callable[[Tensor], Any], poses: Poses2D, at: Array, config: InferConfig
) -> tuple[list[Tensor], Tensor, Framing]:
    """The lifter's answers (B, T, J, 3) to the poses' windows, by frame numbers at (B, T), and their frame.

    With `config.flip` there are two: to the pictures, and to their mirror images, mirrored back.
    Between them the adapted lifter's share (B, T) where `lifter` is a gate's, else ones.
    """
    flat = torch.from_numpy(np.nan_to_num(poses.xy[at])).to(model.device)
    score = torch.from_numpy(poses.score[at]).to(model.device)
    sizes = flat.new_tensor(poses.size).expand(len(flat), 2)
    focal = flat.new_full((len(flat),), config.focal) if config.focal else None
    framing = frame_clip(flat, score, sizes, model.framing, focal=focal)
    screen = torch.where(score[..., None] > 0, to_screen(flat, framing), torch.zeros_like(flat))
    x = torch.cat([screen, score[..., None]], dim=-1)
    half: AbstractContextManager[object] = nullcontext()
    if config.precision in _HALF:
        half = torch.autocast(model.device.type, dtype=_HALF[config.precision])

    def lifted(x: Tensor) -> tuple[Tensor, Tensor]:
        answer = lifter(x)
        return answer if isinstance(answer, tuple) else (answer, torch.ones_like(x[..., 0, 0]))

    with half:
        answer, share = lifted(x)
        answers = [answer]
        if config.flip:
            other, other_share = lifted(mirror(x))
            answers, share = [answer, mirror(other)], (share + other_share) / 2
    return [answer.float() for answer in answers], share.float(), framing


def in_meters(poses: Poses3D, height_m: float) -> Poses3D:
    """Poses in screen units -> meters, for an athlete of known standing height.

    The athlete's size in the picture at a moment comes from all bones together, averaged over a second.
    """
    bones = np.stack([poses.xyz[:, child] - poses.xyz[:, parent] for parent, child in H36M17.bones], axis=1)
    tall = stature(np.linalg.norm(bones, axis=-1))
    known = np.isfinite(tall)
    size = np.full(len(tall), np.nan)
    for index in np.flatnonzero(known):
        near = known & (np.abs(poses.time - poses.time[index]) <= STEADY_S / 2)
        size[index] = tall[near].mean()
    meters = (height_m / size)[:, None]
    sigma = None if poses.sigma is None else poses.sigma * meters
    return replace(poses, xyz=poses.xyz * meters[..., None], unit="m", sigma=sigma)
