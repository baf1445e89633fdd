"""Which movements the takes show, and which takes do not belong, before anything is trained.

`compare` reads the unadapted lifter's answers to clips of every take, as canonical poses, mean of the views; a mirrored
pose is the same pose. A take is as far from another as the median of its poses is from the nearest pose of the other.
Takes that are near each other show one movement, and a movement can be held out whole: only a movement that was not
taught shows what adaptation does to movements that were not filmed.

`other_athletes` compares the proportions of the bones, which only two-view 3D knows well enough.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy import ndarray as Array

from twoview.geometry.framing import to_camera
from twoview.geometry.similarity import bone_lengths, canonical
from twoview.lifting.model import Model
from twoview.skeleton import H36M17
from twoview.training import gate
from twoview.training.clips import Clip, collate
from twoview.training.method_paper import by_shape

if TYPE_CHECKING:
    from twoview.reconstruction.triangulation import Triangulation

POSES = 200  # of a take that are compared, spread over all of it
CLIPS = 6  # of a take that are lifted for them
MOST_TAKES = 200  # comparing all pairs of more takes would take minutes
LISTED = 8  # names in a sentence
FEW_TAKES = 4  # with fewer, no take is judged by the others, and no movement is held out
LEAST_TAUGHT = 2  # takes of other movements for every take of a movement that is held out whole
# Chosen on the takes of tests/benchmarks/movements.py, which prints what they find and miss.
SAME_MM = 120.0  # takes nearer than this, each to the other, show one movement
FAR_MM, UNLIKE = 100.0, 1.75  # a take is unlike the others beyond this, and so many times further away than they are
STILL_MM = 30.0  # a smaller spread of a take's poses teaches no movement
OTHER_BONES, ODD = 0.06, 1.5  # another athlete's bones differ by more, and by so many times what the others' do

# Bones, by their outer joint, whose lengths are compared as one: both sides, and neighbors that share a blurred joint.
_PARTS = (
    ("left_hip", "right_hip"), ("left_knee", "right_knee"), ("left_ankle", "right_ankle"), ("spine", "thorax"),
    ("nose", "head"), ("left_shoulder", "right_shoulder"), ("left_elbow", "right_elbow"), ("left_wrist", "right_wrist"),
)  # fmt: skip
_BONE = {H36M17.joints[child]: bone for bone, (_, child) in enumerate(H36M17.bones)}


@dataclass(frozen=True, eq=False)
class Movements:
    """The takes by movement, each by its name and in the order in which the takes were given.

    groups  takes of one movement each; none where there are too many takes to compare
    away    take -> median distance of its poses from the nearest poses of all other takes, mm per joint; NaN for a
            single take
    spread  take -> how far its poses are from their mean, mm per joint: how much the athlete moves
    """

    groups: tuple[tuple[str, ...], ...]
    away: Mapping[str, float]
    spread: Mapping[str, float]

    def to_hold_out(self, share: float) -> tuple[str, ...]:
        """The takes of one movement to hold out for a share of the takes; none where no movement is fit for it.

        The group whose size is nearest to the share, the last one of equals; at most a third of the takes, since what
        is held out is not taught, and no take that may not belong, since it would be a judge that does not belong.
        """
        count, odd = len(self.away), self.unlike()
        fit = [group for group in self.groups if (1 + LEAST_TAUGHT) * len(group) <= count and not set(group) & set(odd)]
        if share <= 0 or count < FEW_TAKES or len(self.groups) < 2 or not fit:
            return ()
        return min(reversed(fit), key=lambda group: abs(len(group) - share * count))

    def unlike(self) -> dict[str, float]:
        """Takes that are unlike the others -> how far the others usually are from their nearest poses, mm."""
        if len(self.away) < FEW_TAKES:
            return {}
        usual = {
            take: float(np.median([away for name, away in self.away.items() if name != take])) for take in self.away
        }
        return {take: usual[take] for take, away in self.away.items() if away > max(FAR_MM, UNLIKE * usual[take])}

    def warnings(self) -> Iterator[str]:
        """Plain sentences on takes that do not belong or do not move, by name."""
        still = [take for take, spread in self.spread.items() if spread < STILL_MM]
        if still and len(still) == len(self.spread):
            yield (
                "the athlete hardly moves in any take (joints stay within "
                f"{max(self.spread.values()):.0f} mm of one pose): nothing about movement can be learned"
            )
        elif still:
            yield f"the athlete hardly moves in {listed(still)}, which teaches nothing about movement"
        for take, others in self.unlike().items():
            yield (
                f"{take} is unlike the other takes: its nearest poses are {self.away[take]:.0f} mm away, theirs "
                f"{others:.0f}; if it does not belong, leave it out"
            )

    def judged_on(
        self, held_out: Sequence[Clip], trained: Sequence[Clip], athlete: Mapping[str, str] | None = None
    ) -> str:
        """What the held-out takes can tell, and what they cannot, in one plain sentence; `athlete` by take."""
        held, taught = (list(dict.fromkeys(clip.take for clip in clips)) for clips in (held_out, trained))
        unknown = "how the model does on other movements is not known"
        if not held:
            return f"no take was held out: {unknown}"
        who = [f"the end of {take}" if take in taught else take for take in held]
        was, its = ("was", "its") if len(who) == 1 else ("were", "their")
        shown = {name: who for name, who in (athlete or {}).items() if name in {*held, *taught}}
        if len(set(shown.values())) > 1:
            own = list(dict.fromkeys(shown[take] or "nobody named" for take in held))
            start = f"{listed_short(who)} {was} held out, of {listed_short(own)}"
        else:
            start = f"{listed_short(who)} {was} held out"
        if not self.groups:
            return f"{start}; more than {MOST_TAKES} takes are not compared by movement"
        if len(self.groups) == 1:
            shows = "the only take shows" if len(self.away) == 1 else "all takes show"
            return f"{start}, but {shows} one movement: {unknown}"
        known = {take for group in self.groups if set(group) & set(taught) for take in group}
        new = [take for take in held if take not in known]
        if not new:
            return f"{start}, and other takes show {its} movement too: {unknown}"
        if len(new) < len(held):
            return f"{start}: only the movement of {listed(new)} is unlike the other takes'"
        return f"{start}: {its} movement is unlike the other takes'"


def compare(clips: Sequence[Clip], model: Model) -> Movements:
    """The movements of the takes that clips were cut from, by the answers of an unadapted lifter."""
    by_take: dict[str, list[Clip]] = {}
    for clip in clips:
        by_take.setdefault(clip.take, []).append(clip)
    if len(by_take) > MOST_TAKES:
        return Movements((), {}, {})
    shown = {take: poses(own, model) for take, own in by_take.items()}
    return of_poses({take: own for take, own in shown.items() if len(own)})


def of_poses(shown: Mapping[str, Array]) -> Movements:
    """The movements of takes of which comparable poses (N, 17, 3) mm are known."""
    names, count = list(shown), len(shown)
    away, apart = {name: float("nan") for name in names}, np.zeros((count, count))
    for i, name in enumerate(names):
        rest = {j: distances(shown[name], shown[other]) for j, other in enumerate(names) if j != i}
        for j, found in rest.items():
            apart[i, j] = np.median(found)
        if rest:
            away[name] = float(np.median(np.min(list(rest.values()), axis=0)))
    same = groups(np.maximum(apart, apart.T))
    return Movements(
        tuple(tuple(names[i] for i in group) for group in same),
        away,
        {name: spread(own) for name, own in shown.items()},
    )


def groups(apart: Array) -> list[list[int]]:
    """Takes (N, N) mm apart that show one movement, by average linkage; ordered by their first take."""
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    if len(apart) < 2:
        return [[i] for i in range(len(apart))]
    label = fcluster(linkage(squareform(apart, checks=False), "average"), SAME_MM, "distance")
    found: dict[int, list[int]] = {}
    for take, own in enumerate(label):
        found.setdefault(int(own), []).append(take)
    return sorted(found.values())


@torch.no_grad()
def poses(clips: Sequence[Clip], model: Model) -> Array:
    """Comparable poses (N, 17, 3) mm of clips of one take, N up to POSES: a lifter's answers, mean of the views."""
    found = []
    for part in by_shape([clips[i] for i in _evenly(len(clips), CLIPS)]):
        batch = collate(part, model.framing)
        answer = model.lifter(batch.x.to(model.device)).float().cpu()
        views = 1000 * canonical(batch.lifted(to_camera(answer, batch.framing)))
        found.append(views.mean(dim=1)[batch.shown.all(dim=1)])
    whole = torch.cat(found).double()
    chosen: Array = whole[_evenly(len(whole), POSES)].numpy()
    return chosen


def distances(own: Array, other: Array) -> Array:
    """`gate.distances` of poses (N, 17, 3) from others (M, 17, 3), in 64 bits."""
    nearest: Array = gate.distances(torch.from_numpy(own).double(), torch.from_numpy(other).double()).numpy()
    return nearest


def spread(own: Array) -> float:
    """How far poses (N, 17, 3) are from their mean: root of the mean of squares over poses and joints."""
    return float(np.sqrt(((own - own.mean(axis=0)) ** 2).sum(axis=-1).mean()))


def proportions(found: Triangulation) -> Array:
    """Logarithms (8,) of a take's bones as shares of their sum, the median of its reliable frames; NaN without any."""
    points = found.points[found.views[0]][found.reliable]
    if not len(points):
        return np.full(len(_PARTS), np.nan)
    lengths = bone_lengths(torch.from_numpy(points)).median(dim=0).values.numpy()
    parts = np.array([sum(lengths[_BONE[joint]] for joint in part) for part in _PARTS])
    shares: Array = np.log(parts / parts.sum())
    return shares


def other_athletes(bodies: Mapping[str, Array]) -> list[str]:
    """Plain sentences on takes whose `proportions` are not those of the other takes."""
    known = {take: body for take, body in bodies.items() if np.isfinite(body).all()}
    if len(known) < FEW_TAKES:
        return []
    if len(known) > MOST_TAKES:  # one of so many hardly changes a median
        middle = np.median(list(known.values()), axis=0)
        apart = {take: float(np.abs(body - middle).mean()) for take, body in known.items()}
        usual = dict.fromkeys(apart, float(np.median(list(apart.values()))))
    else:
        apart = {take: float(np.abs(body - _median_without(known, take)).mean()) for take, body in known.items()}
        usual = {take: float(_median_without(apart, take)) for take in apart}
    found = []
    for take, off in apart.items():
        others = usual[take]
        if off > max(OTHER_BONES, ODD * others):
            found.append(
                f"{take} seems to show another athlete: its bones differ by {off:.0%} from those of the other takes, "
                f"theirs by {others:.0%}; if so, leave it out"
            )
    return found


def _median_without(values: Mapping[str, Any], name: str) -> Any:
    return np.median([value for other, value in values.items() if other != name], axis=0)


def listed_short(names: Sequence[str]) -> str:
    """The same, of many the first ones."""
    return listed(names) if len(names) <= LISTED else f"{', '.join(names[:LISTED])} and {len(names) - LISTED} more"


def listed(names: Sequence[str]) -> str:
    """Names as in a sentence: "a", "a and b", "a, b and c"."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def _evenly(count: int, most: int) -> list[int]:
    """Up to `most` of so many indices, evenly spread."""
    return [round(at) for at in np.linspace(0, count - 1, min(most, count))]
