"""Lessons for a lifter: batches of single-view clips with the 3D that it should answer, drawn anew in every step.

pseudo     every view of the filmed takes with the triangulated 3D; in most of them the detector's errors are those of
           another clip, so that they cannot be learnt by heart
turned     the same 3D seen by virtual phones from anywhere, with a virtual detector's errors
rehearsal  generic motion by virtual phones, to be answered as the unadapted lifter does: what it knew is not forgotten
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from twoview import framing, losses
from twoview.bundle import STATURE_M
from twoview.clips import PairBatch
from twoview.config import LossConfig, PhonesConfig
from twoview.errors import TrainingError
from twoview.skeleton import H36M17
from twoview.virtual import Chance, detect_like, place_cameras, rotation_matrix

FARTHEST = 4.0  # screen units: answers beyond are of athletes who stand beside the camera
TILT_DEG = 4.0  # how far the filming phone's own down is from the room's, standard deviation


@dataclass(frozen=True, eq=False)
class Lesson:
    """Single-view clips with answers, as a batch of one view each; `share` is their weight in the loss."""

    name: str
    batch: PairBatch
    share: float


@dataclass(frozen=True, eq=False)
class Solved:
    """Clips of single views with their 3D.

    xy (N, T, J, 2) px, score (N, T, J), size (N, 2) px; points (N, T, J, 3) m before the camera, its focal length (N,)
    px, and how far each point is believed, weight (N, T, J).
    """

    xy: Tensor
    score: Tensor
    size: Tensor
    points: Tensor
    focal: Tensor
    weight: Tensor

    def __len__(self) -> int:
        return len(self.xy)

    def __getitem__(self, at: Tensor | slice) -> Solved:
        return Solved(*(getattr(self, f.name)[at] for f in fields(self)))


class Lessons:
    """Lessons of every training step, a pure function of (seed, step), from solved takes and the lifter's own 3D."""

    def __init__(self, solved: Solved, rooms: Tensor, rule: framing.Rule, config: PhonesConfig, seed: int) -> None:
        """Take solved clips and rehearsal motion `rooms` (M, T, J, 3) m, z up; an empty one rehearses nothing."""
        if not len(solved):
            raise TrainingError(
                "no clip of any take could be triangulated",
                hint="twoview triangulate says why; film about 90 degrees apart, or use --set finetune.method=paper",
            )
        self.solved, self.rooms, self.rule, self.config, self.seed = solved, rooms, rule, config, seed

    def draw(self, step: int) -> list[Lesson]:
        """One batch of each kind."""
        seed = np.random.SeedSequence([self.seed, step]).generate_state(1, np.uint64)[0] >> np.uint64(1)
        chance, config = Chance(torch.Generator().manual_seed(int(seed))), self.config
        lessons = [Lesson("pseudo", self._pseudo(chance), 1.0)]
        if config.turned > 0:
            at = pick(len(self.solved), config.virtual, chance)
            turned = self.solved[at]
            batch = self._virtual(to_room(turned.points), turned.weight, chance)
            lessons.append(Lesson("turned", batch, config.turned))
        if config.rehearsal > 0 and len(self.rooms):
            motion = self.rooms[pick(len(self.rooms), config.virtual, chance)]
            lessons.append(
                Lesson("rehearsal", self._virtual(motion, torch.ones(motion.shape[:3]), chance), config.rehearsal)
            )
        return lessons

    def _pseudo(self, chance: Chance) -> PairBatch:
        at, others = (pick(len(self.solved), self.config.batch, chance) for _ in range(2))
        own = swap_residuals(self.solved[at], self.solved[others], chance, self.config.swap)
        return self._mirrored(to_batch(own, self.rule), chance)

    def _virtual(self, motion: Tensor, weight: Tensor, chance: Chance) -> PairBatch:
        tilt = rotation_matrix(math.radians(TILT_DEG) * chance.normal(len(motion), 3))
        pivot = motion[:, :1, :1]
        motion = torch.einsum("bac,btjc->btja", tilt, motion - pivot) + pivot
        cameras = place_cameras(motion, chance)
        points = cameras.see(motion)
        xy, score = detect_like(cameras.project(points), cameras.size, chance)
        clips = Solved(xy, score, cameras.size, points, cameras.focal, weight)
        return self._mirrored(to_batch(clips, self.rule), chance)

    def _mirrored(self, batch: PairBatch, chance: Chance) -> PairBatch:
        return batch.flipped(chance.happens(0.5, len(batch.score)))


def to_batch(clips: Solved, rule: framing.Rule) -> PairBatch:
    """Clips framed for a lifter, with the answers it should give: a batch of one view each."""
    frame = framing.frame_clip(clips.xy, clips.score, clips.size, rule)
    seen = (clips.score > 0)[..., None]
    screen = torch.where(seen, framing.to_screen(clips.xy, frame), torch.zeros(()))
    target = framing.from_camera(clips.points, clips.focal, frame).clamp(-FARTHEST, FARTHEST)
    time = torch.zeros(clips.xy.shape[:2])
    return PairBatch(screen[:, None], clips.score[:, None], time, frame, target[:, None], clips.weight[:, None])


def terms(lesson: Lesson, answer: Tensor, config: PhonesConfig) -> dict[str, Tensor]:
    """Position, scale and velocity errors (paper equation 5) and the root's in the picture, weights already in them.

    answer (B, T, J, 3) in screen units; the terms add up to the lesson's part of the loss.
    """
    weights = LossConfig(reprojection=0.0, consistency=0.0, position=1.0, scale=config.scale, velocity=config.velocity)
    answer = lesson.batch.lifted(answer)
    found = losses.total(lesson.batch, answer, weights)
    assert lesson.batch.target is not None
    root = H36M17.root
    found["root"] = losses.length(answer[..., root, :] - lesson.batch.target[..., root, :]).mean() / len(H36M17)
    return {name: lesson.share * value for name, value in found.items()}


def pick(count: int, wanted: int, chance: Chance) -> Tensor:
    """Indices (wanted,) below `count`, each as often as any other, in random order."""
    rounds = [torch.randperm(count, generator=chance.generator) for _ in range(-(-wanted // count))]
    return torch.cat(rounds)[:wanted]


def swap_residuals(own: Solved, other: Solved, chance: Chance, share: float) -> Solved:
    """Clips of which a share gets the 2D errors and scores of other clips, sized to the body in the picture."""
    residual = (other.xy - project(other)) / body_px(other)
    moved = project(own) + residual * body_px(own)
    changed = chance.happens(share, len(own), 1, 1)
    xy = torch.where(changed[..., None], moved, own.xy)
    return replace(own, xy=xy, score=torch.where(changed, other.score, own.score))


def project(clips: Solved) -> Tensor:
    """Pixels (N, T, J, 2) where the solved joints are seen."""
    plane = clips.points[..., :2] / clips.points[..., 2:].clamp(min=0.1)
    return plane * clips.focal[:, None, None, None] + clips.size[:, None, None] / 2


def body_px(clips: Solved) -> Tensor:
    """Size (N, T, 1, 1) of a standing body at the athlete's distance, px."""
    depth = clips.points[:, :, H36M17.root, 2].clamp(min=0.1)
    return (STATURE_M * clips.focal[:, None] / depth)[..., None, None]


def to_room(points: Tensor) -> Tensor:
    """Points before a camera (N, T, J, 3) m -> a room: z up, feet on the floor at 0, the athlete near its middle."""
    x, y, z = points.unbind(-1)
    room = torch.stack([x, z, -y], dim=-1)
    middle = room[..., :2].mean(dim=(1, 2), keepdim=True)
    floor = torch.quantile(room[..., 2].flatten(1), 0.02, dim=1)[:, None, None]
    return torch.cat([room[..., :2] - middle, room[..., 2:] - floor[..., None]], dim=-1)
