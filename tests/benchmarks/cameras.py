"""How well are the cameras found, with and without known focal lengths, and what sets the limit? On rendered scenes.

python tests/benchmarks/cameras.py [--quick] [--detector movenet] [--work work/pixels] [--only golf,karate]

Every scene goes through sync, detect and triangulate with default settings. The rotation between the first view and
each other one is compared with the truth: mean and largest over takes and views. Focal lengths are unknown, in the file
as phones write them (35 mm equivalent, a whole number of mm), or given in pixels. The column after them is what the
detections allow: each camera by itself is fitted to the true 3D joints with its true focal length (least squares,
robust), so that nothing but the detector's errors turns it. Shoulders against pelvis (X-factor) is the angle that golf
needs, with the cameras that were found and with the true ones. The page is written by a run of all scenes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from adapting import RESULTS
from angles import errors as angle_errors
from numpy import ndarray as Array
from pixels import SESSIONS, SINGLE
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation
from two_view_3d import Filmed, floor, session_of

from twoview.config import TriangulateConfig
from twoview.geometry.cameras import principal_point, project
from twoview.lifting.model import Model, load_model
from twoview.poses import Poses3D
from twoview.reconstruction.focal_lengths import FULL_FRAME_MM
from twoview.reconstruction.self_calibration import LIMBS
from twoview.reconstruction.triangulation import Triangulation, triangulate_takes
from twoview.skeleton import H36M17

WAYS = ("unknown", "35 mm equivalent in the file", "given in px")
FAR_PX = 10.0  # residuals beyond are down-weighted
HEAD = """# Cameras

`python tests/benchmarks/cameras.py --detector {detector}`: rendered scenes through sync, detect and triangulate with
default settings, against the true cameras: rotation between the first view and each other one, mean and largest over
takes and views. [What is known of focal lengths](../explain/self-calibration.md#focal-lengths).

"""


def solved(session: Sequence[Filmed], model: Model, way: str) -> list[Triangulation]:
    """All takes of a scene, with what is known of the lenses."""
    takes, config = [one.take for one in session], TriangulateConfig(height_m=session[0].scene.height_m)
    if way == WAYS[1]:
        takes = [replace(one.take, focal_mm=file_mm(one)) for one in session]
    elif way == WAYS[2]:
        lengths = zip(session[0].take.views, session[0].focal, strict=True)
        config = replace(config, focal=",".join(f"{view}={focal:.1f}" for view, focal in lengths))
    return triangulate_takes(takes, model, config=config)


def file_mm(one: Filmed) -> dict[str, float]:
    """What a phone with each view's lens writes."""
    sizes = {view: max(one.take.poses[view].size) for view in one.take.views}
    return {v: float(round(FULL_FRAME_MM * f / sizes[v])) for v, f in zip(one.take.views, one.focal, strict=True)}


def turned_deg(rotation: Array, one: Filmed) -> Array:
    """Degrees (V - 1,) between rotations (V, 3, 3) from the first view to each, and the true ones."""
    off = rotation @ (one.rotation @ one.rotation[0].T).swapaxes(-1, -2)
    return np.degrees(Rotation.from_matrix(off[1:]).magnitude())


def fitted_to_truth(one: Filmed) -> Array:
    """Rotations (V, 3, 3) from the first view to each, of cameras fitted to the true joints in each view alone."""
    every = []
    for v, view in enumerate(one.take.views):
        own, truth = one.take.poses[view].to(H36M17), one.scene.views[view].poses3d
        body = truth.at(own.time).xyz.astype(np.float64)
        uv = own.xy - principal_point(np.array(own.size, dtype=np.float64))
        seen = (own.score > 0) & np.isfinite(body).all(-1)

        def off(
            turn: Array, body: Array = body[seen], uv: Array = uv[seen], focal: float = float(one.focal[v])
        ) -> Array:
            points = Rotation.from_rotvec(turn[:3]).apply(body) + turn[3:]
            return (project(points, focal) - uv).ravel()

        fit = least_squares(off, np.zeros(6), loss="cauchy", f_scale=FAR_PX)
        every.append(Rotation.from_rotvec(fit.x[:3]).as_matrix() @ one.rotation[v])
    return np.stack(every) @ every[0].T


def x_factor_error(poses: Sequence[dict[str, Poses3D]], session: Sequence[Filmed]) -> float:
    """Mean error in degrees of the shoulders' turn against the pelvis, all takes and views."""
    pairs = [
        (found, one.scene.views[view].poses3d)
        for own, one in zip(poses, session, strict=True)
        for view, found in own.items()
    ]
    return float(angle_errors(pairs)["x_factor"].mean())


def wrongly_swapped(found: Sequence[Triangulation], session: Sequence[Filmed]) -> float:
    """Share of all views' frames whose arms or legs were called swapped although they lie nearer to the true ones."""
    wrong = []
    for take, one in zip(found, session, strict=True):
        for view, called in take.swapped.items():
            own = one.take.poses[view].to(H36M17).at(take.view_time[view]).xy
            truth = one.scene.views[view].poses2d.to(H36M17).at(take.view_time[view]).xy
            for limb, pairs in enumerate(LIMBS.values()):
                left, right = (list(side) for side in zip(*pairs, strict=True))
                joints, others = left + right, right + left
                as_seen, swapped = (
                    np.nansum(np.linalg.norm(own[:, order] - truth[:, joints], axis=-1), axis=1)
                    for order in (joints, others)
                )
                wrong.append(called[:, limb] & (as_seen < swapped))
    return float(np.concatenate(wrong).mean())


def rows(name: str, session: Sequence[Filmed], model: Model) -> Iterator[str]:
    """The table's row of every way, and what the detections allow."""
    limit = np.concatenate([turned_deg(fitted_to_truth(one), one) for one in session])
    true_cameras = x_factor_error([floor(one, model.rate_hz, bones=False) for one in session], session)
    for way in WAYS:
        found = solved(session, model, way)
        turned = np.concatenate([
            turned_deg(np.stack([camera.rotation[0] for camera in take.cameras.values()]), one)
            for take, one in zip(found, session, strict=True)
        ])  # fmt: skip
        lenses = (
            f"{view} {100 * (found[0].focal_px[view] / focal - 1):+.0f}"
            for view, focal in zip(found[0].views, session[0].focal, strict=True)
        )
        own = x_factor_error([{view: take.poses(view) for view in take.views} for take in found], session)
        yield (
            f"| {name} | {way} | {turned.mean():.1f} ({turned.max():.1f}) | {', '.join(lenses)} | {limit.mean():.1f} "
            f"({limit.max():.1f}) | {own:.1f} | {true_cameras:.1f} | {100 * wrongly_swapped(found, session):.1f} |"
        )


def main() -> None:
    """Print the table, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="golf alone")
    parser.add_argument("--detector", default="movenet")
    parser.add_argument("--work", type=Path, default=Path("work/pixels"))
    parser.add_argument("--only", default="", help="scenes, with commas")
    given = parser.parse_args()
    torch.set_num_threads(1)
    names = given.only.split(",") if given.only else ["golf"] if given.quick else [*SESSIONS, *SINGLE]
    model = load_model("twoview-small")
    columns = [
        "scene", "focal lengths", "rotation, degrees: mean (largest)", "focal length, %",
        "rotation of cameras fitted to the true 3D", "X-factor, degrees", "X-factor with true cameras",
        "limbs wrongly called swapped, % of frames",
    ]  # fmt: skip
    lines = [f"| {' | '.join(columns)} |", "|---|" + "---|" * (len(columns) - 1)]
    print("\n".join(lines))
    for name in names:
        for row in rows(name, session_of(name, given.work, given.detector), model):
            lines.append(row)
            print(row, flush=True)
    if not given.quick and not given.only:
        text = HEAD.format(detector=given.detector) + "\n".join(lines) + "\n"
        page = RESULTS / "cameras.md"
        kept = page.read_text(encoding="utf-8").partition("\n## ") if page.exists() else ("", "", "")
        page.write_text(text + "".join(kept[1:]), encoding="utf-8")


if __name__ == "__main__":
    main()
