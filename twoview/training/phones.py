"""Lessons for a lifter: batches of single-view clips with the 3D that it should answer, drawn anew in every step.

pseudo     every view of the filmed takes with the triangulated 3D; in most of them the detector's errors are those of
           another clip, so that they cannot be learnt by heart
turned     the same 3D seen by virtual phones from anywhere, with a virtual detector's errors
rehearsal  generic motion by virtual phones, to be answered as the unadapted lifter does: what it knew is not forgotten

The method `phones`: adapt a lifter by 3D that the user's own pairs of views give, with nothing measured.

The takes are triangulated (`triangulation`), cut into clips with answers, and taught in `lessons`; what the lifter knew
is rehearsed on generic clips. `Phones` is the objective that `training.finetune` minimizes. Held-out clips are judged
against their own triangulation, which needs no 3D truth and follows the true error closely.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from twoview.config import FinetuneConfig, LossConfig, PhonesConfig, TriangulateConfig
from twoview.errors import TrainingError
from twoview.geometry import cameras, framing
from twoview.geometry.similarity import bone_lengths, rooted
from twoview.lifting.inference import lift
from twoview.lifting.model import Model
from twoview.poses import Poses2D
from twoview.progress import OnProgress
from twoview.reconstruction.triangulation import Triangulation, triangulate_takes
from twoview.skeleton import BODY_M, H36M17, STATURE_M
from twoview.storage.weights import ASSETS
from twoview.takes import Take, chosen_views
from twoview.timeline import common_grid
from twoview.training import distributed, losses
from twoview.training.clips import Clip, PairBatch, collate
from twoview.training.losses import consistency
from twoview.training.paper import by_views, judge
from twoview.training.virtual_cameras import NEAREST_M, Chance, render, rotation_matrix

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
        seen = render(motion, chance)
        clips = Solved(seen.xy, seen.score, seen.cameras.size, seen.points, seen.cameras.focal, weight)
        return self._mirrored(to_batch(clips, self.rule), chance)

    def _mirrored(self, batch: PairBatch, chance: Chance) -> PairBatch:
        return batch.flipped(chance.happens(0.5, len(batch.score)))


def to_batch(clips: Solved, rule: framing.Rule) -> PairBatch:
    """Clips framed for a lifter, with the answers it should give: a batch of one view each."""
    found = framing.label_clips(clips.xy, clips.score, clips.size, clips.points, clips.focal, rule)
    screen, target = found.screen[:, None], found.label[:, None].clamp(-FARTHEST, FARTHEST)
    time = torch.zeros(clips.xy.shape[:2])
    return PairBatch(screen, clips.score[:, None], time, found.framing, target, clips.weight[:, None])


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
    seen = cameras.project(clips.points, clips.focal[:, None, None, None], nearest=NEAREST_M)
    return seen + cameras.screen_origin(clips.size)[:, None, None]


def body_px(clips: Solved) -> Tensor:
    """Size (N, T, 1, 1) of a standing body at the athlete's distance, px."""
    depth = clips.points[:, :, H36M17.root, 2].clamp(min=NEAREST_M)
    return (STATURE_M * clips.focal[:, None] / depth)[..., None, None]


def to_room(points: Tensor) -> Tensor:
    """Points before a camera (N, T, J, 3) m -> a room: z up, feet on the floor at 0, the athlete near its middle."""
    x, y, z = points.unbind(-1)
    room = torch.stack([x, z, -y], dim=-1)
    middle = room[..., :2].mean(dim=(1, 2), keepdim=True)
    floor = torch.quantile(room[..., 2].flatten(1), 0.02, dim=1)[:, None, None]
    return torch.cat([room[..., :2] - middle, room[..., 2:] - floor[..., None]], dim=-1)


REHEARSAL = ASSETS / "rehearsal" / "everyday.npz"
TAKES_AT_ONCE = 24  # enough to find an athlete's bones and a phone's lens from, and few enough to keep in memory
EXAM = 512  # clips at most that every epoch is judged on
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
        triangulation: TriangulateConfig | None = None,
        folder: Path | None = None,
    ) -> None:
        """Triangulate the takes, unless they are `found` already, and prepare the lessons.

        What is taught is kept in `folder`, and read from there clip by clip; without one it is kept in memory.
        """
        self.config, self.teacher = config.phones, copy.deepcopy(model.lifter).eval()
        self.train, self.seed, self.rule = train, config.seed, model.framing
        self.half = distributed.precision_of(config, model.name) != "fp32"
        self.steps = self.config.steps_per_epoch
        views = {clip.take: clip.views for clip in [*train, *held]}
        takes = [replace(t, poses=chosen_views(t.poses, views[t.name])) for t in takes if t.name in views]
        short = [t.name for t in takes if common_frames(t, model.rate_hz) < self.config.frames]
        takes = [t for t in takes if t.name not in short]
        said = [f"take {name} is left out: its views share less than {self.config.frames} frames" for name in short]
        known = None if found is None else {f.take: f for f in found}
        taught, asked = stretches(train), stretches(held or train)
        lessons, exam = Shelf(folder, "lessons"), Shelf(None, "exam")
        for start in range(0, len(takes), TAKES_AT_ONCE):
            some = takes[start : start + TAKES_AT_ONCE]
            solved = (
                [known[t.name] for t in some]
                if known
                else triangulate_takes(some, model, config=triangulation, on_progress=on_progress)
            )
            said += [f"take {f.take}: {sentence}" for f in solved for sentence in f.warnings]
            lessons.add(solved_clips(some, solved, taught, self.config))
            exam.add(solved_clips(some, solved, asked, self.config))
        self.warnings = tuple(said)
        generic = generic_clips() or own_clips(takes, taught)
        rooms = rehearsal_rooms(generic, model, self.config.frames)
        all_lessons = lessons.all()
        self.lessons = Lessons(all_lessons, rooms, model.framing, self.config, config.seed)
        self.watched = [collate(part, model.framing) for part in by_views(_some(held or train))]
        found_exam = exam.all()
        self.exam = found_exam if len(found_exam) else all_lessons  # a held-out take may be too short
        self.exam = self.exam[torch.linspace(0, len(self.exam) - 1, min(len(self.exam), EXAM)).long()]
        self.exam_batch = to_batch(self.exam, model.framing)

    def terms(self, lifter: nn.Module, epoch: int, step: int) -> Mapping[str, Tensor]:
        """The weighted terms of one step's lessons, each kind of lesson by its name."""
        device = next(lifter.parameters()).device
        lessons = [self._remembered(lesson, device) for lesson in self.lessons.draw(epoch * self.steps + step)]
        answers = lifter(torch.cat([lesson.batch.x for lesson in lessons]).to(device)).float()
        parts = answers.split([len(lesson.batch.x) for lesson in lessons])
        found: dict[str, Tensor] = {}
        for lesson, answer in zip(lessons, parts, strict=True):
            own = terms(replace(lesson, batch=lesson.batch.to(device)), answer, self.config)
            found |= {f"{lesson.name}_{name}": value for name, value in own.items()}
        if self.config.consistency > 0:
            found["consistency"] = self.config.consistency * self._agreement(lifter, epoch * self.steps + step)
        return found

    def _agreement(self, lifter: nn.Module, step: int) -> Tensor:
        """The paper's consistency loss on filmed clips, as many frames as a batch of lessons has."""
        length = len(self.train[0].time)
        count = max(self.config.batch * self.config.frames // (2 * length), 1)
        chosen = np.random.default_rng((self.seed, step)).integers(len(self.train), size=count)
        groups = by_views([self.train[i] for i in chosen])
        losses = []
        for clips in groups:
            batch = collate(clips, self.rule).to(next(lifter.parameters()).device)
            losses.append(consistency(batch, batch.lifted(lifter(batch.x).float())) * len(clips))
        return torch.stack(losses).sum() / count

    @torch.no_grad()
    def _remembered(self, lesson: Lesson, device: torch.device) -> Lesson:
        """A lesson of rehearsal asks for what the unadapted lifter answers; every other one stays as it is."""
        if lesson.name != "rehearsal":
            return lesson
        teacher = self.teacher.to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.half):
            answer = teacher(lesson.batch.x.to(device))
        return replace(lesson, batch=replace(lesson.batch, target=lesson.batch.lifted(answer.float().cpu())))

    @torch.no_grad()
    def judge(self, lifter: nn.Module) -> Mapping[str, float]:
        """The monitors; and as criterion the held-out clips' error against their triangulation, mm of a 1.75 m body."""
        watched, device = judge(lifter, self.watched), next(lifter.parameters()).device
        answer = torch.cat([lifter(x.to(device)).cpu().float() for x in self.exam_batch.x.split(64)])
        target, weight = self.exam_batch.target, self.exam_batch.target_weight
        assert target is not None
        assert weight is not None
        frame, depth = self.exam_batch.framing, self.exam.points[:, :, H36M17.root, 2]
        meters = (depth * (frame.scale / self.exam.focal)[:, None])[..., None]
        error = (rooted(answer) - rooted(target[:, 0])).norm(dim=-1) * meters
        return {**watched, "criterion": float(1000 * (error * weight[:, 0]).sum() / weight.sum().clamp(min=1e-9))}


def _some(clips: Sequence[Clip]) -> list[Clip]:
    """At most so many clips as an exam has, spread over all."""
    return [clips[i] for i in np.unique(np.linspace(0, len(clips) - 1, min(len(clips), EXAM)).astype(int))]


class Shelf:
    """Solved clips one after the other, in files of `folder` from where single clips are read, or in memory."""

    def __init__(self, folder: Path | None, name: str) -> None:
        self._parts: list[Solved] = []
        self._files: dict[str, Path] = {}
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            self._files = {f.name: folder / f"{name}.{f.name}" for f in fields(Solved)}
            for path in self._files.values():
                path.unlink(missing_ok=True)

    def add(self, clips: Solved) -> None:
        """Put more clips behind the others."""
        if not self._files:
            self._parts.append(clips)
            return
        self._parts = [clips[:0]]  # shapes and types
        for name, path in self._files.items():
            with path.open("ab") as file:
                file.write(getattr(clips, name).numpy().tobytes())

    def all(self) -> Solved:
        """Every clip. Raises TrainingError where there is none."""
        if not self._parts:
            raise TrainingError("no take has enough frames that all views saw", hint="film longer, or check the sync")
        if not self._files:
            return Solved(*(torch.cat([getattr(part, f.name) for part in self._parts]) for f in fields(Solved)))
        return Solved(*(_mapped(path, getattr(self._parts[0], name)) for name, path in self._files.items()))


def _mapped(path: Path, like: Tensor) -> Tensor:
    count = path.stat().st_size // (4 * int(np.prod(like.shape[1:], dtype=int)))
    if not count:
        return like
    return torch.from_numpy(np.memmap(path, np.float32, "r+", shape=(count, *like.shape[1:])))


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

    A joint's weight falls with its doubt: one half at `config.sigma_m`. Frames that are not reliable weigh nothing.
    """
    length, clips = config.frames, []
    for take, result in zip(takes, found, strict=True):
        first, last = parts.get(take.name, (np.inf, -np.inf))
        inside = np.flatnonzero((result.time >= first - 1e-6) & (result.time <= last + 1e-6))
        if len(inside) < length:
            continue
        trust = result.reliable[:, None] / (1 + (result.sigma / config.sigma_m) ** 2)
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
