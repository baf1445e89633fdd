"""All joints that a detector gives, feet and face too, from the cameras that were solved with the lifter's joints.

Cameras, bones and the lifter's joints are those of the triangulation. Each other joint is where its rays meet, frame by
frame (least squares in pixels, weighted by score): nothing is known of its bones, so its sigma is larger.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy import ndarray as Array

from twoview.config import TriangulateConfig
from twoview.poses import Poses2D, Poses3D
from twoview.reconstruction.self_calibration import delayed
from twoview.reconstruction.triangulation import Triangulation
from twoview.sigmas import constant_sigma
from twoview.skeleton import BODY_M, H36M17, STATURE_M, Skeleton, single_joints, swap_sides
from twoview.takes import Take

_LEGS, _ARMS = ("hip", "knee", "ankle", "toe", "heel"), ("shoulder", "elbow", "wrist")  # what swaps together
_STEPS = 3  # of weighting by the distance from the camera


@dataclass(frozen=True, eq=False)
class AllJoints:
    """A take in 3D with the joints of its detector. S frames as those of the triangulation, J joints.

    points  view -> (S, J, 3) m  camera axes, the camera at 0; NaN where fewer than two views see a joint
    sigma   (S, J) m             standard deviation along an axis, as `Triangulation.sigma`; NaN as well
    """

    found: Triangulation
    skeleton: Skeleton
    points: Mapping[str, Array]
    sigma: Array

    def poses(self, view: str) -> Poses3D:
        """As `Triangulation.poses`, with these joints: root-relative, unreliable frames NaN."""
        return self.found.in_unit(self.points[view], view, self.skeleton, sigma=self.sigma)

    def sigma_of(self, view: str) -> Array:
        """Sigma (S, J) in the unit of `poses(view)`."""
        return self.found.sigma_in_unit(self.sigma, view)


def all_joints(take: Take, found: Triangulation, *, config: TriangulateConfig | None = None) -> AllJoints | None:
    """A triangulated take with all joints of its detector.

    None where the views were detected with different joints, or with joints that have no pelvis (COCO's), of which
    only eyes and ears are no joints of the triangulation.
    """
    if not has_more(take):
        return None
    poses = {view: take.poses[view] for view in found.views}
    skeleton = next(iter(poses.values())).skeleton
    known = single_joints(skeleton)
    ours, theirs = list(known), list(known.values())
    others = [joint for joint in range(len(skeleton)) if joint not in theirs]
    step_s = float(np.median(np.diff(found.time))) if len(found.time) > 1 else 1.0
    window = _window(found)
    joints, sigma = _meet(found, poses, skeleton, config or TriangulateConfig())
    points = {}
    for view in found.views:
        camera = found.cameras[view]
        own = np.einsum("sab,sjb->sja", camera.rotation[window], joints) + camera.translation[window][:, None]
        own = delayed(own, camera.delay_s[window] / step_s) if camera.delay_s.any() else own
        own[:, theirs] = found.points[view][:, ours]
        points[view] = own
    whole = np.full((len(found.time), len(skeleton)), np.nan)
    usual = constant_sigma(skeleton) * float(found.bones_m.sum()) / BODY_M
    whole[:, theirs], whole[:, others] = found.sigma[:, ours], np.hypot(sigma, usual)[:, others]
    return AllJoints(found, skeleton, points, whole)


def has_more(take: Take) -> bool:
    """Whether all views of a take were detected with the same joints, a pelvis and more than the lifter's."""
    (skeleton, *others) = {take.poses[view].skeleton for view in take.views}
    return not others and skeleton != H36M17 and H36M17.root in single_joints(skeleton)


def _window(found: Triangulation) -> Array:
    """In which window of still cameras each frame (S,) lies."""
    start_s = found.cameras[found.views[0]].start_s
    return np.asarray(np.maximum(np.searchsorted(start_s, found.time + 1e-9, side="right") - 1, 0))


def _meet(
    found: Triangulation, poses: Mapping[str, Poses2D], skeleton: Skeleton, config: TriangulateConfig
) -> tuple[Array, Array]:
    """Where the rays of every joint meet, (S, J, 3) m in the first view's axes, and its sigma (S, J) m."""
    window, scale = _window(found), float(found.bones_m.sum()) / BODY_M
    limbs = [[pair for pair in skeleton.pairs if skeleton.joints[pair[0]].split("_")[-1] in names]
             for names in (_LEGS, _ARMS)]  # fmt: skip
    rays, turns, moves, focals, precisions = [], [], [], [], []
    for view, own in poses.items():
        camera = found.cameras[view]
        turns.append(camera.rotation[window][:, None])
        moves.append(camera.translation[window][:, None])
        moments = camera.clock.to_view(found.time + camera.delay_s[window])
        asked, order = np.unique(np.clip(moments, own.time[0], own.time[-1]), return_inverse=True)
        flat = own.at(asked)
        xy, score = (swap_sides(values[order], found.swapped[view], limbs) for values in (flat.xy, flat.score))
        rays.append(np.nan_to_num((xy - camera.principal_point_px) / camera.focal_px))
        body = STATURE_M * scale * camera.focal_px / found.points[view][:, H36M17.root, 2]
        precisions.append(score / (config.pixel_noise * body[:, None]) ** 2)
        focals.append(camera.focal_px)
    depths = [np.repeat(found.points[view][:, [H36M17.root], 2], len(skeleton), axis=1) for view in poses]
    ridge = 1e-9 * np.eye(3)
    for _ in range(_STEPS):
        normal, right = np.zeros((*depths[0].shape, 3, 3)) + ridge, np.zeros((*depths[0].shape, 3))
        rows_of = []
        for ray, turn, move, focal, precision, depth in zip(
            rays, turns, moves, focals, precisions, depths, strict=True
        ):
            rows = turn[..., :2, :] - ray[..., None] * turn[..., 2:, :]
            value = ray * move[..., 2:] - move[..., :2]
            weight = precision * (focal / np.maximum(depth, 0.1)) ** 2
            normal += weight[..., None, None] * rows.swapaxes(-1, -2) @ rows
            right += weight[..., None] * (rows.swapaxes(-1, -2) @ value[..., None])[..., 0]
            rows_of.append((rows, value, weight))
        joints = np.linalg.solve(normal, right[..., None])[..., 0]
        depths = [(turn @ joints[..., None])[..., 2, 0] + move[..., 2] for turn, move in zip(turns, moves, strict=True)]
    misfit = sum(w * (((rows @ joints[..., None])[..., 0] - value) ** 2).sum(-1) for rows, value, w in rows_of)
    sigma = np.sqrt(np.trace(np.linalg.inv(normal), axis1=-2, axis2=-1) / 3)
    seen = (np.stack(precisions) > 0).sum(axis=0)
    freedom = 2 * seen - 3  # measured numbers of a joint, but three that were fitted
    usual = freedom * (1 - 2 / (9 * np.maximum(freedom, 1))) ** 3  # median of chi-squared
    for joint in range(len(skeleton)):
        both = seen[:, joint] > 1
        share = float(np.median(misfit[both, joint] / usual[both, joint])) if both.any() else 1.0
        sigma[:, joint] *= np.sqrt(max(share, 1.0))  # the views fit worse than the detector's noise says
    unknown = seen < 2
    return np.where(unknown[..., None], np.nan, joints), np.where(unknown, np.nan, sigma)
