"""The method `phones`: adapt a lifter by 3D that the user's own pairs of views give, with nothing measured.

The takes are triangulated (`triangulation`), cut into clips with answers, and taught in `lessons`; what the lifter knew
is rehearsed on generic clips. `Phones` is the objective that `training.finetune` minimises. Held-out clips are judged
against their own triangulation, which needs no 3D truth and follows the true error closely.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from twoview.bundle import BODY_M
from twoview.checkpoint import Model
from twoview.clips import Clip, Take, collate
from twoview.config import FinetuneConfig, PhonesConfig
from twoview.geometry import bone_lengths, rooted
from twoview.inference import lift
from twoview.lessons import Lessons, Solved, terms, to_batch, to_room
from twoview.objectives import by_views, judge
from twoview.poses import Poses2D
from twoview.progress import OnProgress
from twoview.skeleton import H36M17
from twoview.timeline import common_grid
from twoview.triangulation import Triangulation, triangulate_takes

REHEARSAL = Path(__file__).parent / "assets" / "rehearsal" / "everyday.npz"
Stretches = Mapping[str, tuple[float, float]]  # take -> session seconds, first to last


class Phones:
    """The objective of the method `phones`; see `objectives.Objective`.

    found     every take's triangulation
    warnings  what they say, for the person who films
    """

    def __init__(
        self,
        takes: Sequence[Take],
        train: Sequence[Clip],
        held: Sequence[Clip],
        model: Model,
        config: FinetuneConfig,
        on_progress: OnProgress | None = None,
        *,
        found: Sequence[Triangulation] | None = None,
    ) -> None:
        """Triangulate the takes, unless they are `found` already, and prepare the lessons."""
        self.config = config.phones
        self.steps = -(-self.config.steps // config.epochs)
        views = {clip.take: clip.views for clip in [*train, *held]}
        takes = [replace(t, poses={v: t.poses[v] for v in views[t.name]}) for t in takes if t.name in views]
        short = [t.name for t in takes if common_frames(t, model.rate_hz) < self.config.frames]
        takes = [t for t in takes if t.name not in short]
        settings = self.config.triangulate
        self.found = found or triangulate_takes(takes, model, config=settings, on_progress=on_progress)
        left_out = [f"take {name} is left out: its views share less than {self.config.frames} frames" for name in short]
        self.warnings = (*left_out, *(f"take {f.take}: {said}" for f in self.found for said in f.warnings))
        taught, asked = stretches(train), stretches(held or train)
        rooms = rehearsal_rooms([*generic_clips(), *own_clips(takes, taught)], model, self.config.frames)
        solved = solved_clips(takes, self.found, taught, self.config)
        self.lessons = Lessons(solved, rooms, model.framing, self.config, config.seed)
        self.watched = [collate(part, model.framing) for part in by_views(held or train)]
        exam = solved_clips(takes, self.found, asked, self.config)
        self.exam = exam if len(exam) else solved  # a held-out take may be too short
        self.exam_batch = to_batch(self.exam, model.framing)

    def terms(self, lifter: nn.Module, epoch: int, step: int) -> Mapping[str, Tensor]:
        """The weighted terms of one step's lessons, each kind of lesson by its name."""
        device = next(lifter.parameters()).device
        lessons = self.lessons.draw(epoch * self.steps + step)
        answers = lifter(torch.cat([lesson.batch.x for lesson in lessons]).to(device)).float()
        parts = answers.split([len(lesson.batch.x) for lesson in lessons])
        found: dict[str, Tensor] = {}
        for lesson, answer in zip(lessons, parts, strict=True):
            own = terms(replace(lesson, batch=lesson.batch.to(device)), answer, self.config)
            found |= {f"{lesson.name}_{name}": value for name, value in own.items()}
        return found

    @torch.no_grad()
    def judge(self, lifter: nn.Module) -> Mapping[str, float]:
        """The monitors; and as criterion the held-out clips' error against their triangulation, mm of a 1.75 m body."""
        watched, device = judge(lifter, self.watched), next(lifter.parameters()).device
        answer = torch.cat([lifter(x.to(device)).cpu().float() for x in self.exam_batch.x.split(64)])
        target, weight = self.exam_batch.target, self.exam_batch.target_weight
        assert target is not None
        assert weight is not None
        frame, depth = self.exam_batch.framing, self.exam.points[:, :, H36M17.root, 2]
        metres = (depth * (frame.scale / self.exam.focal)[:, None])[..., None]
        error = (rooted(answer) - rooted(target[:, 0])).norm(dim=-1) * metres
        return {**watched, "criterion": float(1000 * (error * weight[:, 0]).sum() / weight.sum().clamp(min=1e-9))}


def common_frames(take: Take, rate: float) -> int:
    """How many frames at `rate` a second all views of a take share."""
    return len(common_grid(take.sync, {view: poses.time for view, poses in take.poses.items()}, rate=rate))


def stretches(clips: Sequence[Clip]) -> Stretches:
    """The part of each take that some clips cover."""
    found: dict[str, tuple[float, float]] = {}
    for clip in clips:
        first, last = found.get(clip.take, (np.inf, -np.inf))
        found[clip.take] = min(first, float(clip.time[0])), max(last, float(clip.time[-1]))
    return found


def solved_clips(
    takes: Sequence[Take], found: Sequence[Triangulation], parts: Stretches, config: PhonesConfig
) -> Solved:
    """Clips, half overlapping, of every view of those parts of the triangulated takes.

    A joint's weight falls with its doubt: one half at `config.doubt_m`. Frames that are not reliable weigh nothing.
    """
    length, clips = config.frames, []
    for take, result in zip(takes, found, strict=True):
        first, last = parts.get(take.name, (np.inf, -np.inf))
        inside = np.flatnonzero((result.time >= first - 1e-6) & (result.time <= last + 1e-6))
        if len(inside) < length:
            continue
        trust = result.reliable[:, None] / (1 + (result.sigma / config.doubt_m) ** 2)
        starts = np.unique([*range(inside[0], inside[-1] + 1 - length, max(length // 2, 1)), inside[-1] + 1 - length])
        frames = starts[:, None] + np.arange(length)
        for view in result.views:
            poses = take.poses[view].to(H36M17).at(result.view_time[view])
            arrays = (np.nan_to_num(poses.xy), poses.score, result.points[view], trust)
            xy, score, points, weight = (torch.from_numpy(a[frames]).float() for a in arrays)
            size = torch.tensor(poses.size).float().expand(len(starts), 2)
            clips.append(Solved(xy, score, size, points, torch.full((len(starts),), result.focal_px[view]), weight))
    if not clips:
        none = torch.zeros(0, length, len(H36M17), 3)
        return Solved(none[..., :2], none[..., 0], none[:, 0, 0, :2], none, none[:, 0, 0, 0], none[..., 0])
    return Solved(*(torch.cat([getattr(clip, f.name) for clip in clips]) for f in fields(Solved)))


def own_clips(takes: Sequence[Take], parts: Stretches) -> list[Poses2D]:
    """The 2D poses of every view of those parts of the takes."""
    found = []
    for take in takes:
        if take.name in parts:
            for view, poses in take.poses.items():
                first, last = take.sync.to_view(view, np.array(parts[take.name]))
                found.append(poses.between(first, last))
    return found


def generic_clips(path: Path = REHEARSAL) -> list[Poses2D]:
    """The 2D clips of everyday movement that ship with the package, to rehearse on."""
    if not path.exists():
        return []
    with np.load(path, allow_pickle=False) as arrays:
        xy, score, size = arrays["xy"].astype(np.float32) / 8, arrays["score"].astype(np.float32) / 255, arrays["size"]
        ends, rate = arrays["ends"], float(arrays["rate"])
    xy = np.where(score[..., None] > 0, xy, np.nan)
    starts = [0, *ends[:-1]]
    return [
        Poses2D(xy[a:b], score[a:b], np.arange(b - a) / rate, H36M17, (int(w), int(h)))
        for a, b, (w, h) in zip(starts, ends, size, strict=True)
    ]


def rehearsal_rooms(clips: Sequence[Poses2D], model: Model, length: int) -> Tensor:
    """The lifter's own 3D of clips as motion in rooms (M, T, J, 3) m, z up, of a body of common size."""
    rooms = []
    for poses in clips:
        grid = np.arange(poses.time[0], poses.time[-1] + 1e-9, 1 / model.rate_hz) if len(poses) else poses.time
        lifted = lift(model, poses.at(grid)).xyz
        whole = np.isfinite(lifted).all(axis=(1, 2))
        windows = [slice(at, at + length) for at in range(0, len(lifted) - length + 1, length)]
        rooms += [torch.tensor(lifted[window]) for window in windows if whole[window].all()]
    if not rooms:
        return torch.zeros(0, length, len(H36M17), 3)
    motion = torch.stack(rooms)
    size = bone_lengths(motion).sum(dim=-1).mean(dim=1)
    return to_room(motion * (BODY_M / size)[:, None, None, None])
