"""What the benchmarks of adaptation share: takes of motion capture by virtual phones, training, and true errors.

Two static phones film every clip: one from the athlete's right, one (by default) 90 degrees further round, up to 15
degrees off, 3 to 8 m away and as far as the athlete needs to stay in the picture, with its own focal length and a
detector's errors in 2D. Of the 3D nothing is used but what a row of a table is about, and for scoring.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from beside import ROOT, SHARED
from torch import Tensor, nn

from twoview.config import CameraRange, FinetuneConfig, NoiseModel
from twoview.datasets.motion import Motion, read_motions
from twoview.geometry.similarity import residuals
from twoview.lifting.inference import lift
from twoview.lifting.model import Model, load_model
from twoview.machine import precision_of
from twoview.poses import Poses2D, Poses3D
from twoview.skeleton import H36M17
from twoview.takes import Take, resample
from twoview.timeline import ClockMap, Sync
from twoview.training.bodies import coco_like
from twoview.training.clips import Clip, cut
from twoview.training.finetuning import learning_rate
from twoview.training.method_paper import Objective
from twoview.training.pretraining import score_lifter
from twoview.training.virtual_cameras import NEAREST_M, Chance, MotionBank, place_cameras, simulate_detector

MOCAP = SHARED / "data/mocap/public"
RESULTS = ROOT / "docs/results"
RATE = 30.0
NARROW = Path(__file__).parent / "lifters"  # lifters that exist for the benchmarks alone
NAMES = "abcdef"
SIX = ("soccer_kick", "golf_swing", "baseball", "basketball", "jump", "martial_arts")


@dataclass(frozen=True)
class Conditions:
    """How clips are filmed.

    angles   degrees of the other views from the first, in turn
    level    standard deviation of the 2D errors, share of the athlete's box
    delay_s  how much later than its clock says the second view shows the scene
    travel_m  how far the athlete travels away from the first phone over the clip, besides what he does anyway
    sports   joints as a COCO detector's, converted (the target's definition differs from the source's, as in the paper)
    """

    angles: tuple[float, ...] = (90.0,)
    level: float = 0.007
    delay_s: float = 0.0
    travel_m: float = 0.0
    sports: bool = True


def render_take(motion: Motion, how: Conditions, seed: int) -> Take:
    """One clip by all phones, with the truth."""
    chance = Chance(torch.Generator().manual_seed(seed))
    body = torch.from_numpy(motion.joints[:: max(round(motion.rate / RATE), 1)]).float()[None]
    body = coco_like(body) if how.sports else body
    noise = NoiseModel(level=(how.level, how.level), blind=0.0, swaps=0.0)
    first = float(chance.uniform(-15, 15, 1))
    if how.travel_m:
        away = place(body, first, Chance(torch.Generator().manual_seed(seed))).rotation[0, 2] * torch.tensor([1, 1, 0])
        share = torch.linspace(-0.5, 0.5, body.shape[1])[None, :, None, None]
        body = body + how.travel_m * share * away / away.norm()
    poses, truth, focal = {}, {}, {}
    for view, further in zip(NAMES, (0.0, *how.angles), strict=False):
        azimuth = first if view == "a" else first + further + float(chance.uniform(-5, 5, 1))
        delay = how.delay_s if view == "b" else 0.0
        seen = _delayed(body, delay * RATE)
        cameras = place(seen, azimuth, chance)
        points = cameras.to_camera(seen)
        xy, score = simulate_detector(cameras.project(points, nearest=NEAREST_M), cameras.size, chance, noise)
        xy = torch.where(score[..., None] > 0, xy, torch.full((), torch.nan))
        width, height = cameras.size[0].int().tolist()
        time = np.arange(body.shape[1]) / RATE
        poses[view] = Poses2D(xy[0].numpy(), score[0].numpy(), time, H36M17, (width, height), view=view)
        truth[view] = Poses3D(points[0].numpy(), time, origin="camera", unit="m", view=view)
        focal[view] = float(cameras.focal[0])
    return Take(motion.name, poses, Sync("a", {view: ClockMap() for view in poses}), truth, focal)


def place(body: Tensor, azimuth: float, chance: Chance):
    """A phone that keeps the athlete in the picture: further away until it does."""
    for stretch in (1.0, 1.3, 1.7, 2.2, 3.0, 4.0):
        where = CameraRange(
            distance=(3.0 * stretch, 8.0 * stretch), height=(0.4, 2.6), azimuth=(azimuth, azimuth + 1e-3), roll=1.5,
            off_center=0.3, crop=(0.9, 1.1),
        )  # fmt: skip
        cameras = place_cameras(body, chance, where)
        points = cameras.to_camera(body)
        xy = cameras.project(points, nearest=NEAREST_M)
        inside = ((xy >= 0) & (xy < cameras.size[:, None, None])).all(-1) & (points[..., 2] > 0.5)
        if inside.float().mean() > 0.97:
            break
    return cameras


def _delayed(body: Tensor, frames: float) -> Tensor:
    at = (torch.arange(body.shape[1]) - frames).clamp(0, body.shape[1] - 1)
    low = at.long().clamp(max=body.shape[1] - 2)
    share = (at - low)[None, :, None, None]
    return body[:, low] * (1 - share) + body[:, low + 1] * share


def render_takes(name: str, how: Conditions, seed: int, *, only: Sequence[str] | None = None) -> dict[str, list[Take]]:
    """Every clip of a prepared file by class."""
    found: dict[str, list[Take]] = {}
    for number, motion in enumerate(read_motions(MOCAP / name)):
        if only is None or motion.kind in only:
            found.setdefault(motion.kind, []).append(render_take(motion, how, 1000 * seed + number))
    return found


def cut_all(takes: Sequence[Take], *, frames: int = 27, stride: float = 1.0) -> list[Clip]:
    """All clips of the takes."""
    return [clip for take in takes for clip in cut(resample(take, RATE), length=frames, stride=stride)]


def adapt(
    model: Model,
    objective: Objective,
    config: FinetuneConfig,
    *,
    steps: int,
    after: Callable[[int, Model], None] | None = None,
) -> Model:
    """So many steps of an objective, with the learning rate, its schedule and the limit on the gradient of `config`.

    after  called with the number of steps done and the lifter as it is then
    """
    lifter = copy.deepcopy(model.lifter).train()
    wrapped = Precise(lifter, half=precision_of(config.precision, model.device.type, model.name) == "bf16")
    optimizer = torch.optim.AdamW(lifter.parameters(), config.lr, weight_decay=config.weight_decay)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, step // objective.steps, step / steps)
        loss = torch.stack(list(objective.terms(wrapped, *divmod(step, objective.steps)).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        if config.clip_norm:
            nn.utils.clip_grad_norm_(lifter.parameters(), config.clip_norm)
        optimizer.step()
        if after is not None:
            after(step + 1, replace(model, lifter=lifter))
            lifter.train()
    return replace(model, lifter=lifter.eval())


class Precise(nn.Module):
    """A lifter whose products run in 16 or in 32 bits."""

    def __init__(self, lifter: nn.Module, *, half: bool) -> None:
        super().__init__()
        self.lifter, self.half = lifter, half

    def forward(self, x: Tensor) -> Tensor:
        """As the lifter's."""
        with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=self.half):
            answer = self.lifter(x)
        return answer.float()


def errors(found: Poses3D, take: Take, view: str = "a") -> np.ndarray:
    """MPJPE and PA-MPJPE (T, 2), mm, of every frame that was lifted; the root's true depth makes mm of screen units."""
    truth = take.truth[view].at(found.time).xyz
    meters = truth[:, :1, 2:] * take.poses[view].size[0] / (2 * take.focal[view])
    pose = (found.xyz - found.xyz[:, :1]) * meters
    known = np.isfinite(pose).all((1, 2)) & np.isfinite(truth).all((1, 2))
    pose, truth = torch.from_numpy(pose[known]).float(), torch.from_numpy(truth[known])
    own = (pose - (truth - truth[:, :1])).norm(dim=-1).mean(-1)
    aligned = residuals(pose, truth).norm(dim=-1).mean(-1)
    return 1000 * torch.stack([own, aligned], dim=-1).numpy()


def measure(model: Model, takes: Mapping[str, Sequence[Take]], *, view: str = "a") -> dict[str, list[np.ndarray]]:
    """Errors (T, 2) of every clip by class."""
    return {kind: [errors(lift(model, t.poses[view]), t, view) for t in found] for kind, found in takes.items()}


def mean(clips: Sequence[np.ndarray]) -> np.ndarray:
    """MPJPE and PA-MPJPE (2,) over all frames."""
    return np.concatenate(clips).mean(axis=0)


def interval(clips: Sequence[Sequence[np.ndarray]], summary: Callable, *, draws: int = 500) -> np.ndarray:
    """95 % interval (2, 2) of `summary` over clips drawn anew, seeds (the outer list) averaged."""
    rng = np.random.default_rng(0)
    picks = [rng.integers(0, len(clips[0]), len(clips[0])) for _ in range(draws)]
    values = [np.mean([summary([seed[i] for i in pick]) for seed in clips], axis=0) for pick in picks]
    return np.percentile(values, [2.5, 97.5], axis=0)


def load_lifter(name: str, device: str = "cpu") -> Model:
    """A lifter by name: one that ships, the benchmarks' own "narrow" or "narrow-dstformer", or a file."""
    own = NARROW / f"{name}.pt"
    return load_model(own if own.exists() else name, device=device)


def everyday_error(model: Model) -> float:
    """MPJPE, mm, on everyday movement of people that the lifter never saw, from any side: what forgetting costs."""
    bank = MotionBank(read_motions(MOCAP / "source_val"), model.device)
    return float(score_lifter(model.lifter, bank)["mpjpe"].mean())
