"""From takes to batches: windows on the session clock, every view of them at the same moments.

The only place where unseen joints (NaN) become zeros with score 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy import ndarray as Array
from torch import Tensor

from twoview.geometry.framing import Framing, Rule, frame_clip, from_camera, to_screen
from twoview.geometry.similarity import mirror
from twoview.skeleton import H36M17
from twoview.takes import Take
from twoview.timeline import common_grid

MIN_SEEN = 0.5  # a clip in which a view saw less than this share of joints teaches nothing


@dataclass(frozen=True, eq=False)
class Clip:
    """A window of one take at a fixed rate.

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
    target   (B, V, T, J, 3)  what the lifter should answer, or None; believed by target_weight (B, V, T, J)
    """

    screen: Tensor
    score: Tensor
    time: Tensor
    framing: Framing
    target: Tensor | None = None
    target_weight: Tensor | None = None

    @property
    def x(self) -> Tensor:
        """What a lifter reads: (B * V, T, J, 3)."""
        return torch.cat([self.screen, self.score[..., None]], dim=-1).flatten(0, 1)

    def lifted(self, answer: Tensor) -> Tensor:
        """A lifter's answer (B * V, T, J, 3) as (B, V, T, J, 3)."""
        return answer.unflatten(0, self.score.shape[:2])

    def to(self, device: torch.device | str) -> PairBatch:
        """The same on another device."""
        target = None if self.target is None else self.target.to(device)
        weight = None if self.target_weight is None else self.target_weight.to(device)
        inputs = (self.screen.to(device), self.score.to(device), self.time.to(device), self.framing.to(device))
        return PairBatch(*inputs, target, weight)

    def flipped(self, which: Tensor) -> PairBatch:
        """All views of the clips chosen by `which` (B,) bool mirrored together; independent flips would break L_con."""

        def turn(value: Tensor | None, points: bool) -> Tensor | None:
            if value is None:
                return None
            other = mirror(value) if points else value[..., list(H36M17.flip_order)]
            return torch.where(which.reshape(-1, *[1] * (value.ndim - 1)), other, value)

        screen, score, target = turn(self.screen, True), turn(self.score, False), turn(self.target, True)
        assert screen is not None
        assert score is not None
        return PairBatch(screen, score, self.time, self.framing, target, turn(self.target_weight, False))


def cut(take: Take, *, views: Sequence[str] | None = None, length: int, rate: float, stride: float = 0.5) -> list[Clip]:
    """Windows of `length` frames at `rate` Hz that all `views` saw, one every `stride` lengths.

    The last window ends with the take; a take shorter than a window gives one clip, filled up with unseen frames.
    Windows in which a view saw less than half of the joints are left out. Raises SyncError where views do not overlap.
    """
    names = tuple(views or take.views)
    flat = {view: take.poses[view].to(H36M17) for view in names}
    grid = common_grid(take.sync, {view: flat[view].time for view in names}, rate=rate)
    at = {view: take.sync.to_view(view, grid) for view in names}
    poses = [flat[view].at(at[view]) for view in names]
    xy = np.stack([np.nan_to_num(p.xy) for p in poses])
    score = np.stack([p.score for p in poses])
    size = np.array([p.size for p in poses], np.float32)
    truth, weight = _truth(take, names, at)
    focal = np.array([take.focal[view] for view in names], np.float32) if take.focal and truth is not None else None
    clips = []
    for start in _starts(len(grid), length, stride):
        window = slice(start, start + length)
        if (score[:, window] > 0).mean(axis=(1, 2)).min() < MIN_SEEN:
            continue
        time = grid[start] + np.arange(length) / rate
        solid = None if truth is None else _filled(truth[:, window], length)
        believed = None if weight is None else _filled(weight[:, window], length)
        window_xy, window_score = _filled(xy[:, window], length), _filled(score[:, window], length)
        clips.append(Clip(take.name, names, time, window_xy, window_score, size, solid, believed, focal))
    return clips


def _starts(count: int, length: int, stride: float) -> list[int]:
    if count <= length:
        return [0]
    step = max(round(length * stride), 1)
    return sorted({*range(0, count - length, step), count - length})


def _filled(values: Array, length: int) -> Array:
    """Frames along axis 1 filled up with zeros."""
    missing = length - values.shape[1]
    return np.pad(values, [(0, 0), (0, missing), *[(0, 0)] * (values.ndim - 2)]) if missing else values


def _truth(take: Take, views: Sequence[str], at: Mapping[str, Array]) -> tuple[Array | None, Array | None]:
    if take.truth is None or any(view not in take.truth for view in views):
        return None, None
    solid = np.stack([take.truth[view].at(at[view]).xyz for view in views])
    known = np.isfinite(solid).all(axis=-1)
    return np.where(known[..., None], solid, 0.0).astype(np.float32), known.astype(np.float32)


def collate(clips: Sequence[Clip], rule: Rule) -> PairBatch:
    """Clips with the same number of views as one batch, framed by the lifter's rule.

    Labels are taken as of a camera with the default focal length unless the clip names its own.
    """
    xy = torch.from_numpy(np.stack([c.xy for c in clips])).float()
    score = torch.from_numpy(np.stack([c.score for c in clips])).float()
    size = torch.from_numpy(np.stack([c.size for c in clips])).float().flatten(0, 1)
    count, views = score.shape[:2]
    framing = frame_clip(xy.flatten(0, 1), score.flatten(0, 1), size, rule)
    screen = to_screen(xy.flatten(0, 1), framing).unflatten(0, (count, views))
    screen = torch.where((score > 0)[..., None], screen, torch.zeros(()))
    target, weight = None, None
    if any(c.truth is not None for c in clips):
        blank = np.zeros((*clips[0].score.shape, 3), np.float32)
        solid = torch.from_numpy(np.stack([blank if c.truth is None else c.truth for c in clips])).float()
        known = [np.zeros_like(c.score) if c.truth_weight is None else c.truth_weight for c in clips]
        weight = torch.from_numpy(np.stack(known)).float()
        focal = framing.focal
        if all(c.focal is not None for c in clips if c.truth is not None):
            own = [np.zeros(views) if c.focal is None else c.focal for c in clips]
            named = torch.from_numpy(np.concatenate(own)).float()
            focal = torch.where(named > 0, named, focal)
        answer = from_camera(solid.flatten(0, 1), focal, framing).unflatten(0, (count, views))
        target = torch.where((weight > 0)[..., None], answer, torch.zeros(()))
    time = torch.from_numpy(np.stack([c.time for c in clips]))
    return PairBatch(screen, score, time, framing, target, weight)


def hold_out(clips: Sequence[Clip], share: float) -> tuple[list[Clip], list[Clip]]:
    """Training and held-out clips: the last takes, or the last clips where there is one take.

    Clips of one take overlap, so those of a single take that reach into the held-out part are dropped. With a share of
    0, or nothing left to hold out, the held-out part is empty.
    """
    takes = list(dict.fromkeys(clip.take for clip in clips))
    if share <= 0 or len(clips) < 2:
        return list(clips), []
    if len(takes) > 1:
        kept = max(len(takes) - max(round(len(takes) * share), 1), 1)
        last = set(takes[kept:])
        return [c for c in clips if c.take not in last], [c for c in clips if c.take in last]
    count = min(max(round(len(clips) * share), 1), len(clips) - 1)
    held = list(clips[len(clips) - count :])
    train = [clip for clip in clips[: len(clips) - count] if clip.time[-1] < held[0].time[0]]
    return train or list(clips[: len(clips) - count]), held


def order(count: int, seed: int, epoch: int) -> tuple[list[int], Array]:
    """Order of `count` clips and which are mirrored in an epoch: a pure function, so resuming needs no state."""
    random = np.random.default_rng((seed, epoch))
    return random.permutation(count).tolist(), random.random(count) < 0.5
