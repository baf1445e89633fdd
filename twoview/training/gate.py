"""The gate of an adapted model: where its adapted lifter answers, and where the unadapted one does.

Adaptation to a few takes harms movements that were not filmed, and held-out takes of the same movements do not show
it. `gated` makes one lifter of both: near the poses of the takes the adapted one, far from them the unadapted one. What
is near follows from the takes alone: a pose's reach is how much adaptation corrected that pose, drawn a little towards
how much it corrected poses altogether and how far the poses of one take are from those of the others.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from numpy import ndarray as Array
from torch import Tensor, nn

from twoview.geometry.similarity import bone_lengths, canonical, mirror
from twoview.lifters import build
from twoview.lifters.gate import GatedLifter
from twoview.lifting.inference import MIN_SEEN, lift
from twoview.lifting.model import Model
from twoview.poses import Poses2D
from twoview.skeleton import BODY_M
from twoview.training.clips import Clip, collate
from twoview.training.method_paper import by_shape

OWN = 0.7  # weight of a pose's own correction in its reach, a geometric mean; the other two share the rest
POSES = 2048  # at most, besides their mirror images
ALIKE_M = 0.02  # poses nearer than this to one that is kept are left out
STEADY_S = 0.67  # sigma of the time over which distances are averaged
CANDIDATES = 20_000  # poses, about, that POSES are chosen from, evenly spread over the clips
SPARSE = 8  # frames between two candidates of a clip, before clips are left out
COMPARED = 4_000  # poses at most that are compared with those of other takes
_AT_ONCE = 64  # clips


def gated(model: Model, adapted: nn.Module, clips: Sequence[Clip]) -> Model:
    """The model that answers with `adapted` near the poses of the clips, and as `model` does elsewhere.

    clips  what `adapted` was adapted to; every view of them counts
    """
    start = model.adapted_part()
    old, new, take = _answers(model, adapted, clips)
    poses, moved = canonical(old), canonical(new)
    kept = spread_out(poses, POSES, ALIKE_M)
    corrected = (moved - poses).norm(dim=-1).mean(dim=-1).clamp(min=1e-6)
    typical = corrected.median()
    shared = typical * (between_takes(poses, take) or typical)
    reaches = corrected[kept] ** OWN * shared ** ((1 - OWN) / 2)
    config = {
        "adapted": {"name": start.name, "config": dict(start.config)},
        "unadapted": {"name": model.name, "config": dict(model.config)},
        "poses": 2 * len(kept),
        "steady": STEADY_S * model.rate_hz,
    }
    lifter = cast(GatedLifter, build("gated", config))
    lifter.adapted.load_state_dict(adapted.state_dict())
    lifter.unadapted.load_state_dict(model.lifter.state_dict())
    lifter.unadapted_poses.copy_(with_mirrored(poses[kept]))
    lifter.adapted_poses.copy_(with_mirrored(moved[kept]))
    lifter.reach.copy_(torch.cat([reaches, reaches]))
    return replace(model, lifter=lifter.eval(), name="gated", config=config)


def widened(model: Model, factor: float) -> Model:
    """A gated model with so many times the reach of every pose."""
    lifter = cast(GatedLifter, copy.deepcopy(model.lifter))
    lifter.reach.mul_(factor)
    return replace(model, lifter=lifter)


@dataclass(frozen=True)
class Reach:
    """How far an adapted model reaches, as numbers for a person. Shares are the adapted lifter's, mean over frames.

    taught         share on clips like those that it was adapted to
    everyday       share on everyday movement, which no take shows
    everyday_mm    mean distance of the model's answers there from the unadapted lifter's, on a body of common size
    ungated_mm     the same of the adapted lifter alone
    """

    taught: float
    everyday: float
    everyday_mm: float
    ungated_mm: float


def reach(model: Model, made: Model, clips: Sequence[Clip], everyday: Sequence[Poses2D]) -> Reach:
    """How far `made`, adapted from `model`, reaches: on clips that show what was taught, and on everyday movement."""
    alone = made.adapted_part()
    found = [[lift(one, poses) for one in (model, made, alone)] for poses in everyday]
    taught, everywhere = 1.0, 1.0
    if isinstance(made.lifter, GatedLifter):
        with torch.no_grad():
            inputs = [x for some in by_shape(clips) for x in torch.split(collate(some, model.framing).x, _AT_ONCE)]
            shares = [made.lifter.parts(x)[1] for x in inputs]
        taught = float(torch.cat([share.flatten() for share in shares]).mean())
        everywhere = float(
            np.nanmean(np.concatenate([own.adapted_share for _, own, _ in found if own.adapted_share is not None]))
        )
    apart = [[_apart_mm(old.xyz, new.xyz) for new in (own, free)] for old, own, free in found]
    return Reach(taught, everywhere, *(float(np.nanmean(np.concatenate(parts))) for parts in zip(*apart, strict=True)))


def _apart_mm(old: Array, new: Array) -> Array:
    """Mean distance of the joints (T,) in two answers (T, J, 3), mm on a body of common size."""
    size = bone_lengths(torch.tensor(old)).sum(dim=-1).numpy()
    found: Array = 1000 * np.linalg.norm(new - old, axis=-1).mean(axis=-1) * BODY_M / size
    return found


@torch.no_grad()
def _answers(model: Model, adapted: nn.Module, clips: Sequence[Clip]) -> tuple[Tensor, Tensor, Tensor]:
    """Both lifters' answers (N, J, 3) to frames that show enough, screen units, and the number of the take (N,).

    The halves of a single take count as two.
    """
    names = {name: number for number, name in enumerate(dict.fromkeys(clip.take for clip in clips))}
    middle = np.mean([clip.time[[0, -1]] for clip in (clips[0], clips[-1])]) if len(names) == 1 else np.inf
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    every = max(sum(clip.score.shape[0] * clip.score.shape[1] for clip in clips) // CANDIDATES, 1)
    step = min(every, SPARSE)
    clips = clips[:: every // step]
    for some in by_shape(clips):
        for first in range(0, len(some), _AT_ONCE):
            part = some[first : first + _AT_ONCE]
            batch = collate(part, model.framing)
            seen = ((batch.score > 0).sum(dim=-1) >= MIN_SEEN)[:, :, ::step]
            number = [torch.from_numpy(names[clip.take] + (clip.time > middle)) for clip in part]
            take = torch.stack(number)[:, None, ::step].expand(seen.shape)
            answers = [
                batch.lifted(lifter(batch.x.to(model.device)).float().cpu()) for lifter in (model.lifter, adapted)
            ]
            found.append((answers[0][:, :, ::step][seen], answers[1][:, :, ::step][seen], take[seen]))
    old, new, take = (torch.cat(parts) for parts in zip(*found, strict=True))
    return old, new, take


def with_mirrored(poses: Tensor) -> Tensor:
    """Canonical poses (N, J, 3) and their mirror images (2 N, J, 3)."""
    return torch.cat([poses, mirror(poses)])


def distances(own: Tensor, others: Tensor) -> Tensor:
    """Distance (N,) of each pose (N, J, 3) from the nearest of others (M, J, 3) or of their mirror images.

    Root of the mean of squares over the joints, in the poses' unit.
    """
    nearest: Tensor = torch.cdist(own.flatten(1), with_mirrored(others).flatten(1)).amin(dim=1)
    return nearest / math.sqrt(own.shape[1])


def spread_out(poses: Tensor, count: int, alike: float) -> Tensor:
    """Indices of at most `count` poses (N, J, 3): each the farthest from all before it, until the rest is alike.

    alike  RMS distance of joints up to which two poses are alike, in the unit of the poses
    """
    flat = poses.flatten(1)
    nearest = torch.full((len(flat),), torch.inf)
    chosen = [0]
    while len(chosen) < min(count, len(flat)):
        nearest = torch.minimum(nearest, (flat - flat[chosen[-1]]).square().sum(dim=-1) / poses.shape[1])
        farthest = int(nearest.argmax())
        if nearest[farthest] <= alike**2:
            break
        chosen.append(farthest)
    return torch.tensor(chosen)


def between_takes(poses: Tensor, take: Tensor) -> float:
    """Median distance of canonical poses (N, J, 3) from the nearest pose of any other take (N,), m; 0 for one take."""
    picked = torch.linspace(0, len(poses) - 1, min(len(poses), COMPARED)).long()
    poses, take = poses[picked], take[picked]
    found = []
    for number in range(int(take.max()) + 1):
        own, others = poses[take == number], poses[take != number]
        if len(others):
            found.append(distances(own, others))
    return float(torch.cat(found).median()) if found else 0.0
