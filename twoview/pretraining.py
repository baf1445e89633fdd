"""Train a lifter from motion capture: vary the bodies, film them with virtual phones, spoil the 2D, learn the 3D.

`pretrain` is the loop. Every step draws its clips from a generator seeded by (seed, step), so a run that was stopped and
resumed continues as if nothing had happened, and anyone can repeat it.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from twoview import lifters
from twoview.bodies import BodyRange, coco_like, vary_bodies, vary_definition
from twoview.config import PretrainConfig
from twoview.datasets import Motion
from twoview.errors import TrainingError
from twoview.framing import Framing, frame_clip, from_camera, to_camera, to_screen
from twoview.progress import OnProgress, Progress, report
from twoview.records import atomic
from twoview.skeleton import H36M17
from twoview.virtual import CameraRange, Cameras, Chance, NoiseModel, detect_like, place_cameras

_ROOT = H36M17.root
_LENGTHS = ((27, 0.5), (81, 0.35), (9, 0.1), (1, 0.05))  # clip length in frames, share of the steps
_LENGTHS_TOP = max(length for length, _ in _LENGTHS)


@dataclass(frozen=True)
class Filmed:
    """A batch of clips seen by one virtual phone each.

    seen    (B, T, 17, 3)  what the lifter reads: x, y in screen units, score
    label   (B, T, 17, 3)  what it should answer
    points  (B, T, 17, 3)  metres along the camera's axes, the truth behind the label
    """

    seen: Tensor
    label: Tensor
    points: Tensor
    framing: Framing
    cameras: Cameras


class MotionBank:
    """All motion in one tensor, from which clips of any length are cut."""

    def __init__(self, motions: Sequence[Motion]) -> None:
        if not motions:
            raise TrainingError("no motion to train on", hint="name at least one prepared motion capture file")
        self.joints = torch.from_numpy(np.concatenate([m.joints for m in motions])).float()
        lengths = [len(m.joints) for m in motions]
        self.length = torch.tensor(lengths)
        self.start = torch.tensor([0, *np.cumsum(lengths)[:-1].tolist()])
        self.rate = torch.tensor([m.rate for m in motions], dtype=torch.float32)
        self.weight = torch.tensor([m.seconds for m in motions], dtype=torch.float64) ** 0.7  # long clips repeat

    def draw(self, clips: int, frames: int, rate: float, chance: Chance) -> Tensor:
        """Random clips (clips, frames, 17, 3) at about `rate` frames a second: played 0.7 to 1.4 times as fast."""
        which = torch.multinomial(self.weight, clips, replacement=True, generator=chance.generator)
        step = self.rate[which] / rate * chance.log_uniform(0.7, 1.4, clips)
        room = (self.length[which] - 1 - step * (frames - 1)).clamp(min=0)
        first = room * chance.uniform(0, 1, clips)
        at = first[:, None] + step[:, None] * torch.arange(frames)
        at = at.minimum((self.length[which] - 1)[:, None].float())
        return self._interpolate(self.start[which][:, None], at)

    def windows(self, frames: int, rate: float) -> tuple[Tensor, Tensor]:
        """Every clip cut into successive windows (N, frames, 17, 3) at `rate`, and the number (N,) of its motion.

        What does not fill a window is left out, but for motions shorter than one, whose last frame is repeated.
        """
        cut, who = [], []
        for index in range(len(self.length)):
            step, last = float(self.rate[index]) / rate, int(self.length[index]) - 1
            count = max(int(last / step + 1) // frames, 1)
            at = (torch.arange(count * frames) * step).clamp(max=last).view(count, frames)
            cut.append(self._interpolate(self.start[index], at))
            who += [index] * count
        return torch.cat(cut), torch.tensor(who)

    def _interpolate(self, start: Tensor, at: Tensor) -> Tensor:
        left = at.floor().long()
        share = (at - left)[..., None, None]
        right = (at.ceil().long() + start).clamp(max=len(self.joints) - 1)
        return self.joints[left + start] * (1 - share) + self.joints[right] * share


def centre(motion: Tensor) -> Tensor:
    """The same motion with the middle of the pelvis' path over the room's origin."""
    middle = motion[:, :, _ROOT].mean(dim=1) * torch.tensor([1.0, 1.0, 0.0])
    return motion - middle[:, None, None]


def film(motion: Tensor, chance: Chance, noise: NoiseModel, where: CameraRange | None = None) -> Filmed:
    """Motion (B, T, 17, 3) through one random phone a clip, with a detector's errors and a default focal length."""
    cameras = place_cameras(motion, chance, where)
    points = cameras.see(motion)
    xy, score = detect_like(cameras.project(points), cameras.size, chance, noise)
    framing = frame_clip(xy, score, cameras.size, "box")
    screen = torch.where(score[..., None] > 0, to_screen(xy, framing), torch.zeros(()))
    label = from_camera(points, cameras.focal, framing)
    return Filmed(torch.cat([screen, score[..., None]], dim=-1), label, points, framing, cameras)


def lifting_loss(answer: Tensor, film: Filmed, config: PretrainConfig) -> Tensor:
    """Position + scale + velocity errors of the root-relative pose, as in paper equation 5; the root in the picture."""
    seen_joints = (film.seen[..., 2] > 0).float().mean(dim=-1)
    weight = torch.where(seen_joints > 0.25, 1.0, 0.05)  # (B, T): nobody can lift an athlete out of the picture
    weight = (weight / weight.mean().clamp(min=1e-6))[..., None]
    label = film.label.clamp(-4, 4)
    pose, truth = answer - answer[:, :, _ROOT : _ROOT + 1], label - label[:, :, _ROOT : _ROOT + 1]
    drift = answer[:, :, _ROOT] - label[:, :, _ROOT]
    error = _length(pose - truth)
    position = (error * weight).mean() + (_length(drift) * weight[..., 0]).mean() / len(H36M17)
    factor = (pose * truth).sum((-1, -2), True) / pose.square().sum((-1, -2), True).clamp(min=1e-6)
    scale = (_length(pose * factor - truth) * weight).mean()
    loss = position + config.scale * scale
    if answer.shape[1] > 1:
        change = _length((pose - truth).diff(dim=1))
        loss = loss + config.velocity * (change * weight[:, 1:]).mean()
    return loss


def _length(x: Tensor) -> Tensor:
    return (x.square().sum(-1) + 1e-10).sqrt()


@torch.inference_mode()
def score_lifter(
    lifter: nn.Module,
    bank: MotionBank,
    *,
    seed: int = 1,
    frames: int = 27,
    rate: float = 30.0,
    cameras: int = 2,
    converted: bool = False,
    where: CameraRange | None = None,
) -> dict[str, Tensor]:
    """MPJPE and PA-MPJPE in mm of every window (N * cameras,), seen by fixed random cameras, with `which` motion it is.

    Along the true camera's axes, root-relative, scaled by the known depth of the root in each frame (the protocol of
    MotionBERT's evaluation, but against the true pose instead of its 2.5D projection).
    """
    where = where or CameraRange(distance=(3.0, 8.0), height=(0.4, 2.6), roll=1.5, off_centre=0.3, crop=(0.9, 1.1))
    noise = NoiseModel(level=(0.007, 0.007), blind=0.0, swaps=0.0)
    motion, which = bank.windows(frames, rate)
    motion = centre(motion.repeat(cameras, 1, 1, 1))
    motion = coco_like(motion) if converted else motion
    chance = Chance(torch.Generator().manual_seed(seed))
    seen = film(motion, chance, noise, where)
    answer = torch.cat([lifter(part) for part in seen.seen.split(256)])
    factor = seen.points[:, :, _ROOT : _ROOT + 1, 2:] * seen.cameras.size[:, None, None, :1] / 2
    factor = factor / seen.cameras.focal[:, None, None, None]
    pose = to_camera(answer, seen.framing) * factor * 1000
    truth = (seen.points - seen.points[:, :, _ROOT : _ROOT + 1]) * 1000
    return {
        "mpjpe": (pose - truth).norm(dim=-1).mean((1, 2)),
        "pa_mpjpe": (_aligned(pose, truth) - truth).norm(dim=-1).mean((1, 2)),
        "which": which.repeat(cameras),
    }


def _aligned(pose: Tensor, truth: Tensor) -> Tensor:
    """Each frame of `pose` moved, turned and scaled onto `truth` as well as possible."""
    p, t = pose - pose.mean(-2, True), truth - truth.mean(-2, True)
    u, s, vt = torch.linalg.svd(p.mT @ t)
    sign = torch.det(u @ vt).sign()
    last = torch.stack([torch.ones_like(sign), torch.ones_like(sign), sign], dim=-1)
    scale = (s * last).sum(-1) / p.square().sum((-1, -2)).clamp(min=1e-9)
    return p @ ((u * last[..., None, :]) @ vt) * scale[..., None, None] + truth.mean(-2, True)


def step_seed(seed: int, step: int) -> int:
    """The seed of one step's clips; far apart for neighbouring steps and runs."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def learning_rate(config: PretrainConfig, step: int) -> float:
    """Factor to the highest learning rate: linear warm-up, then half a cosine down to 0 at the last step."""
    if step < config.warmup:
        return (step + 1) / config.warmup
    share = (step - config.warmup) / max(config.steps - config.warmup, 1)
    return 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))


Optimizers = list[tuple[torch.optim.Optimizer, float]]  # each with its highest learning rate


def _optimizers(lifter: nn.Module, config: PretrainConfig) -> Optimizers:
    """Muon for the hidden layers' matrices and AdamW for all else, or AdamW alone."""
    if config.optimizer == "adamw":
        return [(torch.optim.AdamW(lifter.parameters(), weight_decay=config.weight_decay, foreach=True), config.lr)]
    if not hasattr(torch.optim, "Muon"):
        raise TrainingError(
            f"torch {torch.__version__} has no Muon", hint="torch 2.9 has; or set pretrain.optimizer=adamw"
        )
    named = dict(lifter.named_parameters())
    hidden = {name for name, value in named.items() if value.ndim == 2 and "blocks" in name}
    muon = torch.optim.Muon(
        [named[name] for name in named if name in hidden],
        weight_decay=config.weight_decay,
        adjust_lr_fn="match_rms_adamw",
    )
    rest = [value for name, value in named.items() if name not in hidden]
    adamw = torch.optim.AdamW(rest, weight_decay=config.weight_decay, foreach=True)
    return [(muon, config.lr), (adamw, config.lr_rest)]


def draw_batch(bank: MotionBank, config: PretrainConfig, noise: NoiseModel, step: int) -> Filmed:
    """The clips of one step, a pure function of (seed, step)."""
    chance = Chance(torch.Generator().manual_seed(step_seed(config.seed, step)))
    lengths, shares = zip(*_LENGTHS, strict=True)
    pick = torch.multinomial(torch.tensor(shares), 1, generator=chance.generator)
    length = lengths[int(pick)]
    motion = bank.draw(min(max(config.frames // length, 1), 1024), length, config.rate, chance)
    motion = vary_definition(vary_bodies(centre(motion), chance, BodyRange()), chance, config.converted)
    return film(motion, chance, noise)


def pretrain(
    config: PretrainConfig,
    motions: Sequence[Motion],
    *,
    out: Path,
    validation: Mapping[str, Sequence[Motion]] | None = None,
    on_progress: OnProgress | None = None,
) -> nn.Module:
    """Train a lifter; returns it with its averaged weights.

    out         folder of the run: `state.pt` (to resume), `log.jsonl` (a line a save or validation), `lifter.pt`
    validation  name -> motion by other subjects, measured as `score_lifter` does; never used to choose anything
    """
    noise = NoiseModel.load(config.noise) if config.noise else NoiseModel()
    bank = MotionBank(motions)
    banks = {name: MotionBank(found) for name, found in (validation or {}).items()}
    torch.manual_seed(config.seed)
    lifter = lifters.build(config.lifter, config.lifter_settings)
    average = lifters.build(config.lifter, config.lifter_settings)
    average.load_state_dict(lifter.state_dict())
    optimizers = _optimizers(lifter, config)
    first, spent = _resume(out, config, lifter, average, optimizers)
    if first == 0:
        (out / "log.jsonl").unlink(missing_ok=True)
    started, losses = time.monotonic(), []
    for step in range(first, config.steps):
        rate = learning_rate(config, step)
        for optimizer, peak in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = peak * rate
        batch = draw_batch(bank, config, noise, step)
        half = torch.autocast("cpu", dtype=torch.bfloat16) if config.precision == "bf16" else nullcontext()
        with half:
            answer = lifter(batch.seen)
        loss = lifting_loss(answer.float(), batch, config)
        lifter.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(lifter.parameters(), 1.0)
        for optimizer, _ in optimizers:
            optimizer.step()
        _blend(average, lifter, min(config.average, (1 + step) / (10 + step)))
        losses.append(float(loss.detach()))
        done = step + 1
        report(on_progress, Progress("pretrain", done, config.steps, values={"loss": losses[-1]}))
        if done % config.save_every == 0 or done == config.steps:
            seconds = spent + time.monotonic() - started
            row: dict[str, Any] = {"step": done, "seconds": round(seconds, 1), "lr": round(config.lr * rate, 8)}
            row["loss"] = float(np.mean(losses))
            if done % config.validate_every == 0 or done == config.steps:
                for name, held in banks.items():
                    errors = score_lifter(average, held, rate=config.rate)
                    row[name] = [round(float(errors[key].mean()), 2) for key in ("mpjpe", "pa_mpjpe")]
            _save(out, config, lifter, average, optimizers, done, seconds)
            with (out / "log.jsonl").open("a", encoding="utf-8") as log:
                log.write(json.dumps(row) + "\n")
            losses = []
    return average


@torch.no_grad()
def _blend(average: nn.Module, lifter: nn.Module, keep: float) -> None:
    torch._foreach_lerp_(list(average.parameters()), list(lifter.parameters()), 1 - keep)


def _save(
    out: Path,
    config: PretrainConfig,
    lifter: nn.Module,
    average: nn.Module,
    optimizers: Optimizers,
    step: int,
    s: float,
) -> None:
    state = {
        "format": "pretrain-state", "step": step, "seconds": s, "config": asdict(config),
        "lifter": lifter.state_dict(), "average": average.state_dict(), "optimizers": [optimizer.state_dict() for optimizer, _ in optimizers],
    }  # fmt: skip
    with atomic(out / "state.pt") as temporary:
        torch.save(state, temporary)


def _resume(
    out: Path, config: PretrainConfig, lifter: nn.Module, average: nn.Module, optimizers: Optimizers
) -> tuple[int, float]:
    """Steps and seconds already done in this folder, with everything loaded; (0, 0) in a new one."""
    path = out / "state.pt"
    if not path.exists():
        out.mkdir(parents=True, exist_ok=True)
        return 0, 0.0
    state = torch.load(path, weights_only=True)
    same = {k: v for k, v in asdict(config).items() if k not in ("steps", "save_every", "validate_every")}
    changed = [key for key, value in same.items() if state["config"].get(key) != value]
    if changed:
        raise TrainingError(
            f"{out} holds a run with another {', '.join(changed)}", hint="choose another folder, or delete that run"
        )
    lifter.load_state_dict(state["lifter"])
    average.load_state_dict(state["average"])
    for (optimizer, _), saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    return int(state["step"]), float(state["seconds"])
