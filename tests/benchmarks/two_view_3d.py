"""How good is two-view 3D from pixels, and how much of its error is the detector's? Against the scenes' truth.

python tests/benchmarks/two_view_3d.py [--quick] [--detector movenet] [--work work/pixels] [--only golf,karate]
    [--hips 0] [--noise pixel=0.007,trunk_m=0.025,bone=0.15,hidden=1]       other constants than those that ship

Every scene goes through sync, detect and triangulate with default settings and the athlete's height. Beside it stands
the floor: the same detections with the scene's true cameras and clocks, once triangulated joint by joint (least squares
in pixels, weighted by score), once refined as a take is, with the true bones. All errors are over all views and frames.
The last column takes the skeleton's joint centers for truth (twelve limb joints), where hips, ankles and elbows are
defined otherwise than in COCO: a correction of the detector must not only move one definition to another.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from numpy import ndarray as Array
from pixels import SCENES, SESSIONS, SINGLE, take_of

from twoview.config import TriangulateConfig
from twoview.datasets.rendered import Scene
from twoview.evaluation.scoring import match
from twoview.geometry.cameras import principal_point
from twoview.geometry.similarity import bone_lengths, rooted
from twoview.lifting.model import Model, load_model
from twoview.poses import Poses3D
from twoview.reconstruction import triangulation
from twoview.reconstruction.bundle_adjustment import Noise, Problem, State, minimize
from twoview.skeleton import COCO17, H36M17, HIPS_TOO_HIGH, STATURE_M
from twoview.takes import Take, resample
from twoview.timeline import Sync

KINDS = ("MPJPE", "N-MPJPE", "PA-MPJPE")
KIND_NAMES = " / ".join(KINDS)
WAYS = ("two-view 3D", "true cameras", "true cameras and bones")
ROUNDS = 10  # of reweighted least squares: pixels, not rays, count


@dataclass(frozen=True)
class Filmed:
    """A take from pixels, and where its cameras truly stood: from the world to each (V, 3, 3), (V, 3) m, focal px."""

    take: Take
    scene: Scene
    rotation: Array
    translation: Array
    focal: Array


def filmed(folder: Path, work: Path, detector: str) -> Filmed:
    """One scene through sync and detect, with its true cameras."""
    take, scene = take_of(folder, work, detector)
    views = json.loads((folder / "truth.json").read_text(encoding="utf-8"))["views"]
    rotation, translation = (np.array([views[view][key] for view in take.views]) for key in ("R", "t"))
    return Filmed(take, scene, rotation, translation, np.array([scene.views[view].focal_px for view in take.views]))


def session_of(name: str, work: Path, detector: str) -> list[Filmed]:
    """All takes of a session, or a scene by itself."""
    folders = sorted(path for path in (SCENES / name).iterdir() if path.is_dir()) if name in SESSIONS else []
    return [filmed(folder, work, detector) for folder in folders or [SCENES / name]]


def ours(session: Sequence[Filmed], model: Model, noise: Mapping[str, float]) -> list[dict[str, Poses3D]]:
    """Two-view 3D as a user gets it, nothing of the truth but the athlete's height; or with other sigmas."""
    config = TriangulateConfig(height_m=session[0].scene.height_m, pixel_noise=noise.get("pixel", Noise().pixel))
    sigmas = partial(Noise, **{name: value for name, value in noise.items() if name != "pixel"})
    with mock.patch.object(triangulation, "Noise", sigmas):
        found = triangulation.triangulate_takes([one.take for one in session], model, config=config)
    return [{view: take.poses(view) for view in take.views} for take in found]


def floor(one: Filmed, rate: float, *, bones: bool) -> dict[str, Poses3D]:
    """The same detections with true cameras and clocks: each joint by itself, or with true bones and smooth motion."""
    sync = Sync("a", {view: one.scene.views[view].clock for view in one.take.views})
    grid = resample(replace(one.take, sync=sync), rate)
    uv = grid.xy.astype(np.float64) - principal_point(grid.size)[:, None, None]
    turn = one.rotation @ one.rotation[0].T
    move = one.translation - turn @ one.translation[0]
    score = grid.score.astype(np.float64)
    joints = least_squares(uv, score, turn, move, one.focal)
    if bones:
        joints = refined(uv, score, one, State(joints, turn[None], move[None], np.zeros((1, len(uv))),
                                               np.log(one.focal), np.log(true_bones(one))), rate)  # fmt: skip
    points = np.einsum("vab,tjb->vtja", turn, joints) + move[:, None, None]
    return {view: Poses3D(rooted(points[v]), grid.view_time[view], unit="m", view=view)
            for v, view in enumerate(grid.views)}  # fmt: skip


def least_squares(uv: Array, score: Array, turn: Array, move: Array, focal: Array) -> Array:
    """Joints (T, J, 3) m in the first camera's axes with the least reprojection error in px, weighted by score."""
    weight, normal = score, np.zeros((*score.shape[1:], 3, 3))
    for _ in range(ROUNDS):
        normal, right = np.tile(1e-9 * np.eye(3), (*score.shape[1:], 1, 1)), np.zeros((*score.shape[1:], 3))
        for v in range(len(uv)):
            ray = uv[v] / focal[v]
            rows = turn[v][None, None, :2] - ray[..., None] * turn[v][None, None, 2:]
            value = ray * move[v, 2] - move[v, :2]
            normal += weight[v][..., None, None] * rows.swapaxes(-1, -2) @ rows
            right += weight[v][..., None] * (rows.swapaxes(-1, -2) @ value[..., None])[..., 0]
        joints = np.linalg.solve(normal, right[..., None])[..., 0]
        depth = np.einsum("vb,tjb->vtj", turn[:, 2], joints) + move[:, 2, None, None]
        weight = score * (focal[:, None, None] / np.maximum(depth, 0.3)) ** 2
    return np.where((score > 0).sum(0)[..., None] > 1, joints, np.nan)


def refined(uv: Array, score: Array, one: Filmed, state: State, rate: float) -> Array:
    """The joints (T, J, 3) m after the refinement that every take gets, with cameras and bones held at the truth."""
    root = np.nanmedian(state.joints[:, :1], axis=0)
    joints = np.where(np.isfinite(state.joints), state.joints, root)
    noise = Noise(firm_bones=True, shape_m=10.0)
    depth = (np.einsum("vb,tb->vt", state.rotation[0, :, 2], joints[:, 0]) + state.translation[0, :, 2:])[..., None]
    weight = score / (noise.pixel * STATURE_M * one.focal[:, None, None] / depth) ** 2
    problem = Problem(
        uv=uv, speed=np.zeros_like(uv), weight=weight, group=np.zeros(len(joints), dtype=int), shape=rooted(joints),
        log_focal=state.log_focal, log_bones=state.log_bones, focal_sigma=np.ones(len(uv)),
        bones_sigma=np.ones(len(state.log_bones)), noise=noise, step_s=1 / rate,
    )  # fmt: skip
    state = replace(state, joints=joints)
    for blur, steps in ((6.0, 4), (1.0, 6)):
        state = minimize(problem, state, blur=blur, steps=steps, smooth=True, cameras=False)
    return state.joints


def true_bones(one: Filmed) -> Array:
    """Median lengths (J - 1,) m."""
    truth = torch.from_numpy(one.scene.views[one.take.views[0]].poses3d.xyz.astype(np.float64))
    return np.median(bone_lengths(truth).numpy(), axis=0)


def errors(found: Sequence[dict[str, Poses3D]], session: Sequence[Filmed]) -> dict[str, Array]:
    """Distances (T, J) in mm over all takes and views, by kind."""
    matched = [match(poses, one.scene.views[view].poses3d)
               for own, one in zip(found, session, strict=True) for view, poses in own.items()]  # fmt: skip
    return {kind: np.concatenate([pair.errors(kind).numpy() for pair in matched]) for kind in KINDS}


def center_error(found: Sequence[dict[str, Poses3D]], session: Sequence[Filmed]) -> float:
    """PA-MPJPE, mm, of the limbs' joints against the joint centers of the rendered skeleton."""
    limbs = [joint for pair in H36M17.pairs for joint in pair]
    every = []
    for own, one in zip(found, session, strict=True):
        folder = next(iter(one.scene.views.values())).video.parent
        with np.load(folder / "truth.npz", allow_pickle=False) as arrays:
            for view, poses in own.items():
                truth = Poses3D(arrays[f"{view}_joints3d_cam"], arrays[f"{view}_t"], origin="camera", unit="m")
                pair = match(poses, truth)
                part = replace(
                    pair, **{name: getattr(pair, name)[:, limbs] for name in ("predicted", "truth", "known")}
                )
                every.append(part.errors("PA-MPJPE").numpy())
    return float(np.nanmean(np.concatenate(every)))


def hips_above(session: Sequence[Filmed]) -> str:
    """How far the detector marks the hips above the true ones, along the trunk in the picture: mm, view by view."""
    hips, shoulders = ([COCO17.index(f"{side}_{part}") for side in ("left", "right")] for part in ("hip", "shoulder"))
    means = []
    for v, view in enumerate(session[0].take.views):
        every = []
        for one in session:
            truth, found = one.scene.views[view], one.take.poses[view]
            flat, depth = truth.poses2d.at(found.time).xy, truth.poses3d.at(found.time).xyz[:, H36M17.root, 2]
            up = flat[:, shoulders].mean(1) - flat[:, hips].mean(1)
            off = (found.xy - flat)[:, hips].mean(1)
            every.append((off * up).sum(-1) / np.linalg.norm(up, axis=-1) * depth / one.focal[v] * 1000)
        means.append(f"{np.nanmean(np.concatenate(every)):.0f}")
    return ", ".join(means)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="golf alone")
    parser.add_argument("--detector", default="movenet")
    parser.add_argument("--work", type=Path, default=Path("work/pixels"))
    parser.add_argument("--only", default="", help="scenes, with commas")
    parser.add_argument("--hips", type=float, help="how far MoveNet's hips are taken to be too high, of the trunk")
    parser.add_argument("--noise", default="", help="other sigmas, NAME=VALUE with commas")
    given = parser.parse_args()
    noise = {name: float(value) for name, value in (part.split("=") for part in given.noise.split(",") if part)}
    if given.hips is not None:
        HIPS_TOO_HIGH["movenet"] = given.hips
    torch.set_num_threads(1)
    names = given.only.split(",") if given.only else ["golf"] if given.quick else [*SESSIONS, *SINGLE]
    model = load_model("twoview-small")
    columns = [
        *(f"{way}, {KIND_NAMES}, mm" for way in WAYS),
        "core-s per s filmed",
        "limbs, joint centers, PA-MPJPE, mm",
        "hips detected too high, by view, mm",
    ]
    lines = [f"| scene | {' | '.join(columns)} |", "|---|" + "---|" * len(columns)]
    joints: dict[str, dict[str, Array]] = {}
    print("\n".join(lines))
    for name in names:
        session = session_of(name, given.work, given.detector)
        began = time.process_time()
        found = ours(session, model, noise)
        spent = time.process_time() - began
        ways = [found, *([floor(one, model.rate_hz, bones=bones) for one in session] for bones in (False, True))]
        scores = dict(zip(WAYS, (errors(way, session) for way in ways), strict=True))
        seconds = sum(own.time[-1] - own.time[0] for way in found for own in list(way.values())[:1])
        cells = [" / ".join(f"{np.nanmean(score[kind]):.1f}" for kind in KINDS) for score in scores.values()]
        lines.append(f"| {name} | {' | '.join(cells)} | {spent / seconds:.2f} | "
                     f"{center_error(found, session):.1f} | {hips_above(session)} |")  # fmt: skip
        print(lines[-1], flush=True)
        joints[name] = {way: np.nanmean(score["N-MPJPE"], axis=0) for way, score in scores.items()}
    each = [f"| joint, N-MPJPE, mm: two-view 3D (true cameras) | {' | '.join(joints)} |",
            "|---|" + "---|" * len(joints)]  # fmt: skip
    for j, joint in enumerate(H36M17.joints[1:], start=1):
        cells = [f"{by[WAYS[0]][j]:.0f} ({by[WAYS[1]][j]:.0f})" for by in joints.values()]
        each.append(f"| {joint.replace('_', ' ')} | {' | '.join(cells)} |")
    print("\n" + "\n".join(each))


if __name__ == "__main__":
    main()
