"""Accuracy of 3D poses: against truth in millimeters, against another view of the same moment, or without either.

`evaluate` measures poses against truth, `summarize` a test set by activity, `compare_views` the views of a take. Poses
are matched on seconds. Errors are root-relative; a joint that is unknown on either side is left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy import ndarray as Array
from scipy.spatial.transform import Rotation
from torch import Tensor

from twoview.errors import FormatError, SyncError
from twoview.evaluation import metrics
from twoview.geometry.similarity import best_scale, bone_lengths, fit_similarity, residuals, rooted
from twoview.poses import Poses3D
from twoview.skeleton import H36M17
from twoview.timeline import Sync, common_grid

PCK_MM = 150.0  # MPI-INF-3DHP's threshold
BLOCK_S = 1.0  # neighboring frames have similar errors: the bootstrap draws this many seconds together
RESAMPLES = 2000
SCALES = ("fit", "bones")
_MM = 1000.0


@dataclass(frozen=True)
class Metric:
    """One number. low and high bound its 95 % confidence interval, NaN where there is too little to tell.

    part  the joint, activity or pair of views that it is of; "" for everything
    """

    name: str
    value: float
    unit: str
    low: float = float("nan")
    high: float = float("nan")
    part: str = ""


@dataclass(frozen=True)
class Report:
    """The result of an evaluation.

    rows        over everything
    joints      MPJPE of each joint
    activities  all errors of each activity
    notes       sentences about what was left out or assumed
    """

    rows: tuple[Metric, ...]
    joints: tuple[Metric, ...] = ()
    activities: tuple[Metric, ...] = ()
    notes: tuple[str, ...] = ()

    def value(self, name: str, part: str = "") -> float:
        """A number by name. Raises KeyError with the names that exist."""
        everything = (*self.rows, *self.joints, *self.activities)
        found = [m.value for m in everything if m.name == name and m.part == part]
        if not found:
            names = ", ".join(dict.fromkeys(m.name for m in everything))
            raise KeyError(f"no {name!r} {f'of {part!r} ' if part else ''}in this report; it has {names}")
        return found[0]

    def to_json(self) -> dict[str, Any]:
        """A JSON object; NaN and infinity become null."""

        def plain(metric: Metric) -> dict[str, Any]:
            return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in asdict(metric).items()}

        groups = {name: [plain(m) for m in getattr(self, name)] for name in ("rows", "joints", "activities")}
        return {**groups, "notes": list(self.notes)}


@dataclass(frozen=True, eq=False)
class Matched:
    """A prediction and its truth at the same moments: root-relative, in meters after the named scale.

    predicted, truth (T, J, 3), 0 where unknown; known (T, J) bool; time (T,) s
    """

    predicted: Tensor
    truth: Tensor
    known: Tensor
    time: Tensor
    activity: str = ""

    def errors(self, kind: str) -> Tensor:
        """Distances (T, J) in mm, NaN where unknown. kind: "MPJPE", "PA-MPJPE" or "N-MPJPE"."""
        if kind == "PA-MPJPE":
            found = residuals(self.predicted, self.truth, self.known.double()).norm(dim=-1)
        else:
            found = {"MPJPE": metrics.joint_errors, "N-MPJPE": metrics.scaled_errors}[kind](self.predicted, self.truth)
        return torch.where(self.known, found * _MM, torch.nan)


def evaluate(
    predicted: Poses3D, truth: Poses3D | None = None, *, scale: str | float | None = None, activity: str = ""
) -> Report:
    """Measure poses.

    truth  in meters; without it only what needs no truth is measured: constant bones, symmetry, jitter
    scale  makes meters of screen units: "fit" (the one factor with the least error), "bones" (the truth's body size,
           which is what a person's height gives), or meters per unit. Poses in meters stay as they are

    Without a scale, poses in screen units have no MPJPE, and a note says so. Raises FormatError for truth in screen
    units or of another time.
    """
    if truth is None:
        return Report(tuple(by_itself(predicted)), notes=("no truth was given, so there is no error in millimeters",))
    return summarize([match(predicted, truth, scale=scale, activity=activity)], meters=has_meters(predicted, scale))


def has_meters(predicted: Poses3D, scale: str | float | None) -> bool:
    """Whether errors of these poses can be given in millimeters."""
    return predicted.unit == "m" or scale is not None


def match(predicted: Poses3D, truth: Poses3D, *, scale: str | float | None = None, activity: str = "") -> Matched:
    """A prediction at the moments of its truth, root-relative."""
    if truth.unit != "m":
        raise FormatError("the truth is in screen units: errors in millimeters need truth in meters")
    if predicted.axes != truth.axes:
        raise FormatError(
            f"the poses are in {predicted.axes} axes and their truth is in {truth.axes} axes",
            hint="evaluate the .npz that infer or triangulate wrote: it is in camera axes",
        )
    if isinstance(scale, str) and scale not in SCALES:
        raise ValueError(f"expected a scale among {', '.join(SCALES)} or meters per unit, got {scale!r}")
    p, t = rooted(_tensor(predicted.at(truth.time).xyz)), rooted(_tensor(truth.xyz))
    known = torch.isfinite(p).all(dim=-1) & torch.isfinite(t).all(dim=-1)
    rows = known.sum(dim=1) >= 4
    if not rows.any():
        spans = " and ".join(
            f"{x.time[0]:.2f} to {x.time[-1]:.2f} s" if len(x) else "nothing" for x in (predicted, truth)
        )
        raise FormatError(
            f"prediction and truth share no moment: {spans}", hint="are both of the same view, on its own clock?"
        )
    known, time = known[rows], _tensor(truth.time)[rows]
    p, t = (torch.where(known[..., None], x[rows], 0.0) for x in (p, t))
    factor = 1.0 if predicted.unit == "m" or scale is None else _factor(p, t, known, scale)
    return Matched(p * factor, t, known, time, activity)


def _tensor(values: Array) -> Tensor:
    return torch.from_numpy(np.array(values, dtype=np.float64))


def _factor(p: Tensor, t: Tensor, known: Tensor, scale: str | float) -> float:
    """Meters per unit of the prediction."""
    if scale == "fit":
        return float(best_scale(p.flatten(0, 1), t.flatten(0, 1)))
    if scale == "bones":
        whole = known.all(dim=1)
        sizes = [float(bone_lengths(x[whole]).mean(dim=0).sum()) if whole.any() else float("nan") for x in (p, t)]
        return sizes[1] / sizes[0]
    return float(scale)


def summarize(clips: Sequence[Matched], *, meters: bool = True) -> Report:
    """Measure a test set: every frame counts the same in `rows`, every activity the same in "mean of activities".

    meters  False leaves out what needs predictions in meters: MPJPE, PCK, AUC, velocity and acceleration
    """
    if not clips:
        raise ValueError("summarize: expected at least one clip, got none")
    kinds = ("MPJPE", "PA-MPJPE", "N-MPJPE") if meters else ("PA-MPJPE", "N-MPJPE")
    errors = {kind: [clip.errors(kind) for clip in clips] for kind in kinds}
    blocks = [((clip.time - clip.time[0]) / BLOCK_S).floor().int().numpy() for clip in clips]
    rows = [_with_interval(kind, [e.nanmean(dim=1).numpy() for e in errors[kind]], blocks) for kind in kinds]
    notes: list[str] = []
    activities = list(dict.fromkeys(clip.activity for clip in clips))
    of_activity = []
    for kind in kinds if activities != [""] else ():
        means = []
        for name in activities:
            chosen = [i for i, clip in enumerate(clips) if clip.activity == name]
            own = [errors[kind][i].nanmean(dim=1).numpy() for i in chosen]
            found = _with_interval(kind, own, [blocks[i] for i in chosen])
            of_activity.append(replace(found, part=name))
            means.append(found.value)
        rows.append(Metric(f"{kind}, mean of activities", float(np.mean(means)), "mm"))
    if meters:
        rows += _in_meters(clips, torch.cat(errors["MPJPE"]))
    else:
        notes.append(
            "the poses are in screen units, so there is no MPJPE: give the height when inferring (--height 1.78), or "
            "name a scale"
        )
    rows += _of_bodies(clips)
    every = torch.cat(errors[kinds[0]])
    joints = [
        Metric(kinds[0], float(value), "mm", part=joint)
        for joint, value in zip(_joints(every), every.nanmean(dim=0).tolist(), strict=True)
    ]
    return Report(tuple(rows), tuple(joints), tuple(of_activity), tuple(notes))


def _joints(errors: Tensor) -> Sequence[str]:
    return H36M17.joints if errors.shape[1] == len(H36M17) else [str(j) for j in range(errors.shape[1])]


def _in_meters(clips: Sequence[Matched], errors: Tensor) -> list[Metric]:
    known = errors[torch.isfinite(errors)]
    pairs = [
        (metrics.velocity_errors, "velocity error (MPJVE)", "mm/s"),
        (metrics.acceleration_errors, "acceleration error", "m/s2"),
    ]
    found = [
        Metric(f"3D PCK at {PCK_MM:.0f} mm", 100 * float(metrics.share_within(known, PCK_MM)), "%"),
        Metric(f"AUC to {PCK_MM:.0f} mm", 100 * float(metrics.area_under_curve(known, PCK_MM)), "%"),
    ]
    for order, (measure, name, unit) in enumerate(pairs, start=1):
        values = []
        for clip in clips:
            if len(clip.time) > order:
                whole = clip.known.unfold(0, order + 1, 1).all(dim=-1)
                values.append(measure(clip.predicted, clip.truth, clip.time)[whole])
        if values and sum(map(len, values)):
            found.append(Metric(name, float(torch.cat(values).mean()) * (_MM if unit == "mm/s" else 1.0), unit))
    return found


def _of_bodies(clips: Sequence[Matched]) -> list[Metric]:
    whole = [clip.predicted[clip.known.all(dim=1)] for clip in clips]
    spread = [float(metrics.bone_spread(points).mean()) for points in whole if len(points) > 1]
    known = [float(clip.known.double().mean()) for clip in clips]
    rows = [Metric("bone length spread", 100 * float(np.mean(spread)), "%")] if spread else []
    return [*rows, Metric("joints compared", 100 * float(np.mean(known)), "%")]


# --- without truth -------------------------------------------------------------------------------------------------


def by_itself(poses: Poses3D) -> list[Metric]:
    """Quality of poses without truth: bones of constant length, equal left and right, and little jitter."""
    points = _tensor(poses.xyz)
    whole = torch.isfinite(points).all(dim=-1).all(dim=-1)
    rows = [Metric("frames with a whole body", 100 * float(whole.double().mean()) if len(poses) else 0.0, "%")]
    points, time = points[whole], _tensor(poses.time)[whole]
    if len(points) >= 3:
        body = "body sizes" if poses.unit == "screen" else "m"
        size = float(metrics.spread(points)) if poses.unit == "screen" else 1.0
        rows += [
            Metric("bone length spread", 100 * float(metrics.bone_spread(points).mean()), "%"),
            Metric("left-right difference of bones", 100 * float(metrics.bone_asymmetry(points)), "%"),
            Metric("jitter", float(metrics.jitter(points, time)) / size, f"{body}/s2"),
        ]
    return rows


def compare_views(poses: Mapping[str, Poses3D], sync: Sync) -> Report:
    """How well the views of a take agree: distance of their poses after one similarity fit per clip, and per frame.

    In percent of the body's size (RMS distance from the root), so that screen units and meters compare, and with the
    angle between each view and the first. Raises SyncError where views share no time.
    """
    names = list(poses)
    if len(names) < 2:
        raise SyncError(f"agreement needs two views, got {', '.join(names) or 'none'}")
    grid = common_grid(sync, {view: poses[view].time for view in names})
    points = [rooted(_tensor(poses[v].at(sync.to_view(v, grid)).xyz)) for v in names]
    known = torch.stack([torch.isfinite(x).all(dim=-1) for x in points]).all(dim=0)
    if not known.any():
        raise SyncError(f"views {', '.join(names)} never show the same joint at the same moment")
    points = [torch.where(known[..., None], x, 0.0) for x in points]
    first, rows = points[0], []
    for view, other in zip(names[1:], points[1:], strict=True):
        weight, size = known.double(), float(other[known].square().sum(dim=-1).mean().sqrt())
        clip = residuals(first.flatten(0, 1)[None], other.flatten(0, 1)[None], weight.flatten()[None]).norm(dim=-1)
        frame = residuals(first, other, weight).norm(dim=-1)
        turn = fit_similarity(first.flatten(0, 1)[None], other.flatten(0, 1)[None], weight.flatten()[None]).rotation[0]
        angle = math.degrees(float(Rotation.from_matrix(turn.numpy()).magnitude()))
        pair = f"{names[0]}-{view}"
        per_clip, per_frame = (100 * float(gap.sum() / weight.sum()) / size for gap in (clip, frame))
        rows += [
            Metric("disagreement, one fit per clip", per_clip, "% of body", part=pair),
            Metric("disagreement, one fit per frame", per_frame, "% of body", part=pair),
            Metric("angle between the views", angle, "degrees", part=pair),
        ]
    return Report(tuple(rows))


# --- confidence ----------------------------------------------------------------------------------------------------


def _with_interval(name: str, errors: Sequence[Array], blocks: Sequence[Array]) -> Metric:
    """Mean over frames with its bootstrap interval: clips are resampled, or their blocks where there are few clips.

    blocks  for each clip, the number (T,) of the `BLOCK_S` seconds that each frame is in
    """
    value = float(np.nanmean(np.concatenate(errors)))
    if len(errors) >= 5:
        parts: Iterable[Array] = errors
    else:
        parts = [e[b == n] for e, b in zip(errors, blocks, strict=True) for n in np.unique(b)]
    sums = np.array([np.nansum(part) for part in parts])
    counts = np.array([np.isfinite(part).sum() for part in parts])
    if len(sums) < 5:
        return Metric(name, value, "mm")
    drawn = np.random.default_rng(0).integers(len(sums), size=(RESAMPLES, len(sums)))
    low, high = np.quantile(sums[drawn].sum(axis=1) / np.maximum(counts[drawn].sum(axis=1), 1), (0.025, 0.975))
    return Metric(name, value, "mm", float(low), float(high))
