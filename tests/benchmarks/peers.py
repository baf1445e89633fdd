"""Two-view 3D and cameras beside HumanCalib and beside true cameras, from the same detections.

python tests/benchmarks/peers.py [--peer /tmp/humancalib/bin/python] [--work work/pixels] [--only golf,karate]

HumanCalib (MIT, https://pypi.org/project/humancalib) finds the cameras of a rig from a person, with intrinsics that are
known. It lives in an environment of its own, since it wants another OpenCV: `pip install humancalib`, and --peer or
TWOVIEW_HUMANCALIB_PYTHON names its python. Its networks (MeTRAbs, or RTMPose and VideoPose3D) cannot be had offline, so
it gets what its calibration takes from them: our detections at our synchronized moments, and the 3D of each view by
twoview-small, which our own first guess is made from. Every other setting is its default: the superposed poses of each
view, then its bundle adjustment, on about 100 frames of a take; its own triangulation then gives the 3D of all frames.
It gets the true focal lengths and principal points. The last row of a scene has true cameras and clocks, and each joint
by itself (least squares in pixels, weighted by score). Errors are over the pelvis and the twelve joints of the limbs,
root-relative; scores below 0.5 count as unseen to HumanCalib (its default).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from adapting import RESULTS
from cameras import WAYS, solved, turned_deg
from numpy import ndarray as Array
from pixels import SESSIONS, SINGLE
from two_view_3d import Filmed, floor, session_of

from twoview.evaluation.scoring import match
from twoview.geometry.cameras import principal_point
from twoview.geometry.similarity import rooted
from twoview.lifting.inference import lift
from twoview.lifting.model import Model, load_model
from twoview.poses import Poses3D
from twoview.reconstruction.triangulation import Triangulation
from twoview.skeleton import H36M17, stature
from twoview.takes import resample

# The peer's joints in its order, as ours.
OURS = ("nose", "thorax", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
        "pelvis", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle")  # fmt: skip
JOINTS = [H36M17.root, *(joint for pair in H36M17.pairs for joint in pair)]
FRAMES = 100  # its budget
PEER = """
import sys
import numpy as np
from humancalib import cli
from humancalib.calibration.ba import ba_main
from humancalib.calibration.calib_linear import calib_procrustes, place_in_camera
from humancalib.core import geometry, skeletons
source, target = sys.argv[1:]
data = np.load(source)
flat, score, solid, k = (data[name].astype(float) for name in ("flat", "score", "solid", "k"))
some = slice(None, None, max(flat.shape[1] // int(data["frames"]), 1))
few = [values[:, some].copy() for values in (flat, score, solid)]
placed, valid = place_in_camera(few[2], np.where(np.isfinite(few[2]).all(-1), 1.0, 0.0), few[0], few[1], k)
turn, move, _ = calib_procrustes(placed, valid, k, few[0], few[1])
bones, _ = skeletons.get_bone_config(flat.shape[2])
turn, move, _, _ = ba_main(np.arange(1, len(k) + 1), k, turn, move, few[0], few[1], placed, valid, cli.LAMBDA1,
                           cli.LAMBDA2, 0.5, bones, jac_mode="analytic")
points = geometry.triangulate_with_conf(flat, score, k, turn, move, score > 0.5)
np.savez(target, rotation=turn, translation=np.reshape(move, (-1, 3)), points=points.reshape(*flat.shape[1:3], 3))
"""
HEAD = """# Beside HumanCalib

`python tests/benchmarks/peers.py`: rendered scenes, the same detections (MoveNet) and synchronized moments for all.
HumanCalib 0.5.4 gets the true intrinsics, which it needs, and the 3D of each view from `twoview-small`, as its own
networks cannot be had offline: these are not the figures of its own detector. Rotation between the first view and each
other one, and the direction from the first camera to it: mean and largest over takes and views. 3D: pelvis and twelve
joints of the limbs, root-relative, of the joints that each knows.

"""


def by_peer(python: Path, one: Filmed, model: Model) -> tuple[Array, Array, dict[str, Poses3D], float]:
    """Rotations (V, 3, 3) and translations (V, 3) from the first view, poses of each view, and seconds."""
    grid = resample(one.take, model.rate_hz)
    order = [H36M17.index(joint) for joint in OURS]
    solid = []
    for view, own in one.take.poses.items():
        lifted = lift(model, own.to(H36M17)).at(grid.view_time[view], max_gap=np.inf).xyz.astype(np.float64)
        bones = np.linalg.norm(np.stack([lifted[:, b] - lifted[:, a] for a, b in H36M17.bones], axis=1), axis=-1)
        solid.append(lifted[:, order] * one.scene.height_m / np.nanmedian(stature(bones)))
    k = np.zeros((len(one.focal), 3, 3))
    k[:, 0, 0] = k[:, 1, 1] = one.focal
    k[:, :2, 2], k[:, 2, 2] = principal_point(grid.size), 1.0
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.npz", Path(folder) / "out.npz"
        np.savez(source, flat=grid.xy[:, :, order], score=grid.score[:, :, order], solid=np.stack(solid), k=k,
                 frames=FRAMES)  # fmt: skip
        began = time.perf_counter()
        done = subprocess.run([str(python), "-c", PEER, str(source), str(target)], capture_output=True, text=True,
                              env={**os.environ, "PYTHONPATH": ""}, cwd=folder)  # fmt: skip
        seconds = time.perf_counter() - began
        if done.returncode:
            raise SystemExit(done.stderr[-2000:])
        with np.load(target) as made:
            turn, move, points = (made[name] for name in ("rotation", "translation", "points"))
    poses = {}
    for v, view in enumerate(grid.views):
        xyz = np.full((len(grid.time), len(H36M17), 3), np.nan)
        xyz[:, order] = points @ turn[v].T + move[v]
        poses[view] = Poses3D(rooted(xyz), grid.view_time[view], unit="m", view=view)
    between = turn @ turn[0].T
    return between, move - np.einsum("vab,b->va", between, move[0]), poses, seconds


def off_deg(translation: Array, one: Filmed) -> Array:
    """Degrees (V - 1,) between directions from the first camera to the others, in each other one's axes."""
    true = one.translation - one.rotation @ one.rotation[0].T @ one.translation[0]
    pairs = [values[1:] / np.linalg.norm(values[1:], axis=-1, keepdims=True) for values in (translation, true)]
    return np.degrees(np.arccos(np.clip((pairs[0] * pairs[1]).sum(-1), -1, 1)))


def errors(poses: Sequence[dict[str, Poses3D]], session: Sequence[Filmed]) -> str:
    """N-MPJPE and PA-MPJPE, mm, and the share of joints that are known, %."""
    found: dict[str, list[Array]] = {"N-MPJPE": [], "PA-MPJPE": []}
    known = []
    for own, one in zip(poses, session, strict=True):
        for view, each in own.items():
            part = Poses3D(
                np.where(np.isin(np.arange(17), JOINTS)[:, None], each.xyz, np.nan), each.time, unit=each.unit
            )
            pair = match(part, one.scene.views[view].poses3d)
            known.append(np.isfinite(each.xyz[:, JOINTS]).all(-1).mean())
            for kind, values in found.items():
                values.append(pair.errors(kind).numpy()[:, JOINTS[1:]])
    means = " / ".join(f"{np.nanmean(np.concatenate(values)):.1f}" for values in found.values())
    return f"{means} | {100 * np.mean(known):.0f}"


def row(name: str, way: str, cameras: Sequence[tuple[Array, Array]], poses: Sequence[dict[str, Poses3D]],
        session: Sequence[Filmed], seconds: str) -> str:  # fmt: skip
    """One line of the table."""
    turned = np.concatenate([turned_deg(turn, one) for (turn, _), one in zip(cameras, session, strict=True)])
    off = np.concatenate([off_deg(move, one) for (_, move), one in zip(cameras, session, strict=True)])
    cells = [f"{values.mean():.1f} ({values.max():.1f})" for values in (turned, off)]
    return f"| {name} | {way} | {' | '.join(cells)} | {errors(poses, session)} | {seconds} |"


def of_triangulation(found: Triangulation) -> tuple[Array, Array]:
    """Rotations and translations from the first view."""
    cameras = list(found.cameras.values())
    return np.stack([c.rotation[0] for c in cameras]), np.stack([c.translation[0] for c in cameras])


def main() -> None:
    """Print the table, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = os.environ.get("TWOVIEW_HUMANCALIB_PYTHON", "/tmp/humancalib/bin/python")
    parser.add_argument("--peer", type=Path, default=Path(default), help="python that has HumanCalib")
    parser.add_argument("--detector", default="movenet")
    parser.add_argument("--work", type=Path, default=Path("work/pixels"))
    parser.add_argument("--only", default="", help="scenes, with commas")
    given = parser.parse_args()
    torch.set_num_threads(1)
    names, model = given.only.split(",") if given.only else [*SESSIONS, *SINGLE], load_model("twoview-small")
    titles = ["scene", "cameras and 3D by", "rotation, degrees", "direction, degrees", "N-MPJPE / PA-MPJPE, mm",
              "joints known, %", "s"]  # fmt: skip
    lines = [f"| {' | '.join(titles)} |", "|---|" + "---|" * (len(titles) - 1)]
    print("\n".join(lines))
    if not given.peer.exists():
        print(f"HumanCalib is not measured: {given.peer} does not exist (pip install humancalib in a venv of its own)")
    for name in names:
        session = session_of(name, given.work, given.detector)
        made = []
        for way in (WAYS[0], WAYS[2]):
            began = time.perf_counter()
            found = solved(session, model, way)
            spent = f"{time.perf_counter() - began:.0f}"
            poses = [{view: take.poses(view) for view in take.views} for take in found]
            made.append(
                row(name, f"twoview, focal lengths {way}", [*map(of_triangulation, found)], poses, session, spent)
            )
        if given.peer.exists():
            theirs = [by_peer(given.peer, one, model) for one in session]
            spent = f"{sum(each[3] for each in theirs):.0f}"
            made.append(row(name, "HumanCalib, true intrinsics", [each[:2] for each in theirs],
                            [each[2] for each in theirs], session, spent))  # fmt: skip
        true = []
        for one in session:
            turn = one.rotation @ one.rotation[0].T
            true.append((turn, one.translation - turn @ one.translation[0]))
        made.append(
            row(name, "true cameras", true, [floor(one, model.rate_hz, bones=False) for one in session], session, "")
        )
        for line in made:
            lines.append(line)
            print(line, flush=True)
    if not given.only and given.peer.exists():
        (RESULTS / "peers.md").write_text(HEAD + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
