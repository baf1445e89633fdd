"""Train a lifter from motion capture: vary the bodies, render them in virtual cameras, add simulated detector noise.

`pretrain` is the loop. Every step draws its clips from a generator seeded by (seed, step), so a run that was stopped
and resumed continues as if nothing had happened, and anyone can repeat it.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from twoview import lifters
from twoview.config import CameraRange, NoiseModel, PretrainConfig, shaping
from twoview.datasets.motion import Motion
from twoview.errors import TrainingError
from twoview.evaluation.metrics import aligned_errors, joint_errors, scaled_errors
from twoview.geometry.framing import LabeledClips, Rule, to_camera
from twoview.geometry.similarity import rooted
from twoview.lifting.model import Model, load_model, save_model
from twoview.machine import keep_memory, precision_of, torch_device
from twoview.progress import OnProgress, Progress, report
from twoview.skeleton import H36M17
from twoview.storage import records, torch_files
from twoview.storage.regular import make_folder
from twoview.texts import json_text
from twoview.training import losses
from twoview.training.bodies import coco_like, vary_bodies, vary_definition
from twoview.training.clips import step_seed
from twoview.training.runs import damaged, read_state, run_alone, state_header
from twoview.training.virtual_cameras import Chance, MotionBank, center_motion, load_noise, render

_ROOT = H36M17.root
_LENGTHS = ((27, 0.5), (81, 0.35), (9, 0.1), (1, 0.05))  # clip length in frames, share of the steps


def lifting_loss(answer: Tensor, batch: LabeledClips, config: PretrainConfig) -> Tensor:
    """Position + scale + velocity errors of the root-relative pose, as in paper equation 5; the root in the picture."""
    seen_joints = (batch.score > 0).float().mean(dim=-1)
    weight = torch.where(seen_joints > 0.25, 1.0, 0.05)  # (B, T): nobody can lift an athlete out of the picture
    weight = (weight / weight.mean().clamp(min=1e-6))[..., None]
    label = batch.label.clamp(-4, 4)
    pose, truth = rooted(answer), rooted(label)
    drift = losses.length(answer[:, :, _ROOT] - label[:, :, _ROOT])
    position = (losses.length(pose - truth) * weight).mean() + (drift * weight[..., 0]).mean() / len(H36M17)
    loss = position + config.scale * (losses.scale_errors(pose, truth, weight) * weight).mean()
    if answer.shape[1] > 1:
        loss = loss + config.velocity * (losses.velocity_errors(pose, truth) * weight[:, 1:]).mean()
    return loss


BENCHMARK = CameraRange((3.0, 8.0), (0.4, 2.6), roll=1.5, off_center=0.3, crop=(0.9, 1.1))
_BENCHMARK_NOISE = NoiseModel(level=(0.007, 0.007), blind=0.0, swaps=0.0)


@torch.inference_mode()
def score_lifter(
    lifter: Callable[[Tensor], Tensor],
    bank: MotionBank,
    *,
    rule: Rule = "box",
    frames: int = 27,
    rate: float = 30.0,
    cameras: int = 2,
    seed: int = 1,
    converted: bool = False,
    where: CameraRange = BENCHMARK,
    noise: NoiseModel = _BENCHMARK_NOISE,
) -> dict[str, Tensor]:
    """Errors of every clip (N * cameras,) of the motion in fixed random virtual cameras, with simulated detector noise.

    In mm along the true camera's axes, root-relative, each frame scaled by the known depth of its root: MotionBERT's
    protocol, but against the true pose instead of its 2.5D projection. Keys: mpjpe, pa_mpjpe, n_mpjpe, mpjve (mm a
    second), and `which` motion it is.

    converted  joints of a COCO detector after conversion, instead of those that were captured
    """
    motion, which = bank.windows(frames, rate)
    motion = center_motion(motion.repeat(cameras, 1, 1, 1))
    motion = coco_like(motion) if converted else motion
    seen = render(motion, Chance(torch.Generator(bank.device).manual_seed(seed)), noise, where)
    clips = seen.labeled(rule)
    answer = torch.cat([lifter(part) for part in torch.split(clips.input, 256)])
    root = seen.points[:, :, _ROOT : _ROOT + 1]
    meters = root[..., 2:] * (seen.cameras.size[:, 0] / 2 / seen.cameras.focal)[:, None, None, None]
    pose, truth = to_camera(answer, clips.framing) * meters * 1000, (seen.points - root) * 1000
    p, t = pose.flatten(0, 1), truth.flatten(0, 1)
    errors = {"mpjpe": joint_errors(p, t), "pa_mpjpe": aligned_errors(p, t), "n_mpjpe": scaled_errors(p, t)}
    found = {name: value.view(pose.shape[:3]).mean((1, 2)) for name, value in errors.items()}
    if frames > 1:
        found["mpjve"] = (pose - truth).diff(dim=1).norm(dim=-1).mean((1, 2)) * rate
    return {**found, "which": which.repeat(cameras)}


def learning_rate(config: PretrainConfig, step: int) -> float:
    """Factor to the highest learning rate: linear warm-up, then half a cosine down to 0 at the last step."""
    if step < config.warmup:
        return (step + 1) / config.warmup
    share = (step - config.warmup) / max(config.steps - config.warmup, 1)
    return 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))


def draw_batch(
    bank: MotionBank, config: PretrainConfig, noises: Sequence[NoiseModel], step: int, clip_length: int = 81
) -> LabeledClips:
    """The clips of one step, all of one length up to `clip_length`; a pure function of (seed, step) on each device."""
    chance = Chance(torch.Generator(bank.device).manual_seed(step_seed(config.seed, step)))
    lengths, shares = zip(*((n, share) for n, share in _LENGTHS if n <= clip_length), strict=True)
    pick = np.random.default_rng((config.seed, step)).choice(len(lengths), p=np.divide(shares, sum(shares)))
    length = lengths[pick]
    motion = bank.draw(min(max(config.frames // length, 1), 1024), length, config.rate, chance)
    motion = vary_definition(vary_bodies(center_motion(motion), chance, config.bodies), chance, config.converted)
    noise = noises[0]
    if step >= config.noise_from and len(noises) > 1:
        noise = noises[step % len(noises)]
    return render(motion, chance, noise, config.cameras).labeled()


def pretrain(
    config: PretrainConfig,
    motions: Sequence[Motion],
    *,
    out: Path,
    validation: Mapping[str, Sequence[Motion]] | None = None,
    on_progress: OnProgress | None = None,
) -> Model:
    """Train a lifter; returns it with its averaged weights and a card, as written to `model.pt`.

    out         folder of the run: `model.pt` at every validation, `state.pt`, from which it resumes, and `log.jsonl`
    validation  name -> motion by other subjects, measured as `score_lifter` does; never used to choose anything
    """
    with run_alone(out):
        return _pretrain_alone(config, motions, out, validation or {}, on_progress)


def _pretrain_alone(
    config: PretrainConfig,
    motions: Sequence[Motion],
    out: Path,
    validation: Mapping[str, Sequence[Motion]],
    on_progress: OnProgress | None,
) -> Model:
    keep_memory()
    noises = [config.detector, *map(load_noise, config.noise)]
    device = torch_device(config.device, TrainingError)
    bank = MotionBank(motions, device)
    banks = {name: MotionBank(found, device) for name, found in validation.items()}
    run = _Run(config, device)
    if not run.resume(out, config):
        (out / "log.jsonl").unlink(missing_ok=True)
    recent: list[Tensor] = []
    began = time.monotonic() - run.seconds
    for step in range(run.step, config.steps):
        batch = draw_batch(bank, config, noises, step, run.clip_length)
        recent.append(run.learn(batch, config, step))
        if on_progress is not None:  # reading the loss waits for the device
            report(on_progress, Progress("pretrain", run.step, config.steps, values={"loss": float(recent[-1])}))
        last = run.step == config.steps
        if last or run.step % config.save_every == 0:
            run.seconds = time.monotonic() - began
            loss = float(torch.stack(recent).mean())
            row: dict[str, Any] = {"step": run.step, "seconds": round(run.seconds, 1), "loss": loss}
            if last or run.step % config.validate_every == 0:
                for name, held in banks.items():
                    errors = score_lifter(run.average, held, rate=config.rate)
                    row[name] = [round(float(errors[key].mean()), 2) for key in ("mpjpe", "pa_mpjpe")]
                save_model(out / "model.pt", run.model(config, motions, row), half=True)
            run.save(out, config)
            with records.writable(out / "log.jsonl"), (out / "log.jsonl").open("a", encoding="utf-8") as log:
                log.write(json_text(row) + "\n")
            recent.clear()
    return load_model(out / "model.pt", trust=(config.lifter,))


class _Run:
    """What changes while training. The optimizers come with their highest learning rates."""

    def __init__(self, config: PretrainConfig, device: torch.device) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.lifter = lifters.build(config.lifter, config.lifter_settings).to(device)
        self.average, self.optimizers = copy.deepcopy(self.lifter), _optimizers(self.lifter, config)
        self.half = precision_of(config.precision, config.device, config.lifter) == "bf16"
        self.clip_length = cast(int, self.lifter.clip_length)
        self.step, self.seconds = 0, 0.0

    def learn(self, batch: LabeledClips, config: PretrainConfig, step: int) -> Tensor:
        """One step; returns its loss."""
        factor = learning_rate(config, step)
        for optimizer, peak in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = peak * factor
        with torch.autocast(batch.score.device.type, dtype=torch.bfloat16, enabled=self.half):
            answer = self.lifter(batch.input)
        loss = lifting_loss(answer.float(), batch, config)
        self.lifter.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.lifter.parameters(), 1.0)
        for optimizer, _ in self.optimizers:
            optimizer.step()
        keep = min(config.average, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.lifter.parameters()), 1 - keep)
        self.step = step + 1
        return loss.detach()

    def model(self, config: PretrainConfig, motions: Sequence[Motion], row: Mapping[str, Any]) -> Model:
        """The averaged weights with what is known about them."""
        kinds = sorted({motion.kind for motion in motions} - {""})
        card = {
            "training": f"{len(motions)} clips, {sum(m.seconds for m in motions) / 60:.1f} min, by virtual cameras",
            "movements": ", ".join(kinds),
            "subjects": len({motion.subject for motion in motions}),
            "progress": dict(row),
            "settings": asdict(config),
        }
        name, settings = config.lifter, config.lifter_settings
        return Model(copy.deepcopy(self.average).cpu(), name, settings, "box", config.rate, self.clip_length, card=card)

    def save(self, out: Path, config: PretrainConfig) -> None:
        """Write `state.pt`."""
        state = {"step": self.step, "seconds": self.seconds, "lifter": self.lifter.state_dict()}
        state |= {"average": self.average.state_dict(), "optimizers": [o.state_dict() for o, _ in self.optimizers]}
        torch_files.write(out / "state.pt", {**_header(config), **state})

    def resume(self, out: Path, config: PretrainConfig) -> bool:
        """Continue the run in this folder if there is one. Raises as `read_state` does."""
        with records.writable(out):
            make_folder(out)
        defaults = shaping(PretrainConfig())
        state = read_state(
            out / "state.pt", _header(config), defaults=defaults, upgrade=_upgraded, another="--out FOLDER"
        )
        if state is None:
            return False
        try:
            self.lifter.load_state_dict(state["lifter"])
            self.average.load_state_dict(state["average"])
            for (optimizer, _), saved in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
            self.step, self.seconds = int(state["step"]), float(state["seconds"])
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, IndexError) as error:
            raise damaged(out / "state.pt", "--out FOLDER") from error
        return True


def _header(config: PretrainConfig) -> records.Header:
    """What a resumed run must agree with; it may continue with more steps and more motion."""
    shared = {name: value for name, value in shaping(config).items() if name not in ("steps", "data")}
    return state_header("pretraining state", shared)


def _upgraded(old: dict[str, Any]) -> dict[str, Any]:
    """A state of version 1, which named neither its version nor its settings so."""
    return {**old, "format": "pretraining state", "settings": old["config"], "inputs": {}}


def _optimizers(lifter: nn.Module, config: PretrainConfig) -> list[tuple[torch.optim.Optimizer, float]]:
    """Muon for the hidden layers' matrices and AdamW for all else, or AdamW alone."""
    if config.optimizer == "adamw":
        return [(torch.optim.AdamW(lifter.parameters(), weight_decay=config.weight_decay, foreach=True), config.lr)]
    if not hasattr(torch.optim, "Muon"):
        raise TrainingError(
            f"torch {torch.__version__} has no Muon", hint="torch 2.9 has; or set pretrain.optimizer=adamw"
        )
    hidden: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, value in lifter.named_parameters():
        (hidden if value.ndim == 2 and "blocks" in name else rest).append(value)
    muon = torch.optim.Muon(hidden, weight_decay=config.weight_decay, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW(rest, weight_decay=config.weight_decay, foreach=True)
    return [(muon, config.lr), (adamw, config.lr_rest)]
