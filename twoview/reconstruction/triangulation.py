"""Two-view 3D of the filmed takes themselves, from phones that nobody calibrated.

`triangulate` needs a take's 2D poses, its sync and a lifter for the first guess. What comes back holds the poses in
front of every camera, how sure they are, what was found out about the cameras, and plain warnings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy import ndarray as Array

from twoview.config import TriangulateConfig
from twoview.errors import DetectorError, SyncError
from twoview.geometry.framing import DEFAULT_FOCAL
from twoview.poses import Poses2D, Poses3D
from twoview.progress import OnProgress, Progress, report
from twoview.reconstruction.bundle_adjustment import Noise
from twoview.reconstruction.self_calibration import Solution, Tracks, solve
from twoview.skeleton import H36M17, stature
from twoview.takes import ResampledTake, Take, resample

if TYPE_CHECKING:
    from twoview.lifting.model import Model

Lift = Callable[[Poses2D], Poses3D]
MIN_FRAMES = 8
SHARP_DEG, WIDE_DEG = 30.0, 150.0  # views closer than this, or nearly opposite, say little about depth
FAR_DEG = 45.0  # a rotation this far from the lifter's guess is not believed without a look
LOOSE = 0.02  # of the body's size: a median reprojection distance beyond this is not one body seen twice
DOUBTFUL_M = 0.08  # a frame whose median joint is less sure than this is not reliable
LATE_S = 0.02
ODD_LENS = 1.6  # a focal length so many times the usual, or less than the usual by as much


@dataclass(frozen=True, eq=False)
class Triangulation:
    """One take in 3D. S frames on the session clock, J joints (Human3.6M-17), V views.

    time        (S,) s           session clock
    points      view -> (S, J, 3) m, camera axes, the camera at 0; meters if `height_m` was given, else of a body of
                                 common size (1.75 m)
    sigma       (S, J) m         standard deviation of each root-relative joint, mean of the three axes
    reliable    (S,) bool        frames that deserve belief
    swapped     view -> (S, 2)   frames whose legs or arms had been taken left for right
    focal_px    view -> px       estimated; only roughly right
    angle_deg   view -> degrees between it and the first view, seen from the athlete
    turned_deg  view -> degrees between the lifter's rotation and the final one
    late_s      view -> s        how much later than its clock says the view shows the scene
    residual    view -> median reprojection distance as a share of the body's size
    """

    take: str
    time: Array
    view_time: Mapping[str, Array]
    size: Mapping[str, tuple[int, int]]
    points: Mapping[str, Array]
    sigma: Array
    reliable: Array
    swapped: Mapping[str, Array]
    focal_px: Mapping[str, float]
    angle_deg: Mapping[str, float]
    turned_deg: Mapping[str, float]
    late_s: Mapping[str, float]
    residual: Mapping[str, float]
    bones_m: Array
    unit: Literal["screen", "m"]
    warnings: tuple[str, ...]

    @property
    def views(self) -> tuple[str, ...]:
        """Names of the views, the first of which the others are measured from."""
        return tuple(self.points)

    def poses(self, view: str, *, origin: Literal["root", "camera"] = "root") -> Poses3D:
        """The take before one camera, on that view's own clock; unreliable frames are NaN.

        In screen units unless the athlete's height was given, and then root-relative only.
        """
        points = np.where(self.reliable[:, None, None], self.points[view], np.nan)
        root = points[:, H36M17.root : H36M17.root + 1]
        if self.unit == "m":
            xyz = points if origin == "camera" else points - root
        elif origin == "camera":
            raise ValueError("Triangulation.poses: origin='camera' needs meters; triangulate with the athlete's height")
        else:
            xyz = (points - root) / root[..., 2:] * (2 * self.focal_px[view] / self.size[view][0])
        return Poses3D(xyz, self.view_time[view], origin=origin, unit=self.unit, view=view)

    def summary(self) -> dict[str, Any]:
        """What was found out, as plain values."""
        per_view = ("focal_px", "angle_deg", "turned_deg", "late_s", "residual")
        return {
            "take": self.take,
            "seconds": float(self.time[-1] - self.time[0]),
            "reliable": float(self.reliable.mean()),
            "sigma_mm": float(np.median(self.sigma[:, 1:]) * 1000),
            "swapped": {view: float(flags.mean()) for view, flags in self.swapped.items()},
            **{name: dict(getattr(self, name)) for name in per_view},
            "warnings": list(self.warnings),
        }


def triangulate(
    take: Take, model: Model, *, config: TriangulateConfig | None = None, on_progress: OnProgress | None = None
) -> Triangulation:
    """One take in 3D, by `model`'s own 3D of each view and what the views have in common.

    Raises SyncError where the views hardly overlap, DetectorError where one sees nobody, ValueError for one view.
    """
    return triangulate_takes([take], model, config=config, on_progress=on_progress)[0]


def triangulate_takes(
    takes: Sequence[Take],
    model: Model,
    *,
    grids: Sequence[ResampledTake] | None = None,
    config: TriangulateConfig | None = None,
    on_progress: OnProgress | None = None,
) -> list[Triangulation]:
    """Every take in 3D; with `config.same_athlete`, takes by the same phones share focal lengths and bones.

    grids  the takes resampled at the model's rate, where that was done before
    """
    from twoview.lifting.inference import lift

    grids = grids or [resample(take, model.rate_hz) for take in takes]
    return solve_takes(grids, lambda poses: lift(model, poses), config=config, on_progress=on_progress)


def solve_takes(
    grids: Sequence[ResampledTake],
    lift: Lift,
    *,
    config: TriangulateConfig | None = None,
    on_progress: OnProgress | None = None,
) -> list[Triangulation]:
    """Every resampled take in 3D, with any function that lifts one view."""
    config = config or TriangulateConfig()
    groups: dict[tuple[Any, ...], list[int]] = {}
    for index, grid in enumerate(grids):
        if len(grid.views) < 2:
            raise ValueError(
                f"take {grid.take.name}: expected at least two views, got {', '.join(grid.views) or 'none'}"
            )
        key = (grid.views, grid.size.tobytes(), grid.rate, None if config.same_athlete else index)
        groups.setdefault(key, []).append(index)
    noise = Noise(pixel=config.pixel_noise, shift_s=max(config.sync_sigma_s, 1e-4))
    found: dict[int, Triangulation] = {}
    for indices in groups.values():
        tracks = [_track(grids[i], lift) for i in indices]
        window = round(config.moving_s * grids[indices[0]].rate)
        sizes = tracks[0].size
        focal = np.array([config.focal or DEFAULT_FOCAL * max(size) for size in sizes], dtype=np.float64)
        noise = replace(noise, focal=0.02) if config.focal else noise
        before = len(found)

        def finished(n: int, before: int = before) -> None:
            report(on_progress, Progress("triangulate", before + n, len(grids), "takes"))

        solutions = solve(tracks, focal, noise=noise, window=window, done=finished)
        for i, solution in zip(indices, solutions, strict=True):
            found[i] = _interpret(grids[i], solution, config)
    return [found[i] for i in range(len(grids))]


def _track(grid: ResampledTake, lift: Lift) -> Tracks:
    """A take's 2D and lifted 3D on its grid of session time."""
    take = grid.take
    if len(grid.time) < MIN_FRAMES:
        raise SyncError(
            f"take {take.name}: the views share only {len(grid.time)} frames, and {MIN_FRAMES} are needed",
            hint="check the offset with `twoview sync`, or leave this take out",
        )
    start = []
    for view, own in take.poses.items():
        lifted = lift(own.to(H36M17)).at(grid.view_time[view], max_gap=np.inf).xyz
        if not np.isfinite(lifted).all(axis=(1, 2)).any():
            raise DetectorError(
                f"take {take.name}: nobody is seen in view {view} while the other views see somebody",
                hint="look at its detections with `twoview show`, or leave this take out",
            )
        start.append(_filled(lifted))
    xy = np.where(grid.score[..., None] > 0, grid.xy, np.nan)
    return Tracks(xy, grid.score, grid.time, grid.size, np.stack(start))


def _filled(xyz: Array) -> Array:
    """Poses (T, J, 3) with frames that hold a NaN replaced by the nearest whole one."""
    whole = np.flatnonzero(np.isfinite(xyz).all(axis=(1, 2)))
    return xyz[whole[np.abs(np.arange(len(xyz))[:, None] - whole).argmin(axis=1)]]


def _interpret(grid: ResampledTake, solution: Solution, config: TriangulateConfig) -> Triangulation:
    """The solution in words that a person can use."""
    views = grid.views
    middle = len(solution.rotation) // 2
    roots = np.median(solution.joints[:, :, H36M17.root], axis=1)
    towards = -np.einsum(
        "vba,vb->va", solution.rotation[middle], roots
    )  # from the athlete to each camera, in the first one's axes
    towards = towards / np.linalg.norm(towards, axis=-1, keepdims=True)
    angle = np.degrees(np.arccos(np.clip(towards @ towards[0], -1, 1)))
    late = np.median(solution.shift_s, axis=0)
    with np.errstate(all="ignore"):
        residual = np.array([np.nanmedian(r) if np.isfinite(r).any() else np.nan for r in solution.residual])
    scale = config.height_m / float(stature(solution.bones)) if config.height_m else 1.0
    sigma = solution.sigma * scale
    reliable = (np.median(sigma[:, 1:], axis=1) < DOUBTFUL_M * scale) & (grid.score > 0).any(axis=(0, 2))
    by_view = lambda values: {view: float(value) for view, value in zip(views, values, strict=True)}  # noqa: E731
    result = Triangulation(
        take=grid.take.name, time=grid.time, view_time=grid.view_time,
        size={view: (int(width), int(height)) for view, (width, height) in zip(views, grid.size, strict=True)},
        points={view: solution.joints[v] * scale for v, view in enumerate(views)},
        sigma=sigma, reliable=reliable,
        swapped={view: solution.swapped[v] for v, view in enumerate(views)},
        focal_px=by_view(solution.focal), angle_deg=by_view(angle), turned_deg=by_view(solution.turned_deg.max(axis=0)),
        late_s=by_view(late), residual=by_view(residual), bones_m=solution.bones * scale,
        unit="m" if config.height_m else "screen", warnings=(),
    )  # fmt: skip
    return replace(result, warnings=tuple(_warnings(result)))


def _warnings(found: Triangulation) -> list[str]:
    first, *others = found.views
    said = []
    for view in others:
        angle, pair = found.angle_deg[view], f"views {first} and {view}"
        if angle < SHARP_DEG or angle > WIDE_DEG:
            said.append(
                f"{pair} are {angle:.0f} degrees apart, which says little about depth; film about 90 degrees apart"
            )
        if found.turned_deg[view] > FAR_DEG:
            said.append(
                f"the rotation between {pair} moved {found.turned_deg[view]:.0f} degrees from the lifter's guess; "
                "look at the result before relying on it"
            )
        if abs(found.late_s[view]) > LATE_S:
            word = "later" if found.late_s[view] > 0 else "earlier"
            said.append(f"view {view} seems to be {abs(found.late_s[view]) * 1000:.0f} ms {word} than the sync says")
    for view in found.views:
        if found.residual[view] > LOOSE:
            said.append(
                f"view {view} misses the common 3D by {found.residual[view]:.1%} of the body's size, and good is below "
                "1 %: is it the same person, and is the sync right?"
            )
        lens = found.focal_px[view] / (DEFAULT_FOCAL * max(found.size[view]))
        if not 1 / ODD_LENS < lens < ODD_LENS:
            said.append(
                f"the focal length of view {view} came out {lens:.1f} times a phone's: if it did not zoom, the "
                "views do not show the same event"
            )
        if found.swapped[view].mean() > 0.15:
            said.append(
                f"left and right were exchanged in {found.swapped[view].mean():.0%} of view {view}, and put right"
            )
    if found.reliable.mean() < 0.9:
        said.append(f"only {found.reliable.mean():.0%} of the frames could be placed reliably")
    return said
