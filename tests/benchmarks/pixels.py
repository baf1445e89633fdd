"""From videos to a better model, as a user does it: sync, detect, finetune, infer; errors against the scenes' truth.

python tests/benchmarks/pixels.py [--quick] [--detector movenet] [--config paper_sportspose] [--work work/pixels]

`golf` and `karate` are sessions: adapted on their takes, tested on takes that were not taught. Every other scene is
adapted on its first half and tested on its second. Scale is the athlete's height, as with `twoview infer --height`.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from adapting import RESULTS
from beside import SHARED

from twoview.command_settings import resolve
from twoview.config import DetectConfig, InferConfig
from twoview.datasets.rendered import Scene, read_scene
from twoview.evaluation.scoring import evaluate
from twoview.lifting.inference import infer
from twoview.lifting.model import Model, load_model
from twoview.poses import Poses2D, Poses3D
from twoview.takes import Take
from twoview.training.finetuning import finetune
from twoview.workflow import stages as workflow_session
from twoview.workflow import synchronization

SCENES = SHARED / "data/rendered"
SESSIONS = ("golf", "karate")
SINGLE = ("dribble_gym", "karate_dojo", "hop_field", "walk_court")
Test = tuple[Poses2D, Poses3D, float]  # detections, truth, the athlete's height


def take_of(folder: Path, work: Path, detector: str) -> tuple[Take, Scene]:
    """One scene through sync and detect; what was done before is only loaded."""
    scene = read_scene(folder)
    name = "_".join(folder.relative_to(SCENES).parts)
    videos = {view: truth.video for view, truth in scene.views.items()}
    session, take = workflow_session.add_videos(work / name, list(videos.values()), views=list(videos), take=name)
    synchronization.sync_take(session, take)
    for _ in workflow_session.detect_views(session, config=DetectConfig(detector=detector)):
        pass
    return workflow_session.load_takes(session)[0], scene


def of_session(name: str, work: Path, detector: str) -> tuple[list[Take], list[Test]]:
    """All takes of a session, and every view of its test takes."""
    folders = sorted(path for path in (SCENES / name).iterdir() if path.is_dir())
    loaded = {folder.name: take_of(folder, work, detector) for folder in folders}
    train = [take for key, (take, _) in loaded.items() if key.startswith("take")]
    tests = [test for key, pair in loaded.items() if key.startswith("test") for test in exam_of(*pair)]
    return train, tests


def exam_of(take: Take, scene: Scene, after: float = -np.inf) -> Iterator[Test]:
    """Every view of a take with its truth, from some session time on."""
    for view, poses in take.poses.items():
        first = float(take.sync.to_view(view, after)) if np.isfinite(after) else after
        truth = scene.views[view].poses3d
        yield poses.between(first, np.inf), truth.between(first, np.inf), scene.height_m


def of_halves(name: str, work: Path, detector: str) -> tuple[list[Take], list[Test]]:
    """The first half of a scene to adapt on, the second to test on."""
    take, scene = take_of(SCENES / name, work, detector)
    spans = [take.sync.to_session(view, poses.time[[0, -1]]) for view, poses in take.poses.items()]
    middle = (max(s[0] for s in spans) + min(s[1] for s in spans)) / 2
    half = {v: p.between(-np.inf, float(take.sync.to_view(v, middle))) for v, p in take.poses.items()}
    return [replace(take, poses=half)], list(exam_of(take, scene, middle + 0.2))


def score(model: Model, tests: list[Test]) -> np.ndarray:
    """MPJPE and PA-MPJPE, mm, mean over the tests."""
    reports = [evaluate(infer(p, model, config=InferConfig(height_m=height)), truth) for p, truth, height in tests]
    return np.mean([[r.value("MPJPE"), r.value("PA-MPJPE")] for r in reports], axis=0)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="golf alone, a third of the steps")
    parser.add_argument("--detector", default="movenet")
    parser.add_argument("--work", type=Path, default=Path("work/pixels"))
    parser.add_argument("--config", type=Path, help="settings of another method, as of `twoview finetune`")
    parser.add_argument("--only", default="", help="scenes, with commas")
    given = parser.parse_args()
    torch.set_num_threads(1)
    names = given.only.split(",") if given.only else ["golf"] if given.quick else [*SESSIONS, *SINGLE]
    config = resolve("finetune", file=given.config).finetune
    if given.quick:
        config = replace(config, epochs=10, phones=replace(config.phones, steps_per_epoch=7))
    before_model = load_model(config.weights)
    lines = [
        "| scene | takes, minutes | unadapted, MPJPE / PA, mm | adapted | core-s to adapt |",
        "|---|---|---|---|---|",
    ]
    print("\n".join(lines))
    for name in names:
        train, tests = (of_session if name in SESSIONS else of_halves)(name, given.work, given.detector)
        out = given.work / f"run_{name}"
        shutil.rmtree(out, ignore_errors=True)
        started = time.process_time()
        run = finetune(train, config, out=out)
        spent = time.process_time() - started
        before, after = score(before_model, tests), score(load_model(run.model), tests)
        minutes = sum(p.time[-1] - p.time[0] for t in train for p in list(t.poses.values())[:1]) / 60
        lines.append(
            f"| {name} | {len(train)}, {minutes:.1f} | {before[0]:.1f} / {before[1]:.1f} | "
            f"{after[0]:.1f} / {after[1]:.1f} | {spent:.0f} |"
        )
        print(lines[-1], *run.warnings, sep="\n  ", flush=True)
    if not given.quick and not given.only and not given.config:
        text = f"# From pixels\n\n`python tests/benchmarks/pixels.py --detector {given.detector}`, rendered scenes.\n\n"
        (RESULTS / "pixels.md").write_text(text + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
