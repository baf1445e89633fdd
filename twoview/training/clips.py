"""From resampled takes to batches: clips of up to the lifter's length, every view at the same moments."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy import ndarray as Array
from torch import Tensor

from twoview.geometry.framing import Framing, Rule, frame_clip, from_camera, to_screen
from twoview.geometry.similarity import mirror
from twoview.skeleton import H36M17
from twoview.takes import ResampledTake

MIN_SEEN = 0.5  # least share of joints that every view of a clip saw


@dataclass(frozen=True, eq=False)
class Clip:
    """A piece of one take at a fixed rate, used in training.

    time   (T,)          session seconds
    xy     (V, T, J, 2)  px, 0 where unseen; score (V, T, J); size (V, 2) px
    truth  (V, T, J, 3)  m before each camera, or None; 0 with truth_weight (V, T, J) 0 where unknown
    focal  (V,) px       of the cameras behind the truth
    """

    take: str
    views: tuple[str, ...]
    time: Array
    xy: Array
    score: Array
    size: Array
    truth: Array | None = None
    truth_weight: Array | None = None
    focal: Array | None = None


@dataclass(frozen=True, eq=False)
class PairBatch:
    """Clips with all their views, as a lifter reads them. B clips, V views, T frames, J joints.

    screen   (B, V, T, J, 2)  screen units of each view's own frame, 0 where unseen
    score    (B, V, T, J)     0 where unseen
    time     (B, T)           session seconds
    framing  of the B * V single-view clips, in that order
    target   (B, V, T, J, 3)  what the lifter should answer, or None; weighted by target_weight (B, V, T, J)
    """

    screen: Tensor
    score: Tensor
    time: Tensor
    framing: Framing
    target: Tensor | None = None
    target_weight: Tensor | None = None

    @property
    def shown(self) -> Tensor:
        """Whether a frame shows the athlete, (B, V, T) bool: any joint was seen. Other frames count in no loss."""
        return (self.score > 0).any(dim=-1)

    @property
    def x(self) -> Tensor:
        """What a lifter reads: (B * V, T, J, 3)."""
        return torch.cat([self.screen, self.score[..., None]], dim=-1).flatten(0, 1)

    def lifted(self, answer: Tensor) -> Tensor:
        """A lifter's answer (B * V, T, J, 3) as (B, V, T, J, 3)."""
        return answer.reshape(*self.score.shape[:2], *answer.shape[1:])

    def to(self, device: torch.device | str) -> PairBatch:
        """The same on another device."""
        moved: dict[str, Any] = {k: None if value is None else value.to(device) for k, value in vars(self).items()}
        return PairBatch(**moved)

    def flipped(self, which: Tensor) -> PairBatch:
        """The clips of `which` (B,) bool with all views mirrored together; independent flips would break L_con."""

        def turned(name: str) -> Tensor | None:
            value: Tensor | None = getattr(self, name)
            if value is None:
                return None
            other = value[..., list(H36M17.flip_order)] if name in ("score", "target_weight") else mirror(value)
            return torch.where(which.reshape(-1, *[1] * (value.ndim - 1)), other, value)

        changed: dict[str, Any] = {n: turned(n) for n in ("screen", "score", "target", "target_weight")}
        return replace(self, **changed)


def cut(grid: ResampledTake, *, length: int, stride: float = 0.5) -> list[Clip]:
    """Clips of `length` frames that all views of a take saw, one every `stride` lengths.

    The last clip ends with the take; a take shorter than a clip gives one clip of its own length.
    Clips in which a view saw less than half of the joints are left out.
    """
    length = min(length, len(grid.time))
    focal = grid.take.focal
    truth, weight = _truth(grid)
    focal_px = None if truth is None or not focal else np.array([focal[view] for view in grid.views], np.float32)
    clips = []
    last = len(grid.time) - length
    for start in [*range(0, last, max(round(length * stride), 1)), last]:
        window = slice(start, start + length)
        if (grid.score[:, window] > 0).mean(axis=(1, 2)).min() < MIN_SEEN:
            continue
        clip = Clip(
            grid.take.name,
            grid.views,
            grid.time[window],
            grid.xy[:, window],
            grid.score[:, window],
            grid.size.astype(np.float32),
            None if truth is None else truth[:, window],
            None if weight is None else weight[:, window],
            focal_px,
        )
        clips.append(clip)
    return clips


def _truth(grid: ResampledTake) -> tuple[Array | None, Array | None]:
    """True points (V, S, J, 3) m and their weights (V, S, J), or None for a take without truth of all views."""
    truth = grid.take.truth
    if truth is None or any(view not in truth for view in grid.views):
        return None, None
    points = np.stack([truth[view].at(grid.view_time[view]).xyz for view in grid.views])
    known = np.isfinite(points).all(axis=-1)
    return np.where(known[..., None], points, 0.0).astype(np.float32), known.astype(np.float32)


def collate(clips: Sequence[Clip], rule: Rule) -> PairBatch:
    """Clips of one length with the same number of views, all labeled or none, as one batch, framed by a lifter's rule.

    Labels are taken as of a camera with the default focal length unless the clip names its own.
    """

    def stacked(name: str) -> Tensor:
        return torch.from_numpy(np.stack([getattr(clip, name) for clip in clips]))

    xy, score, size = (stacked(name).float() for name in ("xy", "score", "size"))
    framing = frame_clip(xy.flatten(0, 1), score.flatten(0, 1), size.flatten(0, 1), rule)
    screen = to_screen(xy.flatten(0, 1), framing).view_as(xy)
    screen = torch.where((score > 0)[..., None], screen, torch.zeros(()))
    target, weight = None, None
    if clips[0].truth is not None:
        points, weight = stacked("truth").float(), stacked("truth_weight").float()
        named = all(clip.focal is not None for clip in clips)
        focal = stacked("focal").float().flatten() if named else framing.focal
        answer = from_camera(points.flatten(0, 1), focal, framing).view_as(points)
        target = torch.where((weight > 0)[..., None], answer, torch.zeros(()))
    return PairBatch(screen, score, stacked("time"), framing, target, weight)


def hold_out(clips: Sequence[Clip], share: float, chosen: Collection[str] = ()) -> tuple[list[Clip], list[Clip]]:
    """Training and held-out clips: the `chosen` takes, else the last takes, or the last clips where there is one take.

    Clips of one take overlap, so those of a single take that reach into the held-out part are dropped. With a share of
    0, or nothing left to hold out, the held-out part is empty.
    """
    if chosen:
        return [c for c in clips if c.take not in chosen], [c for c in clips if c.take in chosen]
    takes = list(dict.fromkeys(clip.take for clip in clips))
    if share <= 0 or len(clips) < 2:
        return list(clips), []
    if len(takes) > 1:
        kept = max(len(takes) - max(round(len(takes) * share), 1), 1)
        last = set(takes[kept:])
        return [c for c in clips if c.take not in last], [c for c in clips if c.take in last]
    count = min(max(round(len(clips) * share), 1), len(clips) - 1)
    held = list(clips[len(clips) - count :])
    train = [clip for clip in clips if clip.time[-1] < held[0].time[0]]
    return train or list(clips[: len(clips) - count]), held


def of_every_athlete(athlete: Mapping[str, str], share: float) -> tuple[str, ...]:
    """Takes to hold out for a share of all, of as many athletes as that reaches, their last ones; `athlete` by take.

    Every athlete who has two takes keeps one to learn from.
    """
    takes: dict[str, list[str]] = {}
    for take, who in athlete.items():
        takes.setdefault(who, []).append(take)
    wanted, found = max(round(len(athlete) * share), 1) if share > 0 else 0, list[str]()
    most = max(map(len, takes.values()), default=0)
    for turn in range(1, most):
        found += [own[-turn] for own in takes.values() if len(own) > turn]
    return tuple(found[:wanted])


def order(count: int, seed: int, epoch: int) -> tuple[list[int], Array]:
    """Order of `count` clips and which are mirrored in an epoch: a pure function, so resuming needs no state."""
    random = np.random.default_rng((seed, epoch))
    return random.permutation(count).tolist(), random.random(count) < 0.5


def step_seed(seed: int, step: int) -> int:
    """The seed of one training step, far from those of neighboring steps and runs."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> np.uint64(1))
