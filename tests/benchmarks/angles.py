"""How far are joint angles from the truth, from one view and from two? On the rendered scenes, from pixels.

python tests/benchmarks/angles.py [--quick] [--adapt golf,karate] [--detector movenet] [--work work/pixels]
    [--only golf,karate]

Every scene goes through sync and detect, then triangulate (two views) or infer (one view) with default settings and the
athlete's height. Errors are mean distances in degrees from the angles of the true joints, over all views and frames,
left and right together. One view is measured on what the adapted lifter did not learn from: the test takes of the golf
and karate sessions, the second half of the other scenes; `--adapt` names scenes to which a lifter is adapted as
by `twoview finetune`; one that was adapted in `--work` before is only loaded. The page is written by a run of
all scenes.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from adapting import RESULTS
from numpy import ndarray as Array
from pixels import SESSIONS, SINGLE, Test, of_halves, of_session
from two_view_3d import Filmed, ours, session_of

from twoview.biomechanics.angles import ANGLES, angles
from twoview.biomechanics.events import find_swing
from twoview.biomechanics.filtering import filter_poses
from twoview.config import FilterConfig, FinetuneConfig, InferConfig
from twoview.lifting.inference import infer
from twoview.lifting.model import Model, load_model
from twoview.poses import Poses3D
from twoview.training.finetuning import finetune

FREE = [name for name, about in ANGLES.items() if not about.upright and name != "ankle_dorsiflexion"]
SMOOTH = FilterConfig(kind="butterworth")
HEAD = """# Errors of joint angles

`python tests/benchmarks/angles.py {adapt}--detector {detector}`: mean distance in degrees from the
angles of the true joints on rendered scenes, from pixels, left and right together. Two views: `twoview triangulate` on
all takes. One view: `twoview infer` with the shipped lifter, and with one adapted to the scene, on the test takes of
golf and karate and on the second half of the other scenes. [Definitions](../reference/angles.md). These are rendered
people and a small detector; nothing was compared with a laboratory.

"""
Pair = tuple[Poses3D, Poses3D]  # found, true


def two_view(session: Sequence[Filmed], model: Model) -> list[Pair]:
    """Every view of every take as `twoview triangulate` answers, with the truth."""
    found = ours(session, model, {})
    return [(poses, one.scene.views[view].poses3d)
            for own, one in zip(found, session, strict=True) for view, poses in own.items()]  # fmt: skip


def one_view(tests: Sequence[Test], model: Model) -> list[Pair]:
    """Every view that is tested, as `twoview infer` answers, with the truth."""
    return [(infer(poses, model, config=InferConfig(height_m=height)), truth) for poses, truth, height in tests]


def errors(pairs: Sequence[Pair], *, smooth: bool = False) -> dict[str, Array]:
    """Distances in degrees from the true angles, by name without side, over all frames that know both."""
    every: dict[str, list[Array]] = {name: [] for name in FREE}
    for found, truth in pairs:
        poses = filter_poses(found, SMOOTH) if smooth else found
        mine, true = angles(poses).degrees, angles(truth.at(poses.time)).degrees
        for name, about in ANGLES.items():
            for key in [f"{side}_{name}" for side in ("left", "right")] if about.sided else [name]:
                if name in every and key in mine:
                    off = np.abs((mine[key] - true[key] + 180) % 360 - 180)
                    every[name].append(off[np.isfinite(off)])
    return {name: np.concatenate(parts) for name, parts in every.items()}


def extremes(pairs: Sequence[Pair]) -> tuple[float, float, float]:
    """Mean errors of range of motion, degrees, and of peak velocity, degrees per second, and the mean true peak.

    Knees and elbows of smoothed poses; the truth is measured over the same frames, unsmoothed.
    """
    ranges, speeds, peaks = [], [], []
    for found, truth in pairs:
        mine = angles(filter_poses(found, SMOOTH))
        known = np.isfinite(found.xyz).all(axis=(1, 2))
        if known.sum() < 10:
            continue
        true = angles(truth.between(found.time[known][0], found.time[known][-1]))
        for name in [f"{side}_{joint}_flexion" for side in ("left", "right") for joint in ("knee", "elbow")]:
            one, other = mine.motion(name), true.motion(name)
            ranges.append(abs(one.range - other.range))
            speeds.append(abs(abs(one.speed) - abs(other.speed)))
            peaks.append(abs(other.speed))
    return float(np.mean(ranges)), float(np.mean(speeds)), float(np.mean(peaks))


def top_errors(pairs: Sequence[Pair]) -> list[float]:
    """Distances in ms of the top of the swing from that of the true joints; infinite where none was found."""
    found = []
    for poses, truth in pairs:
        mine, true = find_swing(poses), find_swing(truth)
        if true is not None and poses.time[0] < true.top < poses.time[-1]:
            found.append(np.inf if mine is None else 1000 * abs(mine.top - true.top))
    return found


def adapted(name: str, train: Sequence, work: Path) -> Model:
    """The lifter adapted to a scene's takes, as `twoview finetune` does."""
    out = work / f"angles_{name}"
    if not (out / "model.pt").exists():
        finetune(list(train), FinetuneConfig(), out=out)
    return load_model(out / "model.pt")


def table(found: dict[str, list[Pair]]) -> list[str]:
    """A row per angle, a column per scene and the mean over the scenes; then what smoothing changes."""
    by_scene, smoothed = ({scene: {name: own.mean() for name, own in errors(pairs, smooth=smooth).items()}
                           for scene, pairs in found.items()} for smooth in (False, True))  # fmt: skip
    lines = [f"| angle | {' | '.join(by_scene)} | mean |", "|---|" + "---|" * (len(by_scene) + 1)]
    for name in FREE:
        means = [own[name] for own in by_scene.values()]
        cells = " | ".join(f"{mean:.1f}" for mean in means)
        lines.append(f"| {name.replace('_', ' ')} | {cells} | **{np.mean(means):.1f}** |")
    change = max(abs(smoothed[scene][name] - own[name]) for scene, own in by_scene.items() for name in FREE)
    return [*lines, "", f"`--filter butterworth` changes each of these by {change:.2f} degrees at most."]


def main() -> None:
    """Print the tables, and write the page after a full run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="golf alone")
    parser.add_argument("--adapt", default="", help="scenes to adapt a lifter to, with commas")
    parser.add_argument("--detector", default="movenet")
    parser.add_argument("--work", type=Path, default=Path("work/pixels"))
    parser.add_argument("--only", default="", help="scenes, with commas")
    given = parser.parse_args()
    torch.set_num_threads(1)
    names = given.only.split(",") if given.only else ["golf"] if given.quick else [*SESSIONS, *SINGLE]
    model = load_model("twoview-small")
    ways: dict[str, dict[str, list[Pair]]] = {"two views": {}, "one view": {}}
    ways |= {"one view, adapted": {}} if given.adapt else {}
    for name in names:
        train, tests = (of_session if name in SESSIONS else of_halves)(name, given.work, given.detector)
        ways["two views"][name] = two_view(session_of(name, given.work, given.detector), model)
        ways["one view"][name] = one_view(tests, model)
        if name in given.adapt.split(","):
            ways["one view, adapted"][name] = one_view(tests, adapted(name, train, given.work))
        for way, found in ((way, found) for way, found in ways.items() if name in found):
            knee = errors(found[name])["knee_flexion"].mean()
            print(f"{name}, {way}: knee flexion {knee:.1f} degrees", flush=True)
    lines = []
    for way, found in ways.items():
        lines += [f"## {way[0].upper()}{way[1:]}", "", *table(found), ""]
    lines += ["## Ranges, peaks and events", "",
              "Knees and elbows, smoothed by `--filter butterworth`. Top of swing: median, largest.", "",
              "| way | scene | range of motion, degrees | peak velocity, degrees/s | top of the swing, ms |",
              "|---|---|---|---|---|"]  # fmt: skip
    for way, found in ways.items():
        for name, pairs in found.items():
            far, fast, peak = extremes(pairs)
            tops = top_errors(pairs) if name == "golf" else []
            moment = f"{np.median(tops):.0f}, {np.max(tops):.0f} ({len(tops)} views)" if tops else ""
            lines.append(f"| {way} | {name} | {far:.1f} | {fast:.0f} of {peak:.0f} | {moment} |")
    print("\n" + "\n".join(lines))
    if not given.quick and not given.only:
        text = HEAD.format(adapt=f"--adapt {given.adapt} " if given.adapt else "", detector=given.detector)
        (RESULTS / "angles.md").write_text(text + "\n".join(lines).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
