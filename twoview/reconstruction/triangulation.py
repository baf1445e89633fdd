"""Triangulation: 3D of a take from two or more phones that nobody calibrated.

`triangulate` needs a take's 2D poses, its sync and a lifter for the first guess. The result has the poses in every
camera's axes, their sigmas, what was found out about the cameras, and warnings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy import ndarray as Array

from twoview.config import TriangulateConfig
from twoview.errors import DetectorError, SyncError
from twoview.geometry.cameras import project
from twoview.geometry.framing import DEFAULT_FOCAL
from twoview.geometry.similarity import rooted
from twoview.poses import Poses2D, Poses3D
from twoview.progress import OnProgress, Progress, report
from twoview.reconstruction.bundle_adjustment import Noise
from twoview.reconstruction.focal_lengths import KnownFocal, known_focals, start_of
from twoview.reconstruction.self_calibration import Solution, TakeArrays, solve
from twoview.reconstruction.solved_cameras import SolvedCamera
from twoview.sigmas import constant_sigma
from twoview.skeleton import BODY_M, H36M17, Skeleton, stature
from twoview.takes import ResampledTake, Take, resample

if TYPE_CHECKING:
    from twoview.lifting.model import Model

Lift = Callable[[Poses2D], Poses3D]
MIN_FRAMES = 8
UNRELIABLE_M = 0.08  # a frame is unreliable if the median of its joints' sigmas is larger
DOUBTFUL = 0.1  # score of a joint in `reprojected` that is not accurate enough

# When to warn.
SHARP_DEG, WIDE_DEG = 30.0, 150.0  # depth is uncertain for views nearer than this, or nearly opposite
FAR_DEG = 45.0  # a rotation this far from the lifter's guess may be wrong
LARGE_RESIDUAL = 0.02  # of the body's size: the median reprojection distance of one body seen twice is smaller
LONG_DELAY_S = 0.02
ODD_LENS = 1.6  # a focal length so many times the usual one, or smaller by as much
FAR_FROM_KNOWN = 3.0  # sigmas of a focal length that the file or the user says
MANY_SWAPS, FEW_RELIABLE = 0.15, 0.9  # shares


@dataclass(frozen=True, eq=False)
class Triangulation:
    """One take in 3D. S frames on the session clock, J joints (Human3.6M-17), V views.

    time        (S,) s           session clock
    points      view -> (S, J, 3) m, camera axes, the camera at 0; meters if `height_m` was given, else of a body of
                                 common size (1.75 m)
    sigma       (S, J) m         standard deviation of each root-relative joint along an axis: the part below, and the
                                 detector's usual constant errors (`twoview.sigmas`)
    random_sigma  (S, J) m       the part of sigma that frames, views and cameras explain; frames are reliable, and
                                 joints count in training, by it
    reliable    (S,) bool        frames that are accurate enough to use
    swapped     view -> (S, 2)   frames whose left and right legs, or arms, were swapped by the detector
    focal_px    view -> px       estimated; only roughly right
    angle_deg   view -> angle to the first view, seen from the athlete
    turned_deg  view -> angle between the lifter's guess of its rotation and the final one
    delay_s     view -> s        how much later than its clock says the view shows the scene
    residual    view -> median reprojection distance as a share of the body's size
    lifter_mm   view -> mm, mean distance of the lifter's answer for that view alone from this 3D, root-relative, on a
                body of common size: without truth the best that is known of the lifter's error
    bones_m     (J - 1,) m       in the order of the skeleton's bones
    cameras     view -> where it stands, its focal length and its clock
    """

    take: str
    time: Array
    view_time: Mapping[str, Array]
    size: Mapping[str, tuple[int, int]]
    points: Mapping[str, Array]
    sigma: Array
    random_sigma: Array
    reliable: Array
    swapped: Mapping[str, Array]
    focal_px: Mapping[str, float]
    angle_deg: Mapping[str, float]
    turned_deg: Mapping[str, float]
    delay_s: Mapping[str, float]
    residual: Mapping[str, float]
    lifter_mm: Mapping[str, float]
    bones_m: Array
    cameras: Mapping[str, SolvedCamera]
    unit: Literal["screen", "m"]
    warnings: tuple[str, ...]

    @property
    def views(self) -> tuple[str, ...]:
        """Names of the views; angles and delays are measured from the first."""
        return tuple(self.points)

    def poses(self, view: str, *, origin: Literal["root", "camera"] = "root") -> Poses3D:
        """The take in one camera's axes, on that view's own clock; unreliable frames are NaN.

        In screen units unless the athlete's height was given, and then root-relative only.
        """
        return self.in_unit(self.points[view], view, sigma=self.sigma, origin=origin)

    def placed(self) -> Poses3D:
        """Where the athlete is, in the first view's camera axes and on the session clock, with the camera at 0.

        Without a height lengths are those of a body of common size, and the unit is "screen": there is no scale.
        """
        first = self.views[0]
        points = np.where(self.reliable[:, None, None], self.points[first], np.nan)
        return Poses3D(points, self.time, H36M17, "camera", self.unit, first)

    def in_unit(
        self,
        points: Array,
        view: str,
        skeleton: Skeleton = H36M17,
        *,
        sigma: Array,
        origin: Literal["root", "camera"] = "root",
    ) -> Poses3D:
        """Points (S, J, 3) m in a view's camera axes, of any skeleton, as `poses` gives those of the triangulation.

        sigma  (S, J) m, theirs
        """
        points = np.where(self.reliable[:, None, None], points, np.nan)
        if self.unit == "m":
            xyz = points if origin == "camera" else points - points[:, [skeleton.root]]
        elif origin == "camera":
            raise ValueError("Triangulation.poses: origin='camera' needs meters; triangulate with the athlete's height")
        else:
            xyz = (points - points[:, [skeleton.root]]) * self._per_meter(view)[..., None]
        own = self.sigma_in_unit(sigma, view)
        return Poses3D(xyz, self.view_time[view], skeleton, origin, self.unit, view, sigma=own)

    def reprojected(self, view: str) -> Poses2D:
        """Where the 3D lies in a view's picture, on that view's own clock, to compare with what is seen there.

        Joints whose sigma is large, and unreliable frames, have a low score.
        """
        xy = project(self.points[view], self.focal_px[view]) + self.cameras[view].principal_point_px
        limit = UNRELIABLE_M * float(self.bones_m.sum()) / BODY_M
        sure = (self.random_sigma < limit) & self.reliable[:, None]
        return Poses2D(xy, np.where(sure, 1.0, DOUBTFUL), self.view_time[view], H36M17, self.size[view], view=view)

    def sigma_of(self, view: str) -> Array:
        """Sigma (S, J) of every joint in every frame of `poses(view)`, in their unit; of unreliable frames too."""
        return self.sigma_in_unit(self.sigma, view)

    def sigma_in_unit(self, sigma: Array, view: str) -> Array:
        """Sigmas (S, J) m in the unit of `poses(view)`."""
        return np.asarray(sigma * self._per_meter(view))

    def _per_meter(self, view: str) -> Array:
        """The unit of `poses(view)` in each frame (S, 1): a meter, or a meter at the root's depth in screen units."""
        if self.unit == "m":
            return np.ones((len(self.time), 1))
        return screen_per_meter(self.points[view], self.focal_px[view], self.size[view][0])

    def summary(self) -> dict[str, Any]:
        """The numbers for a person or a JSON file."""
        per_view = ("focal_px", "angle_deg", "turned_deg", "delay_s", "residual", "lifter_mm")
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
    """One take in 3D; `model` lifts each view for the first guess.

    Raises SyncError where the views hardly overlap, DetectorError where one sees nobody, ValueError for a single view.
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
    """Every take in 3D; with `config.same_athlete` an athlete's takes by the same phones share focal lengths and bones.

    Lengths are of a body as high as `config` says, else as the take does. Takes that name no athlete show one.

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
        lenses = tuple(sorted(known_focals(grid, config).items(), key=lambda pair: pair[0]))
        shared = grid.take.athlete if config.same_athlete else index
        key = (grid.views, grid.size.tobytes(), grid.rate, lenses, shared)
        groups.setdefault(key, []).append(index)
    noise = Noise(pixel=config.pixel_noise, delay_s=max(config.sync_sigma_s, 1e-4))
    found: dict[int, Triangulation] = {}
    for indices in groups.values():
        arrays = [_take_arrays(grids[i], lift) for i in indices]
        window = round(config.moving_s * grids[indices[0]].rate)
        focal, focal_sigma = start_of(grids[indices[0]], config, noise.focal)
        before = len(found)

        def finished(n: int, before: int = before) -> None:
            report(on_progress, Progress("triangulate", before + n, len(grids), "takes"))

        solutions = solve(arrays, focal, focal_sigma=focal_sigma, noise=noise, window=window, done=finished)
        for i, solution, start in zip(indices, solutions, (own.start for own in arrays), strict=True):
            found[i] = _triangulation(grids[i], solution, start, config)
    return [found[i] for i in range(len(grids))]


def _take_arrays(grid: ResampledTake, lift: Lift) -> TakeArrays:
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
        whole = np.flatnonzero(np.isfinite(lifted).all(axis=(1, 2)))
        if not len(whole):
            raise DetectorError(
                f"take {take.name}: nobody is seen in view {view} while the other views see somebody",
                hint="look at its detections with `twoview show`, or leave this take out",
            )
        nearest = np.abs(np.arange(len(lifted))[:, None] - whole).argmin(axis=1)
        start.append(lifted[whole[nearest]])  # a frame with a gap gets the nearest whole pose
    xy = np.where(grid.score[..., None] > 0, grid.xy, np.nan)
    return TakeArrays(xy, grid.score, grid.time, grid.size, np.stack(start))


def screen_per_meter(points: Array, focal: float, width: float) -> Array:
    """Screen units of a meter (S, 1) at the root's depth, of points (S, J, 3) m before a camera."""
    return 2 * focal / width / points[:, H36M17.root, 2:]


def lifter_distance(lifted: Array, points: Array, reliable: Array, *, focal: float, width: float) -> float:
    """Mean distance in mm of a lifter's answer (S, J, 3) in screen units from points (S, J, 3) m before a camera.

    Both root-relative, joints but the root, in frames (S,) that are reliable; NaN where there are none.
    """
    lifted_m = rooted(lifted) / screen_per_meter(points, focal, width)[..., None]
    apart = np.linalg.norm(lifted_m - rooted(points), axis=-1)[reliable, 1:]
    known = apart[np.isfinite(apart)]
    return float(1000 * known.mean()) if len(known) else float("nan")


def _triangulation(grid: ResampledTake, solution: Solution, start: Array, config: TriangulateConfig) -> Triangulation:
    """The solution by view, in meters if a height is known, with warnings; `start` (V, S, J, 3) is the lifter's 3D."""
    views = grid.views
    middle = len(solution.rotation) // 2
    roots = np.median(solution.joints[:, :, H36M17.root], axis=1)
    # from the athlete to each camera, in the first one's axes
    towards = -np.einsum("vba,vb->va", solution.rotation[middle], roots)
    towards = towards / np.linalg.norm(towards, axis=-1, keepdims=True)
    angle = np.degrees(np.arccos(np.clip(towards @ towards[0], -1, 1)))
    delay = np.median(solution.delay_s, axis=0)
    with np.errstate(all="ignore"):
        residual = np.array([np.nanmedian(r) if np.isfinite(r).any() else np.nan for r in solution.residual])
    height = config.height_m or grid.take.height_m
    scale = height / float(stature(solution.bones)) if height else 1.0
    random = solution.sigma * scale
    sigma = np.hypot(random, constant_sigma(H36M17) * scale)
    reliable = (np.median(random[:, 1:], axis=1) < UNRELIABLE_M * scale) & (grid.score > 0).any(axis=(0, 2))

    window, clocks = round(config.moving_s * grid.rate), grid.take.sync.clocks
    start_s = grid.time[np.arange(len(solution.rotation)) * window]
    cameras = {
        view: SolvedCamera(
            (int(grid.size[v, 0]), int(grid.size[v, 1])), float(solution.focal[v]), clocks[view], start_s,
            solution.rotation[:, v], solution.translation[:, v] * scale, solution.delay_s[:, v],
        )
        for v, view in enumerate(views)
    }  # fmt: skip
    apart = np.array(
        [
            lifter_distance(start[v], solution.joints[v], reliable, focal=solution.focal[v], width=grid.size[v, 0])
            for v in range(len(views))
        ]
    )

    def by_view(values: Array) -> dict[str, float]:
        return {view: float(value) for view, value in zip(views, values, strict=True)}

    result = Triangulation(
        take=grid.take.name, time=grid.time, view_time=grid.view_time,
        size={view: camera.size for view, camera in cameras.items()},
        points={view: solution.joints[v] * scale for v, view in enumerate(views)},
        sigma=sigma, random_sigma=random, reliable=reliable,
        swapped={view: solution.swapped[v] for v, view in enumerate(views)},
        focal_px=by_view(solution.focal), angle_deg=by_view(angle), turned_deg=by_view(solution.turned_deg.max(axis=0)),
        delay_s=by_view(delay), residual=by_view(residual), lifter_mm=by_view(apart),
        bones_m=solution.bones * scale, cameras=cameras,
        unit="m" if height else "screen", warnings=(),
    )  # fmt: skip
    return replace(result, warnings=tuple(_warnings(result, known_focals(grid, config))))


def _warnings(found: Triangulation, focals: Mapping[str, KnownFocal]) -> Iterator[str]:
    first, *others = found.views
    for view in others:
        angle, pair = found.angle_deg[view], f"views {first} and {view}"
        if not SHARP_DEG <= angle <= WIDE_DEG:
            yield (
                f"{pair} are {angle:.0f} degrees apart, at which depth is uncertain; place the phones about 90 degrees "
                "apart"
            )
        if found.turned_deg[view] > FAR_DEG:
            yield (
                f"the rotation between {pair} moved {found.turned_deg[view]:.0f} degrees from the lifter's guess; "
                "look at the result before relying on it"
            )
        if abs(found.delay_s[view]) > LONG_DELAY_S:
            word = "later" if found.delay_s[view] > 0 else "earlier"
            yield f"view {view} seems to be {abs(found.delay_s[view]) * 1000:.0f} ms {word} than the sync says"
    for view in found.views:
        if found.residual[view] > LARGE_RESIDUAL:
            yield (
                f"the common 3D misses the joints of view {view} by {found.residual[view]:.1%} of the body's size, and "
                "below 1 % is good: check that it shows the same person and that the sync is right"
            )
        lens = found.focal_px[view] / (DEFAULT_FOCAL * max(found.size[view]))
        if view in focals:
            known = focals[view].in_px(np.array(found.size[view]))
            if abs(np.log(found.focal_px[view] / known)) > FAR_FROM_KNOWN * focals[view].sigma:
                yield (
                    f"the focal length of view {view} was estimated as {found.focal_px[view]:.0f} px, and "
                    f"{focals[view].value:g} {focals[view].unit} are {known:.0f} px: was the video cropped, or does "
                    "the length belong to another lens? --focal says it otherwise"
                )
        elif not 1 / ODD_LENS < lens < ODD_LENS:
            yield (
                f"the focal length of view {view} was estimated as {lens:.1f} times a phone's: if it did not zoom, the "
                "views do not show the same event"
            )
        if found.swapped[view].mean() > MANY_SWAPS:
            yield f"left and right were swapped in {found.swapped[view].mean():.0%} of view {view}, and were put back"
    if found.reliable.mean() < FEW_RELIABLE:
        yield f"only {found.reliable.mean():.0%} of the frames were placed reliably"
