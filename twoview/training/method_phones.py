"""The method `phones`: adapt a lifter to 3D from the user's own pairs of views, with nothing measured.

`prepare` triangulates the takes and cuts the result into pseudo-labels; `Phones` is the objective that
`finetuning.finetune` minimizes. Every step draws three batches of single-view clips with the 3D to answer:

pseudo     every view of the takes with the triangulated 3D; most clips get the detector's errors of another clip, so
           that the lifter cannot learn the errors by heart
turned     the same 3D in virtual cameras around the athlete, with simulated detector noise
rehearsal  generic motion in virtual cameras, labeled with the unadapted lifter's answers, against forgetting

and a few clips with all their views for the paper's consistency loss, which holds the views' answers together.

Held-out clips are compared with their own triangulation, which needs no 3D truth and follows the true error closely.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from numpy import ndarray as Array
from torch import Tensor, nn

from twoview.config import FinetuneConfig, LossConfig, PhonesConfig, TriangulateConfig
from twoview.errors import TrainingError, TwoViewError
from twoview.geometry import cameras, framing
from twoview.geometry.similarity import bone_lengths, rooted
from twoview.lifting.inference import lift
from twoview.lifting.model import Model
from twoview.machine import precision_of
from twoview.poses import Poses2D
from twoview.progress import OnProgress
from twoview.reconstruction.triangulation import Triangulation, triangulate_takes
from twoview.skeleton import BODY_M, H36M17, STATURE_M
from twoview.storage import records
from twoview.storage.weights import ASSETS
from twoview.takes import ResampledTake
from twoview.training import losses
from twoview.training.clips import Clip, PairBatch, collate, step_seed
from twoview.training.method_paper import by_shape, validate
from twoview.training.movements import other_athletes, proportions
from twoview.training.virtual_cameras import NEAREST_M, Chance, render, rotation_matrix

REHEARSAL = ASSETS / "rehearsal" / "everyday.npz"
FARTHEST = 4.0  # screen units: labels beyond belong to athletes who stand beside the camera
TILT_DEG = 4.0  # standard deviation of the angle between the phone's own down and the room's
TAKES_AT_ONCE = 24  # enough to find an athlete's bones and a phone's lens from, and few enough to keep in memory
VALIDATION_CLIPS = 512  # clips at most that every epoch is validated on
Spans = Mapping[str, tuple[float, float]]  # take -> session seconds, first to last


@dataclass(frozen=True, eq=False)
class PseudoLabels:
    """Clips of single views with their 3D.

    xy      (N, T, J, 2) px, 0 where unseen
    score   (N, T, J)
    size    (N, 2) px        width, height
    points  (N, T, J, 3) m   camera axes, the camera at 0
    focal   (N,) px
    weight  (N, T, J)        of each point in the loss
    """

    xy: Tensor
    score: Tensor
    size: Tensor
    points: Tensor
    focal: Tensor
    weight: Tensor

    def __len__(self) -> int:
        return len(self.xy)

    def __getitem__(self, at: Tensor | slice) -> PseudoLabels:
        return PseudoLabels(*(getattr(self, f.name)[at] for f in fields(self)))

    @classmethod
    def joined(cls, parts: Sequence[PseudoLabels]) -> PseudoLabels:
        """All clips of the parts, in order."""
        return cls(*(torch.cat([getattr(part, f.name) for part in parts]) for f in fields(cls)))


@dataclass(frozen=True, eq=False)
class LabeledBatch:
    """Single-view clips with the 3D to answer, one view each; `weight` is that of the batch in the loss."""

    name: str
    batch: PairBatch
    weight: float


def prepare(
    grids: Sequence[ResampledTake],
    train: Sequence[Clip],
    held_out: Sequence[Clip],
    model: Model,
    config: FinetuneConfig,
    *,
    triangulation: TriangulateConfig | None = None,
    folder: Path | None = None,
    on_progress: OnProgress | None = None,
) -> Phones:
    """Triangulate the resampled takes and make the objective.

    train, held_out  clips of the takes; with none held out, validation is on the training clips
    folder           where the pseudo-labels are kept, to be read clip by clip; None: in memory

    Clips with pseudo-labels are no longer than those that the model will infer with, `model.clip_length`.
    Raises TrainingError where no take can be triangulated or all are too short.
    """
    config = replace(config, phones=replace(config.phones, frames=min(config.phones.frames, model.clip_length)))
    named = {clip.take for clip in [*train, *held_out]}
    grids = [grid for grid in grids if grid.take.name in named]
    short = [grid.take.name for grid in grids if len(grid.time) < config.phones.frames]
    grids = [grid for grid in grids if grid.take.name not in short]
    warnings = [f"take {name} is left out: its views share fewer than {config.phones.frames} frames" for name in short]
    for_training, for_validation = spans(train), spans(held_out or train)
    labels, validation, bodies = ClipStore(folder), ClipStore(None), dict[str, dict[str, Array]]()
    grids = sorted(grids, key=lambda grid: grid.take.athlete)  # those of one are solved together
    for start in range(0, len(grids), TAKES_AT_ONCE):
        some = grids[start : start + TAKES_AT_ONCE]
        takes = [grid.take for grid in some]
        solved = triangulate_takes(takes, model, grids=some, config=triangulation, on_progress=on_progress)
        warnings += [f"take {result.take}: {sentence}" for result in solved for sentence in result.warnings]
        for take, result in zip(takes, solved, strict=True):
            bodies.setdefault(take.athlete, {})[take.name] = proportions(result)
        labels.add(pseudo_labels(some, solved, for_training, config.phones))
        validation.add(pseudo_labels(some, solved, for_validation, config.phones))
    warnings += [sentence for own in bodies.values() for sentence in other_athletes(own)]
    own = labels.all()
    motion = rehearsal_motion(rehearsal_clips(), model, config.phones.frames)
    chosen = validation.all()
    chosen = chosen if len(chosen) else own  # a held-out take may be too short
    chosen = chosen[spread(len(chosen))]
    pairs = held_out or train
    pairs = [pairs[int(i)] for i in spread(len(pairs))]
    return Phones(
        TrainingSet(own, motion, model.framing, config.phones, config.seed),
        train,
        [collate(part, model.framing) for part in by_shape(pairs)],
        chosen,
        copy.deepcopy(model.lifter).eval(),
        half=precision_of(config.precision, config.device, model.name) != "fp32",
        warnings=tuple(warnings),
    )


def judge(
    grids: Sequence[ResampledTake], clips: Sequence[Clip], model: Model, config: FinetuneConfig
) -> Callable[[nn.Module], float] | None:
    """What measures a lifter against the two-view 3D of the takes of `clips`; None where they have no reliable one."""
    parts = spans(clips)
    some = [grid for grid in grids if grid.take.name in parts and len(grid.time) >= config.phones.frames]
    some = some[:TAKES_AT_ONCE]
    try:
        found = triangulate_takes([grid.take for grid in some], model, grids=some)
        labels = pseudo_labels(some, found, parts, config.phones)
    except TwoViewError:  # a take that cannot be triangulated can still be taught by the paper's losses
        return None
    reliable = bool(labels.weight.any())
    labels = labels[spread(len(labels))]
    return partial(two_view_error, labels=labels, rule=model.framing) if reliable else None


@dataclass(eq=False)
class Phones:
    """The objective of the method `phones`; see `method_paper.Objective`.

    training_set  pseudo-labels and rehearsal motion
    train         the training clips with all their views, for the consistency loss
    pairs         held-out clips with all their views, for the monitors
    validation    held-out clips of single views with their triangulation, for the criterion
    teacher       the unadapted lifter, which answers the rehearsal; in 16 bits if `half`
    warnings      plain sentences about the takes, for the person who filmed them
    """

    training_set: TrainingSet
    train: Sequence[Clip]
    pairs: Sequence[PairBatch]
    validation: PseudoLabels
    teacher: nn.Module
    half: bool
    warnings: tuple[str, ...]

    @property
    def steps(self) -> int:
        """Training steps per epoch."""
        return self.training_set.config.steps_per_epoch

    def terms(self, lifter: nn.Module, epoch: int, step: int) -> Mapping[str, Tensor]:
        """The weighted terms of one step, each under the name of its batch."""
        config, number = self.training_set.config, epoch * self.steps + step
        device = next(lifter.parameters()).device
        batches = [self._rehearsed(batch, device) for batch in self.training_set.draw(number)]
        answers = lifter(torch.cat([labeled.batch.x for labeled in batches]).to(device)).float()
        parts = torch.split(answers, [len(labeled.batch.x) for labeled in batches])
        found: dict[str, Tensor] = {}
        for labeled, answer in zip(batches, parts, strict=True):
            own = label_terms(replace(labeled, batch=labeled.batch.to(device)), answer, config)
            found |= {f"{labeled.name}_{name}": value for name, value in own.items()}
        if config.consistency > 0:
            found["consistency"] = config.consistency * self._consistency(lifter, number)
        return found

    @torch.no_grad()
    def validate(self, lifter: nn.Module) -> dict[str, float]:
        """The monitors; and as criterion the held-out clips' error against their triangulation, mm of a 1.75 m body."""
        means = validate(lifter, self.pairs)
        return {**means, "criterion": two_view_error(lifter, self.validation, self.training_set.rule)}

    @cached_property
    def _clips_for_consistency(self) -> int:
        """Clips per step: their views have up to a quarter of the frames of a batch of pseudo-labels."""
        config = self.training_set.config
        frames = float(np.mean([len(clip.views) * len(clip.time) for clip in self.train]))
        return max(int(config.batch * config.frames / 4 / frames), 1)

    def _consistency(self, lifter: nn.Module, step: int) -> Tensor:
        """The paper's consistency loss on a few training clips of the lifter's length, drawn anew in every step."""
        random = np.random.default_rng((self.training_set.seed, step))
        count = self._clips_for_consistency
        found = []
        for clips in by_shape([self.train[i] for i in random.integers(len(self.train), size=count)]):
            batch = collate(clips, self.training_set.rule).to(next(lifter.parameters()).device)
            found.append(losses.consistency(batch, batch.lifted(lifter(batch.x).float())) * len(clips))
        return torch.stack(found).sum() / count

    @torch.no_grad()
    def _rehearsed(self, labeled: LabeledBatch, device: torch.device) -> LabeledBatch:
        """A batch of rehearsal with the unadapted lifter's answers as labels; every other batch as it is."""
        if labeled.name != "rehearsal":
            return labeled
        teacher = self.teacher.to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.half):
            answer = teacher(labeled.batch.x.to(device))
        return replace(labeled, batch=replace(labeled.batch, target=labeled.batch.lifted(answer.float().cpu())))


@torch.no_grad()
def two_view_error(lifter: nn.Module, labels: PseudoLabels, rule: framing.Rule) -> float:
    """Mean distance in mm of a lifter's one-view answers from the two-view 3D, root-relative, on a 1.75 m body."""
    device = next(lifter.parameters()).device
    batch = to_batch(labels, rule)
    answer = torch.cat([lifter(x.to(device)).cpu().float() for x in torch.split(batch.x, 64)])
    assert batch.target is not None
    assert batch.target_weight is not None
    depth = labels.points[:, :, H36M17.root, 2]
    meters = (depth * (batch.framing.scale / labels.focal)[:, None])[..., None]
    error = (rooted(answer) - rooted(batch.target[:, 0])).norm(dim=-1) * meters
    weight = batch.target_weight * batch.shown[..., None]
    return float(1000 * (error * weight[:, 0]).sum() / weight.sum().clamp(min=1e-9))


class TrainingSet:
    """The batches of every training step: a pure function of (seed, step)."""

    def __init__(
        self, labels: PseudoLabels, motion: Tensor, rule: framing.Rule, config: PhonesConfig, seed: int
    ) -> None:
        """Take pseudo-labels and rehearsal motion (M, T, J, 3) m, z up; with M = 0 there is no rehearsal."""
        if not len(labels):
            raise TrainingError(
                "no clip of any take could be triangulated",
                hint="`twoview triangulate` shows why; film about 90 degrees apart, or use --method paper",
            )
        self.labels, self.motion, self.rule, self.config, self.seed = labels, motion, rule, config, seed

    def draw(self, step: int) -> list[LabeledBatch]:
        """One batch of each kind."""
        chance, config = Chance(torch.Generator().manual_seed(step_seed(self.seed, step))), self.config
        at, others = (pick(len(self.labels), config.batch, chance) for _ in range(2))
        own = swap_residuals(self.labels[at], self.labels[others], chance, config.swap)
        batches = [LabeledBatch("pseudo", self._batch(own, chance), 1.0)]
        if config.turned > 0:
            turned = self.labels[pick(len(self.labels), config.virtual, chance)]
            batch = self._virtual(to_room(turned.points), turned.weight, chance)
            batches.append(LabeledBatch("turned", batch, config.turned))
        if config.rehearsal > 0 and len(self.motion):
            motion = self.motion[pick(len(self.motion), config.virtual, chance)]
            batch = self._virtual(motion, torch.ones(motion.shape[:3]), chance)
            batches.append(LabeledBatch("rehearsal", batch, config.rehearsal))
        return batches

    def _virtual(self, motion: Tensor, weight: Tensor, chance: Chance) -> PairBatch:
        tilt = rotation_matrix(math.radians(TILT_DEG) * chance.normal(len(motion), 3))
        pivot = motion[:, :1, :1]
        motion = torch.einsum("bac,btjc->btja", tilt, motion - pivot) + pivot
        seen = render(motion, chance)
        clips = PseudoLabels(seen.xy, seen.score, seen.cameras.size, seen.points, seen.cameras.focal, weight)
        return self._batch(clips, chance)

    def _batch(self, clips: PseudoLabels, chance: Chance) -> PairBatch:
        """The clips framed, half of them mirrored."""
        return to_batch(clips, self.rule).flipped(chance.happens(0.5, len(clips)))


def spread(count: int) -> Tensor:
    """Indices of at most VALIDATION_CLIPS of so many clips, evenly spread."""
    return torch.from_numpy(np.linspace(0, count - 1, min(count, VALIDATION_CLIPS)).astype(np.int64))


def to_batch(clips: PseudoLabels, rule: framing.Rule) -> PairBatch:
    """Clips framed for a lifter, with the 3D to answer: a batch of one view each."""
    found = framing.label_clips(clips.xy, clips.score, clips.size, clips.points, focal=clips.focal, rule=rule)
    screen, target = found.screen[:, None], found.label[:, None].clamp(-FARTHEST, FARTHEST)
    time = torch.zeros(clips.xy.shape[:2])
    return PairBatch(screen, clips.score[:, None], time, found.framing, target, clips.weight[:, None])


def label_terms(labeled: LabeledBatch, answer: Tensor, config: PhonesConfig) -> dict[str, Tensor]:
    """Position, scale and velocity errors (paper equation 5) and the root's error in the picture, all weighted.

    answer (B, T, J, 3) in screen units; the terms add up to the batch's part of the loss.
    """
    weights = LossConfig(reprojection=0.0, consistency=0.0, position=1.0, scale=config.scale, velocity=config.velocity)
    answer = labeled.batch.lifted(answer)
    found = losses.total(labeled.batch, answer, weights)
    assert labeled.batch.target is not None
    root = H36M17.root
    off = losses.length(answer[..., root, :] - labeled.batch.target[..., root, :])
    found["root"] = losses.weighted_mean(off, labeled.batch.shown.to(off)) / len(H36M17)
    return {name: labeled.weight * value for name, value in found.items()}


def pick(count: int, wanted: int, chance: Chance) -> Tensor:
    """Indices (wanted,) below `count`, each as often as any other, in random order."""
    rounds = [torch.randperm(count, generator=chance.generator) for _ in range(-(-wanted // count))]
    return torch.cat(rounds)[:wanted]


def swap_residuals(own: PseudoLabels, other: PseudoLabels, chance: Chance, share: float) -> PseudoLabels:
    """Clips of which a share gets the 2D errors and scores of other clips, sized to the body in the picture."""
    residual = (other.xy - project(other)) / body_px(other)
    moved = project(own) + residual * body_px(own)
    changed = chance.happens(share, len(own), 1, 1)
    xy = torch.where(changed[..., None], moved, own.xy)
    return replace(own, xy=xy, score=torch.where(changed, other.score, own.score))


def project(clips: PseudoLabels) -> Tensor:
    """Pixels (N, T, J, 2) where the 3D joints are seen."""
    seen = cameras.project(clips.points, clips.focal[:, None, None, None], nearest=NEAREST_M)
    return seen + cameras.principal_point(clips.size)[:, None, None]


def body_px(clips: PseudoLabels) -> Tensor:
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


def spans(clips: Sequence[Clip]) -> Spans:
    """The part of each take that some clips cover."""
    found: dict[str, tuple[float, float]] = {}
    for clip in clips:
        first, last = found.get(clip.take, (np.inf, -np.inf))
        found[clip.take] = min(first, float(clip.time[0])), max(last, float(clip.time[-1]))
    return found


def pseudo_labels(
    grids: Sequence[ResampledTake], found: Sequence[Triangulation], parts: Spans, config: PhonesConfig
) -> PseudoLabels:
    """Clips, half overlapping, of every view of those parts of the triangulated takes.

    A joint's weight falls with its sigma: one half at `config.sigma_m`. Frames that are not reliable have weight 0.
    """
    length = config.frames
    none = torch.zeros(0, length, len(H36M17), 3)
    clips = [PseudoLabels(none[..., :2], none[..., 0], none[:, 0, 0, :2], none, none[:, 0, 0, 0], none[..., 0])]
    for grid, result in zip(grids, found, strict=True):
        first, last = parts.get(grid.take.name, (np.inf, -np.inf))
        inside = np.flatnonzero((grid.time >= first - 1e-6) & (grid.time <= last + 1e-6))
        if len(inside) < length:
            continue
        weight = result.reliable[:, None] / (1 + (result.random_sigma / config.sigma_m) ** 2)
        starts = np.unique([*range(inside[0], inside[-1] + 1 - length, max(length // 2, 1)), inside[-1] + 1 - length])
        frames = starts[:, None] + np.arange(length)
        for v, view in enumerate(grid.views):
            arrays = (grid.xy[v], grid.score[v], result.points[view], weight)
            xy, score, points, weights = (torch.from_numpy(array[frames]).float() for array in arrays)
            size = torch.from_numpy(grid.size[v]).float().expand(len(starts), 2)
            focal = torch.full((len(starts),), result.focal_px[view])
            clips.append(PseudoLabels(xy, score, size, points, focal, weights))
    return PseudoLabels.joined(clips)


class ClipStore:
    """Pseudo-labels one after the other, in files of `folder`, to be read clip by clip, or in memory."""

    def __init__(self, folder: Path | None) -> None:
        self._parts: list[PseudoLabels] = []
        self._files: dict[str, Path] = {}
        if folder is not None:
            self._files = {f.name: folder / f.name for f in fields(PseudoLabels)}
            with records.writable(folder):
                folder.mkdir(parents=True, exist_ok=True)
                for path in self._files.values():
                    path.unlink(missing_ok=True)

    def add(self, clips: PseudoLabels) -> None:
        """Append clips. Raises StorageError when the disk is full."""
        if not self._files:
            self._parts.append(clips)
            return
        self._parts = [clips[:0]]  # shapes and types
        for name, path in self._files.items():
            with records.writable(path), path.open("ab") as file:
                file.write(getattr(clips, name).numpy().tobytes())

    def all(self) -> PseudoLabels:
        """Every clip. Raises TrainingError where nothing was added."""
        if not self._parts:
            raise TrainingError("no take has enough frames that all views saw", hint="film longer, or check the sync")
        if not self._files:
            return PseudoLabels.joined(self._parts)
        return PseudoLabels(*(_mapped(path, getattr(self._parts[0], name)) for name, path in self._files.items()))


def _mapped(path: Path, like: Tensor) -> Tensor:
    count = path.stat().st_size // (4 * int(np.prod(like.shape[1:], dtype=int)))
    if not count:
        return like
    return torch.from_numpy(np.memmap(path, np.float32, "r+", shape=(count, *like.shape[1:])))


def rehearsal_clips() -> list[Poses2D]:
    """The 2D clips of everyday movement that ship with the package."""
    with np.load(REHEARSAL, allow_pickle=False) as arrays:
        xy, score, size = arrays["xy"].astype(np.float32) / 8, arrays["score"].astype(np.float32) / 255, arrays["size"]
        ends, rate = arrays["ends"], float(arrays["rate"])
    xy = np.where(score[..., None] > 0, xy, np.nan)
    starts = [0, *ends[:-1]]
    return [
        Poses2D(xy[a:b], score[a:b], np.arange(b - a) / rate, H36M17, (int(w), int(h)))
        for a, b, (w, h) in zip(starts, ends, size, strict=True)
    ]


def rehearsal_motion(clips: Sequence[Poses2D], model: Model, length: int) -> Tensor:
    """The lifter's own 3D of clips as motion in a room (M, T, J, 3) m, z up, of a body of common size."""
    found = []
    for poses in clips:
        grid = np.arange(poses.time[0], poses.time[-1] + 1e-9, 1 / model.rate_hz) if len(poses) else poses.time
        lifted = lift(model, poses.at(grid)).xyz
        whole = np.isfinite(lifted).all(axis=(1, 2))
        pieces = [slice(at, at + length) for at in range(0, len(lifted) - length + 1, length)]
        found += [torch.tensor(lifted[piece]) for piece in pieces if whole[piece].all()]
    if not found:
        return torch.zeros(0, length, len(H36M17), 3)
    motion = torch.stack(found)
    size = bone_lengths(motion).sum(dim=-1).mean(dim=1)
    return to_room(motion * (BODY_M / size)[:, None, None, None])
