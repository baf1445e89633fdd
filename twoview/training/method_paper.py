"""What a run minimizes: the protocol `Objective`, and `Paper`, the paper's own losses on batches of paired clips.

The other objective is `phones.Phones`. Every run also watches monitors, because the loss can fall while the poses get
worse; `warnings` says in plain words what they mean. The names of the numbers are those in `log.jsonl`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from twoview.config import ConsistencyConfig, FinetuneConfig
from twoview.errors import TrainingError
from twoview.geometry.similarity import bone_lengths, fit_similarity, mirrored_fit, rooted
from twoview.lifting.model import Model
from twoview.reconstruction.triangulation import SHARP_DEG, WIDE_DEG
from twoview.training import losses
from twoview.training.clips import Clip, PairBatch, collate, order
from twoview.training.losses import consistency, mean_of_clips, reprojection, rooted_weight, variance

COLLAPSED = 0.6  # of its size, or of its depth to width: a smaller body has collapsed
REVERSED = 0.25  # share of clips whose two views are mirror images
TURNED_DEG = 25.0  # change of the angle between the views against the unadapted lifter
LOOSE_BONES = 1.5  # growth of the spread of bone lengths
FEW_CLIPS = 8
HARM_MM = 1.0


class Objective(Protocol):
    """What a run minimizes. Its warnings are plain sentences about the takes, for the person who filmed them."""

    warnings: tuple[str, ...]

    @property
    def steps(self) -> int:
        """Training steps per epoch."""

    def terms(self, lifter: nn.Module, epoch: int, step: int) -> Mapping[str, Tensor]:
        """Weighted terms of one step, whose sum is minimized: a function of epoch and step, so that runs resume."""

    def validate(self, lifter: nn.Module) -> dict[str, float]:
        """Held-out numbers; the lowest "criterion" chooses the epoch, without 3D truth."""


class Paper:
    """The losses of `LossConfig` on batches of paired clips (paper equations 6 and 8)."""

    def __init__(
        self,
        train: Sequence[Clip],
        held_out: Sequence[Clip],
        model: Model,
        config: FinetuneConfig,
        *,
        judge: Callable[[nn.Module], float] | None = None,
    ) -> None:
        """Raises ConfigError for an unknown term, TrainingError where no term applies to these clips.

        judge  measures a lifter against the two-view 3D of the held-out takes, mm; it chooses nothing
        """
        named = list(losses.weights(config.loss))
        for name in named:
            losses.term(name)
        if not any(clip.truth is not None for clip in train) and set(named) <= set(losses.ON_LABELS):
            raise TrainingError(
                f"the loss terms {', '.join(named) or 'none'} need 3D labels, and no take has any",
                hint="adapt without labels: --method paper, or the default method phones",
            )
        self.train, self.config, self.rule = train, config, model.framing
        self.held_out = [collate(part, model.framing) for part in by_shape(held_out or train)]
        self.steps = -(-len(train) // config.batch)
        self.judge = judge
        self.warnings: tuple[str, ...] = ()

    def terms(self, lifter: nn.Module, epoch: int, step: int) -> Mapping[str, Tensor]:
        """One batch. A term is averaged over the clips that it applies to: those with labels, or all."""
        ids, flips = order(len(self.train), self.config.seed, epoch)
        chosen = ids[step * self.config.batch : (step + 1) * self.config.batch]
        device = next(lifter.parameters()).device
        sums: dict[str, Tensor] = {}
        counts: dict[str, int] = {}
        for group in by_shape([self.train[i] for i in chosen], keys=chosen):
            clips = [self.train[i] for i in group]
            batch = collate(clips, self.rule)
            if self.config.flip:
                batch = batch.flipped(torch.tensor([bool(flips[i]) for i in group]))
            batch = batch.to(device)
            for name, value in losses.total(batch, batch.lifted(lifter(batch.x)), self.config.loss).items():
                sums[name] = sums.get(name, torch.zeros((), device=device)) + value * len(group)
                counts[name] = counts.get(name, 0) + len(group)
        return {name: value / counts[name] for name, value in sums.items()}

    @torch.no_grad()
    def validate(self, lifter: nn.Module) -> dict[str, float]:
        """Monitors on the held-out clips, averaged over their number, and what the judge says."""
        judged = {} if self.judge is None else {"two_view_mm": self.judge(lifter)}
        return {**validate(lifter, self.held_out), **judged}


def by_shape(clips: Sequence[Clip], *, keys: Sequence[Any] | None = None) -> list[list[Any]]:
    """Clips (or their `keys`) that can be one batch: grouped by their views, frames, and whether they have labels."""
    groups: dict[Any, list[Any]] = {}
    for clip, key in zip(clips, clips if keys is None else keys, strict=True):
        groups.setdefault((clip.views, len(clip.time), clip.truth is not None), []).append(key)
    return list(groups.values())


@torch.no_grad()
def validate(lifter: nn.Module, batches: Sequence[PairBatch], *, limit: int = 64) -> dict[str, float]:
    """Monitors of a lifter on batches of paired clips, with the criterion; clips go through it `limit` at a time."""
    lifter.eval()
    device = next(lifter.parameters()).device
    rows, sizes = [], []
    for batch in batches:
        answers = [lifter(part.to(device)) for part in torch.split(batch.x, limit)]
        rows.append(monitors(batch, batch.lifted(torch.cat(answers).cpu().float())))
        sizes.append(len(batch.score))
    means = {k: sum(r[k] * n for r, n in zip(rows, sizes, strict=True)) / sum(sizes) for k in rows[0]}
    return {**means, "criterion": criterion(means)}


@torch.no_grad()
def monitors(batch: PairBatch, predicted: Tensor) -> dict[str, float]:
    """Numbers of one batch, predicted (B, V, T, J, 3), screen units. None needs 3D truth.

    Only frames that show the athlete count.
    """
    points, weight, shown = rooted(predicted).double(), rooted_weight(batch.score).double(), batch.shown
    free = ConsistencyConfig(scale="frame")
    lengths, joints = bone_lengths(points), points.shape[3]
    mean_length = (lengths * shown[..., None]).sum(dim=2) / shown.sum(dim=2)[..., None].clamp(min=1)
    spread = variance(lengths, shown, correction=0).sqrt() / mean_length.clamp(min=1e-9)
    flat = [(points[:, v].flatten(1, 2), weight[:, v].flatten(1)) for v in range(points.shape[1])]
    first, first_weight = flat[0]
    turns, scales, mirrored = [], [], []
    for other, other_weight in flat[1:]:
        both = first_weight * other_weight
        fitted = fit_similarity(first, other, both)
        trace = fitted.rotation.diagonal(dim1=-2, dim2=-1).sum(dim=-1)
        turns.append(torch.acos(((trace - 1) / 2).clamp(-1, 1)))
        scales.append(fitted.scale)
        mirrored.append(mirrored_fit(first, other, both).double())
    deviation = variance(points.flatten(2, 3), shown.repeat_interleave(joints, dim=2)).sqrt()
    return {
        "reprojection": float(reprojection(batch, predicted)),
        "consistency": float(consistency(batch, predicted)),
        "disagreement": float(consistency(batch, predicted, free)),
        "radius": float(mean_of_clips(points.square().sum(dim=-1), shown[..., None]).sqrt()),
        "depth_to_width": float((deviation[..., 2] / deviation[..., 0].clamp(min=1e-9)).median()),
        "bone_spread": float(spread.mean()),
        "movement": float(variance(points, shown).sqrt().mean()),
        "angle_deg": math.degrees(float(torch.stack(turns).median())) if turns else float("nan"),
        "scale": float(torch.stack(scales).median()) if scales else float("nan"),
        "mirrored": float(torch.stack(mirrored).mean()) if mirrored else 0.0,
    }


def criterion(means: Mapping[str, float]) -> float:
    """One number to choose an epoch by without 3D truth, lower is better: views agree and bones keep their lengths.

    All parts are shares of the body's size, so that shrinking the body gains nothing.
    """
    return means["disagreement"] + means["bone_spread"] + means["reprojection"] / max(means["radius"], 1e-9)


def warnings(before: Mapping[str, float], after: Mapping[str, float], *, clips: int) -> list[str]:
    """Plain sentences on what the numbers before and after adaptation mean for the person who films."""
    found = []
    angle, turned = before["angle_deg"], abs(after["angle_deg"] - before["angle_deg"])
    if clips < FEW_CLIPS:
        found.append(
            f"only {clips} clips to learn from; with fewer than {FEW_CLIPS} little can be learned: film more "
            "repetitions"
        )
    if angle < SHARP_DEG or angle > WIDE_DEG:
        found.append(
            f"the two phones stood about {angle:.0f} degrees apart around the athlete, where the second view tells "
            "little about depth; about 90 degrees is best"
        )
    if after["radius"] < COLLAPSED * before["radius"]:
        share = after["radius"] / before["radius"]
        found.append(f"the body shrank to {share:.0%} of its size: the adaptation collapsed")
    if after["depth_to_width"] < COLLAPSED * before["depth_to_width"]:
        found.append("the body became flat: its depth fell relative to its width; do not trust the adapted model")
    if after["movement"] < COLLAPSED * before["movement"]:
        found.append("the poses move much less than before: the adaptation learned a constant pose")
    if after["mirrored"] > max(REVERSED, before["mirrored"] + 0.1):
        found.append(
            f"in {after['mirrored']:.0%} of the clips the two views are mirror images, so depth is reversed in one of "
            "them; check that left and right are not swapped in the detections"
        )
    if turned > TURNED_DEG:
        found.append(
            f"the angle between the views drifted by {turned:.0f} degrees during adaptation, which the loss cannot see"
        )
    known, now = before.get("two_view_mm", 0.0), after.get("two_view_mm", 0.0)
    if now > known + HARM_MM:
        found.append(
            f"the poses moved away from the two-view 3D of the held-out takes, from {known:.0f} to {now:.0f} mm: the "
            "views agree more, and are less right; the paper's loss harms here, --method phones learns from that 3D"
        )
    if after["bone_spread"] > LOOSE_BONES * max(before["bone_spread"], 0.02):
        found.append("bone lengths vary more than before: a sign of wrong depth or of a bad sync")
    return found
