"""The main job on the videos that ship: sync, detect, finetune, infer, with the errors against known truth."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from twoview.config import DetectConfig, FinetuneConfig, InferConfig, PhonesConfig, TriangulateConfig
from twoview.datasets.rendered import SceneView, read_scene
from twoview.poses import Poses2D, Poses3D
from twoview.progress import OnProgress
from twoview.storage import records
from twoview.storage.session import Session
from twoview.timeline import ClockMap, Sync
from twoview.workflow.inference import infer_file
from twoview.workflow.stages import add_videos, detect_views, finetune_session, load_takes
from twoview.workflow.synchronization import sync_take

ASSETS = Path(str(files("twoview") / "assets" / "demo"))
SCENES = {"golf": ("take1", "take2", "take3", "take4", "take5"), "real": ("take1",)}
TESTS = {"golf": ("test1", "test2"), "real": ()}
VIEWS = ("a", "b")
RUN, QUICK_RUN = "run1", "quick"
QUICK = FinetuneConfig(epochs=2, phones=PhonesConfig(steps_per_epoch=5))
_STATE = {True: "new", False: "up to date"}
DETECTORS_PART = (
    "Two views is the 3D that the detections of both views give together. About that much of an error is the "
    "detector's: the lifter learns from such 3D, and adaptation does not remove it."
)
REAL_CLOCK = ClockMap(0.25)  # how view b of the real pair was cut, see assets/demo/real/README.md

if TYPE_CHECKING:
    from twoview.training.finetuning import Run


@dataclass(frozen=True)
class Table:
    """A titled table of results; `note` says what they mean."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    note: str = ""


@dataclass(frozen=True)
class Demonstration:
    """What the demo made: the session, tables of figures, pages to open, other pictures, and warnings."""

    session: Session
    tables: Sequence[Table]
    pages: Sequence[Path]
    pictures: Sequence[Path]
    warnings: Sequence[str]


def demo(
    folder: Path | str = "demo", *, real: bool = False, quick: bool = False, on_progress: OnProgress | None = None
) -> Demonstration:
    """Run the four stages on the golf session (or on two cameras of a real man) and measure against the truth.

    quick  one take, one test clip and ten steps: shows that everything runs, not how good it is
    A second run only loads what is up to date.
    """
    scene = "real" if real else "golf"
    session = Session(Path(folder) / scene)
    takes, tests = SCENES[scene], TESTS[scene]
    if quick:
        takes, tests = takes[:1], tests[:1]
    names = [f"view_{view}.mp4" for view in VIEWS]
    for take in (*takes, *tests):
        _copy(ASSETS / scene / take, Path(folder) / scene / "videos" / take, names)
    clocks = []
    for take in takes:
        videos = [Path(folder) / scene / "videos" / take / name for name in names]
        session, _ = add_videos(session.folder, videos, views=VIEWS, take=take)
        sync_take(session, take, on_progress=on_progress)
    config = DetectConfig(detector="movenet")
    detected = detect_views(session, views=VIEWS, takes=takes, config=config, on_progress=on_progress)
    detections = [[*_detection_row(row.take, row.view, row.poses, scene), _STATE[row.fresh]] for row in detected]
    for take in takes:  # once more, now that what the athlete's motion says can be put beside it
        sync, fresh = sync_take(session, take, on_progress=on_progress)
        clocks.append([*_sync_row(take, sync, scene), _STATE[fresh]])
    run = finetune_session(
        session, views=VIEWS, config=QUICK if quick else FinetuneConfig(), run=QUICK_RUN if quick else RUN, use=True,
        on_progress=on_progress,
    )  # fmt: skip
    tables = [
        Table(
            "Clocks",
            ["take", "b began after a (s)", "drift (ppm)", "sure", "error, with the sound's way (ms)", ""],
            clocks,
        ),
        Table("2D keypoints", ["take", "view", "frames", "athlete found", "median error (px)", ""], detections),
        Table("Adaptation", ["run", "epochs", "best", "held-out error before", "after (mm)", ""], [_run_row(run)]),
    ]
    pages, pictures = list[Path](), list[Path]()
    rows: list[list[Any]] = []
    clips = [(test, Path(folder) / scene / "videos" / test / names[0]) for test in tests]
    clips = clips or [(takes[0], Path(folder) / scene / "videos" / takes[0] / names[0])]
    for name, clip in clips:
        made, judged = _before_after(session, name, clip, scene, config, on_progress=on_progress)
        pages += [path for path in made if path.suffix == ".html"]
        pictures += [path for path in made if path.suffix != ".html"]
        rows += judged
    if rows:
        both = _two_views(session, tests, scene, config, on_progress)
        rows = [[name, *errors[:2], both[name][0], *errors[2:], both[name][1], state] for name, *errors, state in rows]
        mean = [f"mean of {len(rows)}", *(float(np.mean([row[k] for row in rows])) for k in range(1, 7)), ""]
        columns = ["test clip", "MPJPE before", "after", "two views", "PA-MPJPE before", "after", "two views", ""]
        title = "3D from one view before and after adaptation, and from two views (mm)"
        tables.append(Table(title, columns, [*rows, mean], DETECTORS_PART))
    return Demonstration(session, tables, [*pages, run.folder / "report.html"], pictures, tuple(run.warnings))


def _run_row(run: Run) -> list[Any]:
    from twoview.training.runs import rows

    errors = [watched["criterion"] for watched in (run.before, run.after)]
    return [run.folder.name, len(rows(run.folder)), run.best_epoch, *errors, _STATE[run.fresh]]


def _copy(source: Path, target: Path, names: Sequence[str]) -> None:
    for name in names:
        if not os.path.exists(target / name):
            with records.atomic(target / name) as temporary:
                shutil.copyfile(source / name, temporary)


def _truth(scene: str, name: str, view: str) -> SceneView | None:
    return read_scene(ASSETS / scene / name).views[view] if scene == "golf" else None


def _sync_row(take: str, sync: Sync, scene: str) -> list[Any]:
    found, quality = sync.clocks["b"], sync.quality["b"]
    truth = _truth(scene, take, "b")
    known = truth.clock if truth else REAL_CLOCK
    middle = 0.5 * (truth.poses2d.time[-1] if truth else 1.0)
    error = abs(float(found.to_session(middle) - known.to_session(middle))) * 1000
    return [take, round(found.offset_s, 4), round(found.drift_ppm, 1), f"{quality.confidence:.0%}", round(error, 2)]


def _detection_row(take: str, view: str, poses: Poses2D, scene: str) -> list[Any]:
    found = f"{(poses.score > 0).any(axis=1).mean():.0%}"
    truth = _truth(scene, take, view)
    if truth is None:
        return [take, view, len(poses), found, "no truth"]
    error = np.linalg.norm(poses.xy - truth.poses2d.at(poses.time).xy, axis=-1)
    return [take, view, len(poses), found, round(float(np.nanmedian(error)), 1)]


def _before_after(
    session: Session, name: str, clip: Path, scene: str, config: DetectConfig, *, on_progress: OnProgress | None
) -> tuple[list[Path], list[list[Any]]]:
    """3D of one clip from its first view with the adapted and the unadapted lifter; pictures and a row of errors."""
    truth = _truth(scene, name, "a")
    height = read_scene(ASSETS / scene / name).height_m if truth else 0.0
    made = infer_file(
        clip, session.model_path, session.results / f"{name}_a", config=InferConfig(height_m=height),
        detect_config=config, compare=FinetuneConfig().weights, formats=("html",), on_progress=on_progress,
    )  # fmt: skip
    pictures = [path for key, path in made.files.items() if key != "poses"]
    if truth is None or made.before is None:
        return pictures, []
    errors = [_errors(poses, truth.poses3d) for poses in (made.before, made.poses)]
    return pictures, [[name, errors[0][0], errors[1][0], errors[0][1], errors[1][1], _STATE[made.fresh]]]


def _two_views(
    session: Session, tests: Sequence[str], scene: str, config: DetectConfig, on_progress: OnProgress | None
) -> dict[str, tuple[float, float]]:
    """MPJPE and PA-MPJPE (mm) in view a of the tests' two-view 3D, from the detections that were lifted.

    The tests are a session of their own, from which no lifter learns; phones and athlete are those of the takes.
    """
    from twoview.lifting.model import load_model
    from twoview.reconstruction.triangulation import triangulate_takes

    filmed = Session(session.folder / "tests")
    for name in tests:
        videos = [session.folder / "videos" / name / f"view_{view}.mp4" for view in VIEWS]
        filmed, _ = add_videos(filmed.folder, videos, views=VIEWS, take=name)
        lifted = filmed.detection_path(name, VIEWS[0])
        with records.atomic(lifted) as temporary:
            shutil.copyfile(session.results / f"{name}_a.2d.npz", temporary)
    for _ in detect_views(filmed, config=config, on_progress=on_progress):
        pass
    for name in filmed.takes:
        sync_take(filmed, name, on_progress=on_progress)
    scenes = {name: read_scene(ASSETS / scene / name) for name in tests}
    height = scenes[tests[0]].height_m
    found = triangulate_takes(
        [*load_takes(session, VIEWS), *load_takes(filmed, VIEWS)], load_model(FinetuneConfig().weights),
        config=TriangulateConfig(height_m=height), on_progress=on_progress,
    )  # fmt: skip
    return {f.take: _errors(f.poses("a"), scenes[f.take].views["a"].poses3d) for f in found if f.take in scenes}


def _errors(poses: Poses3D, truth: Poses3D) -> tuple[float, float]:
    """MPJPE and PA-MPJPE in mm."""
    from twoview.evaluation.scoring import evaluate

    values = {metric.name: metric.value for metric in evaluate(poses, truth).rows}
    return values["MPJPE"], values["PA-MPJPE"]
