"""What a run minimises: the protocol of an objective, and the paper's own losses on batches of paired clips.

The other objective, `adaptation.Phones`, teaches the method `phones`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from twoview import losses, monitors
from twoview.checkpoint import Model
from twoview.clips import Clip, collate, order
from twoview.config import FinetuneConfig
from twoview.errors import TrainingError


class Objective(Protocol):
    """What a run minimises.

    steps   training steps an epoch
    terms   the weighted loss terms of one step, whose sum is minimised; a pure function of epoch and step, so that a
            resumed run draws the same
    judge   numbers on held-out clips; "criterion" among them (lower is better, no 3D truth) chooses the epoch
    warnings  plain sentences about the takes, for the person who filmed them
    """

    steps: int
    warnings: tuple[str, ...]

    def terms(self, lifter: nn.Module, epoch: int, step: int) -> Mapping[str, Tensor]:
        """Weighted terms of one step."""

    def judge(self, lifter: nn.Module) -> Mapping[str, float]:
        """Held-out numbers."""


class Paper:
    """The losses of `LossConfig` on batches of paired clips (paper equations 6 and 8)."""

    def __init__(self, train: Sequence[Clip], held: Sequence[Clip], model: Model, config: FinetuneConfig) -> None:
        """Raises ConfigError for a term that there is not, TrainingError where no term speaks of these clips."""
        named = list(losses.weights(config.loss))
        for name in named:
            losses.term(name)
        if not any(clip.truth is not None for clip in train) and set(named) <= set(losses.ON_LABELS):
            raise TrainingError(
                f"the loss terms {', '.join(named) or 'none'} need 3D labels, and no take has any",
                hint="adapt without labels: --config paper_sportspose, or the default method phones",
            )
        self.train, self.config, self.rule = train, config, model.framing
        self.held = [collate(part, model.framing) for part in by_views(held or train)]
        self.steps = -(-len(train) // config.batch)
        self.warnings: tuple[str, ...] = ()

    def terms(self, lifter: nn.Module, epoch: int, step: int) -> Mapping[str, Tensor]:
        """One batch. A term is averaged over the clips that it speaks of: those with labels, or all."""
        ids, flips = order(len(self.train), self.config.seed, epoch)
        chosen = ids[step * self.config.batch : (step + 1) * self.config.batch]
        device = next(lifter.parameters()).device
        sums: dict[str, Tensor] = {}
        counts: dict[str, int] = {}
        for group in by_views([self.train[i] for i in chosen], keys=chosen):
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
    def judge(self, lifter: nn.Module) -> Mapping[str, float]:
        """Monitors on the held-out clips, averaged over their number."""
        return judge(lifter, self.held)


def by_views(clips: Sequence[Clip], *, keys: Sequence[Any] | None = None) -> list[list[Any]]:
    """Clips (or their `keys`) grouped by their views: those in one batch need the same number, and labels or none."""
    groups: dict[Any, list[Any]] = {}
    for clip, key in zip(clips, clips if keys is None else keys, strict=True):
        groups.setdefault((clip.views, clip.truth is not None), []).append(key)
    return list(groups.values())


@torch.no_grad()
def judge(lifter: nn.Module, batches: Sequence[Any], *, limit: int = 64) -> dict[str, float]:
    """Monitors of a lifter on batches of paired clips, with the criterion; clips go through it `limit` at a time."""
    lifter.eval()
    device = next(lifter.parameters()).device
    rows, sizes = [], []
    for batch in batches:
        answers = [lifter(part.to(device)) for part in batch.x.split(limit)]
        rows.append(monitors.watch(batch, batch.lifted(torch.cat(answers).cpu().float())))
        sizes.append(len(batch.score))
    watched = {k: sum(r[k] * n for r, n in zip(rows, sizes, strict=True)) / sum(sizes) for k in rows[0]}
    return {**watched, "criterion": monitors.criterion(watched)}
