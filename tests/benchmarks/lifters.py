"""Errors of lifters in true millimeters: motion capture before fixed virtual phones, and real detections.

    python tests/benchmarks/lifters.py [LIFTER ...] [--quick] [--noise movenet] [--no-flip] [--classes]
    python tests/benchmarks/lifters.py [LIFTER ...] --pixels [--work work/lifters] [--quick]

LIFTER is a name, a model or checkpoint file, or NAME@REVISION for what shipped at a revision of this repository;
without any, all that ship. Root-relative; each frame is scaled by the true depth of its root, as MotionBERT's protocol
does, but against the true pose. Mirrored passes are averaged, as `infer` does.

Motion capture: every clip in windows of 27 frames at the lifter's own rate, two cameras each by seed 1, from any side
or within 15 degrees of the athlete's right; a detector's errors of 0.7 % of the body's size, or MoveNet's as measured.
Pixels: MoveNet on the rendered scenes that are not for training and on a real man seen by four cameras, whose reference
is good to 2 to 3 cm and has neither nose nor head, which are left out there.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from adapting import MOCAP
from beside import ROOT
from numpy import ndarray as Array

from twoview.config import DetectConfig, InferConfig, NoiseModel
from twoview.datasets.motion import Motion, read_motions
from twoview.datasets.rendered import read_scene
from twoview.evaluation import metrics
from twoview.geometry.similarity import mirror
from twoview.lifting.inference import lift
from twoview.lifting.model import LIFTERS_FOLDER, Model, load_model
from twoview.poses import Poses2D, Poses3D
from twoview.skeleton import COCO17, H36M17, to_h36m
from twoview.storage import records
from twoview.storage.weights import ASSETS
from twoview.training.pretraining import BENCHMARK, score_lifter
from twoview.training.virtual_cameras import MotionBank, load_noise

DATA = ROOT.parent / "shared/data"
SETS = ("source_val", "target_test", "target_test_same")
VIEWS = {"any": BENCHMARK, "right": replace(BENCHMARK, azimuth=(-15.0, 15.0))}
KEYS = ("mpjpe", "pa_mpjpe", "n_mpjpe", "mpjve")
TRIAL = {"any": ((60.2, 48.6), (89.8, 70.8)), "right": ((48.5, 40.6), (85.7, 71.6))}  # source_val, target_test
HEAD = "lifter | MPJPE | PA-MPJPE | N-MPJPE | velocity, mm/s"
SHARED_JOINTS = [i for i, name in enumerate(H36M17.joints) if name not in ("nose", "head")]


def open_lifter(name: str, trust: Sequence[str] = ()) -> Model:
    """A shipped name, a file (of a lifter that is trusted), or NAME@REVISION."""
    plain, at, revision = name.partition("@")
    if not at:
        return load_model(name, trust=trust)
    inside = f"{revision}:{(LIFTERS_FOLDER / plain).relative_to(ROOT)}.pt"
    content = subprocess.run(["git", "show", inside], cwd=ROOT, check=True, capture_output=True).stdout
    with tempfile.NamedTemporaryFile(suffix=".pt") as file:
        file.write(content)
        file.flush()
        return load_model(file.name)


def row(name: str, values: Sequence[float]) -> str:
    """A line of a table."""
    return f"| {name} | " + " | ".join(f"{value:.1f}" for value in values) + " |"


def heading(text: str, title: str) -> None:
    """The first two lines of a table."""
    print(f"\n{title}\n\n| {text} |\n" + "|---" * (text.count("|") + 1) + "|", flush=True)


def on_mocap(models: Mapping[str, Model], *, quick: bool, noise: NoiseModel | None, flip: bool, classes: bool) -> None:
    """One table a view and set, and one by class."""
    options = {"cameras": 1 if quick else 2} | ({} if noise is None else {"noise": noise})
    sets = {name: read_motions(MOCAP / name) for name in SETS}
    if quick:
        sets = {name: found[:: 4 if len(found) > 20 else 1] for name, found in sets.items()}
    by_class: dict[str, dict[str, list[float]]] = {}
    for view, where in VIEWS.items():
        for number, (name, motions) in enumerate(sets.items()):
            heading(HEAD, f"{name}, {view} view, {len(motions)} clips")
            if number < 2 and noise is None:
                mpjpe, pa = TRIAL[view][number]
                print(f"| 25-minute trial run | {mpjpe} | {pa} | | |")
            bank = MotionBank(motions)
            for title, model in models.items():
                frames = min(27, model.clip_length)
                lifter = partial(flipped, model.lifter) if flip else model.lifter
                found = score_lifter(
                    lifter, bank, rule=model.framing, frames=frames, rate=model.rate_hz, where=where, **options
                )
                print(row(title, [float(found[key].mean()) if key in found else np.nan for key in KEYS]), flush=True)
                if view == "any":
                    _collect(by_class, name, title, motions, found)
    if classes:
        heading("class | " + " | ".join(models), "By class, any view, MPJPE / PA-MPJPE")
        for kind, found in by_class.items():
            print(f"| {kind} | " + " | ".join(f"{a:.1f} / {b:.1f}" for a, b in found.values()) + " |")


@torch.inference_mode()
def flipped(lifter: torch.nn.Module, seen: torch.Tensor) -> torch.Tensor:
    """The mean of the answers to the input and to its mirror image, as `infer` makes it."""
    return (lifter(seen) + mirror(lifter(mirror(seen)))) / 2


def _collect(table: dict, name: str, title: str, motions: Sequence[Motion], found: Mapping) -> None:
    kinds = np.array([motions[int(i)].kind for i in found["which"]])
    for kind in dict.fromkeys(kinds):
        mask = torch.from_numpy(kinds == kind)
        values = [float(found[key][mask].mean()) for key in KEYS[:2]]
        table.setdefault(f"{name}: {kind}", {})[title] = values


@dataclass(frozen=True)
class Exam:
    """One view with its detections, the truth in camera space, the focal length, and which joints the truth has."""

    group: str
    poses: Poses2D
    truth: Poses3D
    focal: float
    joints: Sequence[int]


def detected(video: Path, view: str, keep: Path) -> Poses2D:
    """MoveNet's poses; kept, so that another lifter costs nothing more."""
    if keep.exists():
        return records.load_as(keep, Poses2D)
    from twoview.detection.pipeline import detect

    poses = detect(video, config=DetectConfig(detector="movenet"), view=view)
    records.save(keep, poses)
    return poses


def of_scenes(work: Path, quick: bool) -> Iterator[Exam]:
    """Every view of every rendered scene that is not for training."""
    for path in sorted((DATA / "rendered").rglob("truth.json")):
        folder = path.parent
        if folder.name.startswith("take") or (quick and folder.parent.name != "golf"):
            continue
        scene = read_scene(folder)
        name = "_".join(folder.relative_to(DATA / "rendered").parts)
        for view, seen in scene.views.items():
            poses = detected(seen.video, view, work / f"{name}_{view}.npz")
            yield Exam(f"rendered: {name}", poses, seen.poses3d, seen.focal_px, range(len(H36M17)))


def of_real_clip(work: Path, quick: bool) -> Iterator[Exam]:
    """The four cameras of the real clip; two with --quick."""
    folder = DATA / "video/pose2sim_single"
    cameras = json.loads((folder / "reference/refined_cameras.json").read_text())
    with np.load(folder / "reference/refined_coco12_3d.npz") as reference:
        world = np.full((len(reference["points"]), 17, 3), np.nan)
        world[:, reference["coco_index"]] = reference["points"]
    for camera in cameras[1::2] if quick else cameras:
        name = camera["name"]
        rotation = cv2.Rodrigues(np.array(camera["rvec"]))[0]
        space = world @ rotation.T + np.array(camera["tvec_m"])
        poses = detected(folder / "videos" / f"{name}.mp4", name, work / f"real_{name}.npz")
        solid = np.stack([_converted(space[..., axis]) for axis in range(3)], axis=-1).astype(np.float32)
        truth = Poses3D(solid, poses.time[: len(solid)], origin="camera", unit="m", view=name)
        yield Exam("real man, four cameras", poses, truth, camera["K"][0][0], SHARED_JOINTS)


def _converted(values: Array) -> Array:
    """One coordinate (T, 17) of COCO joints as the 17 joints of Human3.6M."""
    pairs = np.stack([values, values], axis=-1)
    return to_h36m(pairs, np.isfinite(values).astype(np.float32), COCO17)[0][..., 0]


def errors(model: Model, exam: Exam, flip: bool) -> Array:
    """MPJPE, PA-MPJPE, N-MPJPE and velocity error of one view, mm."""
    found = lift(model, exam.poses, InferConfig(flip=flip)).at(exam.truth.time).xyz
    truth = exam.truth.xyz
    meters = truth[:, :1, 2:] * exam.poses.size[0] / (2 * exam.focal)
    p, t = (found * meters)[:, exam.joints], truth[:, exam.joints]
    known = np.isfinite(p).all((1, 2)) & np.isfinite(t).all((1, 2))
    time = torch.from_numpy(np.array(exam.truth.time[known]))
    p, t = torch.from_numpy(p[known]).double(), torch.from_numpy(np.array(t[known])).double()
    each = [
        f(p, t).mean() for f in (metrics.joint_errors, metrics.aligned_errors, metrics.scaled_errors)
    ]  # fmt: skip
    near = time.diff() < 1.5 * time.diff().median()
    return 1000 * np.array([*map(float, each), float(metrics.velocity_errors(p, t, time)[near].mean())])


def on_pixels(models: Mapping[str, Model], *, work: Path, quick: bool, flip: bool, real: bool) -> None:
    """One table a scene, views averaged, and one over all rendered scenes."""
    groups: dict[str, list[Exam]] = {}
    for exam in (*of_real_clip(work, quick), *(() if real else of_scenes(work, quick))):
        groups.setdefault(exam.group, []).append(exam)
    found = {
        group: {
            title: np.mean([errors(model, exam, flip) for exam in exams], axis=0) for title, model in models.items()
        }
        for group, exams in groups.items()
    }
    rendered = [values for group, values in found.items() if group.startswith("rendered")]
    if rendered:
        found["all rendered scenes"] = {title: np.mean([r[title] for r in rendered], axis=0) for title in models}
    for group, values in found.items():
        heading(
            HEAD, f"{group}, {len(groups.get(group, ())) or len(rendered)} {'views' if group in groups else 'scenes'}"
        )
        for title, numbers in values.items():
            print(row(title, numbers))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lifters", nargs="*", default=sorted(path.stem for path in LIFTERS_FOLDER.glob("*.pt")))
    parser.add_argument(
        "--trust", action="append", default=[], help="a lifter that files may name: package.module:Class"
    )
    parser.add_argument("--quick", action="store_true", help="a quarter of the clips and one camera; golf alone")
    parser.add_argument("--noise", choices=("benchmark", "movenet"), default="benchmark")
    parser.add_argument("--no-flip", action="store_true", help="without the mirrored pass")
    parser.add_argument("--classes", action="store_true", help="a table by class as well")
    parser.add_argument("--pixels", action="store_true", help="real detections instead of motion capture")
    parser.add_argument("--real", action="store_true", help="with --pixels: the real clip alone")
    parser.add_argument("--work", type=Path, default=Path("work/lifters"), help="where detections are kept")
    given = parser.parse_args()
    torch.set_num_threads(1)
    models = {Path(name).name: open_lifter(name, given.trust) for name in given.lifters}
    if given.pixels:
        given.work.mkdir(parents=True, exist_ok=True)
        on_pixels(models, work=given.work, quick=given.quick, flip=not given.no_flip, real=given.real)
        return
    noise = load_noise(ASSETS / "movenet/noise.json") if given.noise == "movenet" else None
    with torch.inference_mode():
        on_mocap(models, quick=given.quick, noise=noise, flip=not given.no_flip, classes=given.classes)


if __name__ == "__main__":
    main()
