"""How far are up, the floor, the path, contacts, jumps and sizes from the truth? On the rendered scenes, from pixels.

python tests/benchmarks/biomechanics.py [--quick] [--detector movenet] [--work work/pixels] [--only golf,karate]

Every scene goes through sync and detect, then triangulate (two views) or infer with the shipped lifter (one view), with
default settings and the athlete's height. The page is written by a run of all scenes. Columns:

up           angle between the found and the true direction against gravity, with its sigma in brackets
floor        error of the pelvis's mean height above the floor
path         mean distance along the floor between the found and the true pelvis, once place and heading agree
length       length of the found path over that of the true one
contact      share of frames in which a foot stands, or does not, as the true ankle does
slide, float  of standing feet: mean distance of the ankle's way along the floor from the true one's, from the middle
             of each contact, and mean height above or below the usual one of standing ankles
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from adapting import RESULTS
from beside import SHARED
from numpy import ndarray as Array
from pixels import SESSIONS, SINGLE
from scipy.spatial.transform import Rotation
from two_view_3d import Filmed, session_of

from twoview.biomechanics.contacts import ankles, spans, standing
from twoview.biomechanics.events import find_jumps, travelled
from twoview.biomechanics.world import in_world, one_view_world, two_view_worlds
from twoview.config import DetectConfig, InferConfig, TriangulateConfig
from twoview.datasets.rendered import Scene
from twoview.lifting.inference import infer
from twoview.lifting.model import Model, load_model
from twoview.poses import Poses2D, Poses3D, Source, World
from twoview.reconstruction.triangulation import triangulate_takes
from twoview.skeleton import COCO17, H36M17
from twoview.takes import Take
from twoview.timeline import ClockMap, Sync

HEAD = """# The world, the path and sizes

`python tests/benchmarks/biomechanics.py --detector {detector}` on rendered scenes, from pixels. [How up and the floor
are found](../explain/world.md). These are rendered people on level floors, before phones that stand still and are
rolled by 1.3 degrees at most. Its first lines say what the columns are.

"""
REAL = """A man who balances and kicks on a beam for 1.7 s, before the four calibrated cameras of Pose2Sim's
demonstration (BSD-3-Clause): the larger error of both views, and cameras alone. Up is that of the calibration."""
REAL_HZ, REAL_M = 60.0, 1.8
SHORTEST = 4  # frames of a contact that is measured


@dataclass(frozen=True, eq=False)
class Measured:
    """Errors of one view; see the columns above."""

    up_deg: float
    up_sigma_deg: float
    floor_cm: float
    path_cm: float
    length: float
    true_m: float
    contact: float
    slide_cm: float
    float_cm: float
    scale: float
    jumps_cm: tuple[float, ...]


def two_view(session: Sequence[Filmed], model: Model) -> list[dict[str, Poses3D]]:
    """Poses with their world as `twoview triangulate` writes them, by view, for every take."""
    config = TriangulateConfig(height_m=session[0].scene.height_m)
    found = triangulate_takes([one.take for one in session], model, config=config)
    worlds = [two_view_worlds(one) for one in found]
    return [{view: replace(one.poses(view), world=own[view]) for view in own}
            for one, own in zip(found, worlds, strict=True)]  # fmt: skip


def one_view(session: Sequence[Filmed], model: Model) -> list[dict[str, Poses3D]]:
    """Poses with their world as `twoview infer` writes them for a video that no take knows, by view, for every take."""
    config = InferConfig(height_m=session[0].scene.height_m)
    every = []
    for one in session:
        lifted = {view: infer(seen, model, config=config) for view, seen in one.take.poses.items()}
        worlds = {view: one_view_world(poses, one.take.poses[view]) for view, poses in lifted.items()}
        every.append({view: replace(poses, world=worlds[view]) for view, poses in lifted.items()})
    return every


def true_poses(scene: Scene, view: str, time: Array) -> Poses3D:
    """The true joints at these times, with their true world."""
    folder = scene.views[view].video.parent
    row = json.loads((folder / "truth.json").read_text(encoding="utf-8"))["views"][view]
    turn, move = np.array(row["R"]), np.array(row["t"])
    truth = scene.views[view].poses3d
    xyz = truth.xyz.astype(np.float64)
    feet, up = ankles(xyz), turn[:, 2]
    low = float(np.percentile(feet @ up, 10))
    contact = standing(truth.time, feet, up, low)
    right = np.array([1.0, 0, 0]) - up[0] * up
    world = World(up, right / np.linalg.norm(right), move, xyz[:, 0], contact, 0.0, 0.0, np.zeros(len(xyz)), "truth")
    return replace(truth, xyz=xyz - xyz[:, :1], origin="root", world=world).at(time)


def measure(found: Poses3D, scene: Scene, view: str) -> Measured:
    """Errors of one view's poses and world, over the frames that both know."""
    truth = true_poses(scene, view, found.time)
    known = np.isfinite(found.xyz).all(axis=(1, 2)) & np.isfinite(truth.xyz).all(axis=(1, 2))
    known &= np.isfinite(found.world.root).all(axis=1)
    found, truth = (_picked(one, known) for one in (found, truth))
    mine, true = (in_world(one).xyz.astype(np.float64) for one in (found, truth))
    own, other = found.world, truth.world
    mine = _aligned(mine, true)
    off = np.linalg.norm((mine - true)[:, 0, [0, 2]], axis=1)
    slides, floats = [], []
    for foot, span in spans(other.contact):
        if len(span) >= SHORTEST:
            way, true_way = (ankles(one)[span, foot] for one in (mine, true))
            moved = (way - way.mean(axis=0)) - (true_way - true_way.mean(axis=0))
            slides.append(np.linalg.norm(moved[:, [0, 2]], axis=1))
            floats.append(way[:, 1])
    heights = np.concatenate(floats)
    size = [float(np.sqrt((one.xyz.astype(np.float64) ** 2).sum())) for one in (found, truth)]
    return Measured(
        up_deg=float(np.degrees(np.arccos(np.clip(own.up @ other.up, -1, 1)))), up_sigma_deg=own.up_sigma_deg,
        floor_cm=100 * abs(float((mine - true)[:, 0, 1].mean())), path_cm=100 * float(off.mean()),
        length=travelled(found) / travelled(truth), true_m=travelled(truth),
        contact=float((own.contact == other.contact).mean()),
        slide_cm=100 * float(np.concatenate(slides).mean()),
        float_cm=100 * float(np.abs(heights - np.median(heights)).mean()),
        scale=size[0] / size[1], jumps_cm=tuple(_jump_errors(found, truth)),
    )  # fmt: skip


def _picked(poses: Poses3D, frames: Array) -> Poses3D:
    world = None if poses.world is None else poses.world.pick(frames)
    share = None if poses.adapted_share is None else poses.adapted_share[frames]
    return replace(poses, xyz=poses.xyz[frames], time=poses.time[frames], world=world, adapted_share=share)


def _aligned(found: Array, truth: Array) -> Array:
    """Joints (T, J, 3) turned about up and moved along the floor so that the root's path fits the true one best."""
    level = [0, 2]
    (a, b), (start, end) = zip(*((one[:, 0, level] - one[:, 0, level].mean(axis=0), one[:, 0, level].mean(axis=0))
                                 for one in (found, truth)), strict=True)  # fmt: skip
    turn = np.arctan2((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum(), (a * b).sum())
    cos, sin = np.cos(turn), np.sin(turn)
    moved = found.copy()
    moved[..., level] = (found[..., level] - start) @ np.array([[cos, sin], [-sin, cos]]) + end
    return moved


def _jump_errors(found: Poses3D, truth: Poses3D) -> list[float]:
    """Distances in cm of the height of every true jump from that of the found one at its time; infinite for none."""
    errors = []
    for jump in find_jumps(truth):
        same = [one for one in find_jumps(found) if one.start < jump.end and jump.start < one.end]
        errors.append(100 * min((abs(one.rise_m - jump.rise_m) for one in same), default=np.inf))
    return errors


def world_table(found: dict[str, list[Measured]]) -> list[str]:
    """A row per scene: means over its takes and views, and the largest of the errors with a goal."""
    lines = [
        "| scene | up, degrees (sigma) | largest | floor, cm | path, cm | largest | of m | length | contact | "
        "slide, cm | float, cm | jumps, cm: mean, largest |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, views in found.items():
        mean = {key: float(np.mean([getattr(one, key) for one in views])) for key in Measured.__dataclass_fields__
                if key != "jumps_cm"}  # fmt: skip
        jumps = [error for one in views for error in one.jumps_cm]
        made = [error for error in jumps if np.isfinite(error)]
        shown = f"{np.mean(made):.1f}, {np.max(made):.1f} ({len(made)} of {len(jumps)})" if made else ""
        up, path = (max(getattr(one, key) for one in views) for key in ("up_deg", "path_cm"))
        lines.append(
            f"| {name} | {mean['up_deg']:.1f} ({mean['up_sigma_deg']:.1f}) | {up:.1f} | {mean['floor_cm']:.0f} | "
            f"{mean['path_cm']:.1f} | {path:.1f} | {mean['true_m']:.1f} | {mean['length']:.0%} | "
            f"{mean['contact']:.0%} | {mean['slide_cm']:.1f} | {mean['float_cm']:.1f} | {shown} |"
        )
    return lines


def size_table(sessions: dict[str, Sequence[Filmed]], found: dict[str, list[dict[str, Poses3D]]],
               measured: dict[str, list[Measured]]) -> list[str]:  # fmt: skip
    """Sizes of the found bodies, and of the true ones by COCO's joints and by joint centers."""
    lines = [
        "| scene | found / true size | hips, cm: found, COCO, centers | shoulders, cm | thigh and shank, cm |",
        "|---|---|---|---|---|",
    ]
    pairs = (("right_hip", "left_hip"),), (("right_shoulder", "left_shoulder"),), (
        ("right_hip", "right_knee"), ("right_knee", "right_ankle"),
    )  # fmt: skip
    for name, session in sessions.items():
        scene = session[0].scene
        with np.load(next(iter(scene.views.values())).video.parent / "truth.npz", allow_pickle=False) as arrays:
            coco, centers = arrays["a_coco3d_world"], arrays["a_joints3d_world"]
        mine = next(iter(found[name][0].values())).xyz
        sets = ((mine, H36M17), (coco, COCO17), (centers, H36M17))
        cells = [", ".join(f"{sum(_length(points, skeleton, a, b) for a, b in own):.1f}" for points, skeleton in sets)
                 for own in pairs]  # fmt: skip
        size = np.mean([one.scale for one in measured[name]])
        lines.append(f"| {name} | {size:.1%} | {' | '.join(cells)} |")
    return lines


def _length(points: Array, skeleton: object, a: str, b: str) -> float:
    index = skeleton.index  # type: ignore[attr-defined]
    return 100 * float(np.nanmedian(np.linalg.norm(points[:, index(a)] - points[:, index(b)], axis=-1)))


def real_cameras(model: Model) -> list[str]:
    """Angles between the found and the calibrated up, before four tilted cameras, by pairs and alone."""
    folder = SHARED / "data/video/pose2sim_single/reference"
    cameras = json.loads((folder / "refined_cameras.json").read_text(encoding="utf-8"))
    with np.load(folder / "movenet_thunder_coco17_2d.npz", allow_pickle=False) as arrays:
        keypoints = arrays["keypoints"].astype(np.float64)
    up, seen = {}, {}
    for row, own in zip(cameras, keypoints, strict=True):
        view, known = row["name"], np.isfinite(own).all(axis=-1) & (own[..., 2] >= DetectConfig().score)
        up[view] = Rotation.from_rotvec(row["rvec"]).as_matrix()[:, 2]
        seen[view] = Poses2D(
            np.where(known[..., None], own[..., :2], np.nan), np.where(known, np.clip(own[..., 2], 0, 1), 0.0),
            np.arange(len(own)) / REAL_HZ, COCO17, tuple(row["size"]), view, Source(view, "movenet"),
        )  # fmt: skip
    lines = ["| cameras | rolled, down, degrees | up, degrees (sigma) |", "|---|---|---|"]
    for size in (2, 1):
        for views in combinations(seen, size):
            if size == 2:
                take = Take("real", {v: seen[v] for v in views}, Sync(views[0], {v: ClockMap() for v in views}))
                (found,) = triangulate_takes([take], model, config=TriangulateConfig(height_m=REAL_M))
                worlds = two_view_worlds(found)
            else:
                lifted = infer(seen[views[0]], model, config=InferConfig(height_m=REAL_M))
                worlds = {views[0]: one_view_world(lifted, seen[views[0]])}
            held = [f"{np.degrees(np.arctan2(up[v][0], -up[v][1])):.0f}, {np.degrees(np.arcsin(-up[v][2])):.0f}"
                    for v in views]  # fmt: skip
            off = max(float(np.degrees(np.arccos(np.clip(worlds[v].up @ up[v], -1, 1)))) for v in views)
            lines.append(
                f"| {', '.join(views)} | {'; '.join(held)} | {off:.1f} ({worlds[views[0]].up_sigma_deg:.1f}) |"
            )
    return lines


def main() -> None:
    """Print the tables, and write the page after a full run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="hop_field alone")
    parser.add_argument("--detector", default="movenet")
    parser.add_argument("--work", type=Path, default=Path("work/pixels"))
    parser.add_argument("--only", default="", help="scenes, with commas")
    given = parser.parse_args()
    torch.set_num_threads(1)
    names = given.only.split(",") if given.only else ["hop_field"] if given.quick else [*SINGLE, *SESSIONS]
    model = load_model("twoview-small")
    sessions = {name: session_of(name, given.work, given.detector) for name in names}
    lines, sizes = [], []
    for title, way in (("Two views", two_view), ("One view", one_view)):
        found = {name: way(session, model) for name, session in sessions.items()}
        measured = {
            name: [measure(poses, one.scene, view) for own, one in zip(found[name], session, strict=True)
                   for view, poses in own.items()]
            for name, session in sessions.items()
        }  # fmt: skip
        lines += [f"## {title}", "", *world_table(measured), ""]
        sizes = sizes or ["## Sizes", "", *size_table(sessions, found, measured)]
    lines += sizes
    if not given.only:
        lines += ["", "## Real, tilted cameras", "", REAL, "", *real_cameras(model)]
    print("\n".join(lines))
    if not given.quick and not given.only:
        text = HEAD.format(detector=given.detector)
        page = RESULTS / "biomechanics.md"
        kept = (page.read_text(encoding="utf-8") if page.exists() else "").partition("\n## What ")
        tail = f"\n## What {kept[2]}" if kept[1] else ""
        page.write_text(text + "\n".join(lines).rstrip() + "\n" + tail, encoding="utf-8")


if __name__ == "__main__":
    main()
