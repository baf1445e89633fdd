"""How well clocks are related by motion alone: `python tests/benchmarks/motionsync.py [--files ...] [--seed 7]`.

Every clip of at least 4 s of the motion capture is rendered for two virtual phones 45 to 135 degrees apart that begin
and end at different times (up to a fifth of the clip later or earlier each), at 25, 30 or 60 frames per second, with
simulated detector noise. Printed: how many offsets are right within half a frame at 30 frames per second, how many are
accepted, how many pairs of different clips are accepted (any two, and two of one activity, often by one athlete), the
confidences against the share of right answers, and what remains of three kinds of error of the sound after the
refinement by motion. `--scenes work/pixels` does that on all rendered scenes, which are detected there first.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pixels
import torch
from adapting import place
from beside import ASSETS, SHARED
from scipy.interpolate import CubicSpline

from twoview.config import NoiseModel, SyncConfig
from twoview.datasets.motion import Motion, read_motions
from twoview.errors import SyncError
from twoview.poses import Poses2D
from twoview.skeleton import H36M17
from twoview.synchronization.audio_clocks import SPEED_OF_SOUND
from twoview.synchronization.motion import match_poses, refine_with_motion
from twoview.synchronization.several_views import Relation
from twoview.timeline import HALF_FRAME_S, ClockMap, ClockQuality, Sync
from twoview.training.bodies import coco_like
from twoview.training.virtual_cameras import NEAREST_M, Chance, load_noise, simulate_detector

MOCAP = SHARED / "data/mocap/public"
TARGET = ("target_train", "target_test", "target_test_same")
MEASURED = ASSETS / "movenet/noise.json"
SOUNDS: dict[str, Callable[[np.random.Generator], float]] = {  # kinds of error of a sound, s
    "sound without an error": lambda rng: 0.0,
    "sound 7 ms off, its way (sigma)": lambda rng: rng.normal(0, 0.007),
    "sound up to 50 ms off (a phone's)": lambda rng: rng.uniform(-0.05, 0.05),
}
WORSE_S = 0.002 + 1e-9
RATES = ((30, 30), (30, 30), (30, 25), (60, 30), (60, 60))
BINS = (0.0, 0.5, 0.9, 0.99, 0.999, 1.01)


@dataclass(frozen=True)
class RenderedPair:
    """Two views, and their true relation: time in a = offset_s + time in b."""

    name: str
    kind: str
    a: Poses2D
    b: Poses2D
    offset_s: float


def render(first: Motion, second: Motion, seed: int, noise: NoiseModel) -> RenderedPair:
    """Two views of one motion, or of two different ones (then the offset means nothing)."""
    rng, chance = np.random.default_rng(seed), Chance(torch.Generator().manual_seed(seed))
    azimuth = rng.uniform(-180, 180)
    angles = azimuth, azimuth + rng.choice([-1, 1]) * rng.uniform(45, 135)
    rates, zeros = RATES[rng.integers(len(RATES))], rng.uniform(0, 5, 2)
    cut = rng.uniform(0, 0.2, (2, 2))
    views, starts = [], []
    for motion, angle, rate, zero, (early, late) in zip((first, second), angles, rates, zeros, cut, strict=True):
        seconds = (len(motion.joints) - 1) / motion.rate
        own = np.arange(int(seconds * (1 - early - late) * rate)) / rate
        views.append(_seen(motion, early * seconds + own, zero + own, angle, chance, noise))
        starts.append(early * seconds - zero)
    return RenderedPair(f"{first.name} {second.name}", first.kind, *views, starts[1] - starts[0])


def _seen(
    motion: Motion, moments: np.ndarray, own: np.ndarray, azimuth: float, chance: Chance, noise: NoiseModel
) -> Poses2D:
    joints = CubicSpline(np.arange(len(motion.joints)) / motion.rate, motion.joints)(moments)
    body = coco_like(torch.from_numpy(joints).float()[None])
    cameras = place(body, azimuth, chance)
    xy = cameras.project(cameras.to_camera(body), nearest=NEAREST_M)
    xy, score = simulate_detector(xy, cameras.size, chance, noise)
    xy = torch.where(score[..., None] > 0, xy, torch.full((), torch.nan))
    width, height = cameras.size[0].int().tolist()
    return Poses2D(xy[0].numpy(), score[0].numpy(), own, H36M17, (width, height))


def error_s(pair: RenderedPair, found: Relation) -> float:
    """Distance of the answer from the truth in the middle of the overlap."""
    at = found.middle_s
    return abs(float(found.clock.to_session(at)) - at - pair.offset_s)


@dataclass(frozen=True)
class Refinement:
    """What `--refine` makes of a sync by sound that is off by `sound_s`.

    error_s, bound_s  of the result, and what it should stay within 19 times in 20; refused: the sound's clock was kept
    """

    sound_s: float
    error_s: float
    bound_s: float
    refused: bool


def refined(pair: RenderedPair, sound_s: float) -> Refinement:
    """What the refinement makes of a sound that is off by `sound_s`."""
    quality = ClockQuality(0.97, 1e-5, overlap_s=3.0, travel_s=SyncConfig().sound_way_m / SPEED_OF_SOUND)
    by_sound = Sync("a", {"a": ClockMap(), "b": ClockMap(pair.offset_s + sound_s)}, quality={"b": quality})
    try:
        found = refine_with_motion(by_sound, {"a": pair.a, "b": pair.b})
    except SyncError:
        return Refinement(sound_s, sound_s, quality.error_s, refused=True)
    return Refinement(sound_s, found.clocks["b"].offset_s - pair.offset_s, found.quality["b"].error_s, refused=False)


@dataclass(frozen=True)
class Row:
    """One clip by motion alone: error and its standard error, confidence, whether accepted; and its refinements."""

    error_s: float
    se_s: float
    confidence: float
    accepted: bool
    refinements: tuple[Refinement, ...]


def same_clip(clips: Sequence[Motion], seed: int, noise: NoiseModel) -> list[Row]:
    """Every clip by motion, and refined from a sound with each kind of error of `SOUNDS`."""
    rows = []
    rng = np.random.default_rng(seed)
    for number, clip in enumerate(clips):
        pair = render(clip, clip, 1000 * seed + number, noise)
        found = match_poses(pair.a, pair.b)
        after = tuple(refined(pair, draw(rng)) for draw in SOUNDS.values())
        quality = found.quality
        rows.append(Row(error_s(pair, found), quality.offset_se_s, quality.confidence, not found.refusal, after))
    return rows


def other_clips(clips: Sequence[Motion], seed: int, noise: NoiseModel, *, alike: bool, count: int) -> tuple[int, int]:
    """How many of `count` pairs of different clips are accepted; alike: of one activity."""
    rng, accepted = np.random.default_rng(seed), 0
    kinds = sorted({c.kind for c in clips if sum(d.kind == c.kind for d in clips) > 1})
    for number in range(count):
        kind = rng.choice(kinds) if kinds else ""
        pool = [clip for clip in clips if clip.kind == kind] if alike else list(clips)
        first, second = rng.choice(len(pool), 2, replace=False)
        pair = render(pool[first], pool[second], 1000 * seed + 500 + number, noise)
        accepted += not match_poses(pair.a, pair.b).refusal
    return accepted, count


def print_refinements(rows: Sequence[Row]) -> None:
    """For each kind of error of the sound: what `--refine` refuses, what it makes better, and what it makes worse."""
    for kind, found in zip(SOUNDS, zip(*(row.refinements for row in rows), strict=True), strict=True):
        before, after = (np.abs([getattr(r, name) for r in found]) for name in ("sound_s", "error_s"))
        used = np.array([not r.refused for r in found])
        bound = np.array([r.bound_s for r in found])
        half, whole = (np.mean(after[used] < share * bound[used]) for share in (0.5, 1.0))
        print(
            f"--refine, {kind:33s} used {used.mean():4.0%}, mean error {before[used].mean() * 1000:4.1f} -> "
            f"{after[used].mean() * 1000:3.1f} ms, within 1 and 2 standard errors {half:.0%}, {whole:.0%}; "
            f"worse by over 2 ms {np.sum(after > before + WORSE_S)} of {len(after)}, "
            f"at most by {(after - before).max() * 1000:.1f}"
        )


def print_scenes(work: Path) -> None:
    """Errors in ms of sound alone and of sound refined by motion, on all rendered scenes, with MoveNet's detections."""
    print("| scene | view | sound | ± | refined | ± | worse by |\n" + "|---" * 7 + "|")
    for folder in sorted(truth.parent for truth in pixels.SCENES.rglob("truth.json")):
        take, scene = pixels.take_of(folder, work, "movenet")
        try:
            after = refine_with_motion(take.sync, take.poses)
        except SyncError:
            after = take.sync
        for view in take.sync.views[1:]:
            middle = take.sync.quality[view].overlap_s / 2
            truth = float(scene.views[view].clock.to_session(middle))
            sound, combined = (1000 * (float(s.to_session(view, middle)) - truth) for s in (take.sync, after))
            bounds = [1000 * s.quality[view].error_s for s in (take.sync, after)]
            name = "/".join(folder.relative_to(pixels.SCENES).parts)
            kept = after.clocks[view] == take.sync.clocks[view]
            result = "refused | | 0.0" if kept else (
                f"{combined:+.1f} | {bounds[1]:.1f} | {abs(combined) - abs(sound):+.1f}"
            )  # fmt: skip
            print(f"| {name} | {view} | {sound:+.1f} | {bounds[0]:.1f} | {result} |", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", default=",".join(TARGET))
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--others", type=int, default=100, help="pairs of different clips, of each of two kinds")
    parser.add_argument("--noise", choices=("usual", "measured"), default="usual")
    parser.add_argument("--every", type=int, default=1, help="take every n-th clip only")
    parser.add_argument("--least", type=float, default=4.0, help="s, the shortest clip")
    parser.add_argument("--scenes", type=Path, help="folder for the rendered scenes instead, as of pixels.py --work")
    args = parser.parse_args()
    if args.scenes:
        print_scenes(args.scenes)
        return
    torch.set_num_threads(1)
    noise = load_noise(MEASURED) if args.noise == "measured" else NoiseModel()
    clips = [
        clip for file in args.files.split(",") for clip in read_motions(MOCAP / file) if clip.seconds >= args.least
    ]
    clips = clips[:: args.every]
    began = time.process_time()
    rows = same_clip(clips, args.seed, noise)
    error, se, confidence, accepted = (
        np.array([getattr(row, name) for row in rows]) for name in ("error_s", "se_s", "confidence", "accepted")
    )
    seconds = (time.process_time() - began) / len(clips)
    right = error < HALF_FRAME_S
    print(f"{len(clips)} clips of {args.files}, seed {args.seed}, {args.noise} noise, {seconds:.2f} CPU s per clip")
    print(f"right within half a frame, refused or not  {right.mean():6.1%}")
    print(f"accepted and right                         {(accepted & right).mean():6.1%}")
    print(f"accepted and wrong                         {(accepted & ~right).mean():6.1%}")
    print(
        "not right:",
        ", ".join(f"{c.name} ({c.kind})" for c, fine in zip(clips, right, strict=True) if not fine) or "none",
    )
    middle, most = np.quantile(error[accepted], [0.5, 0.95]) * 1000
    print(f"error of the accepted, median, 95 %        {middle:.1f} ms, {most:.1f} ms")
    within = [(error[accepted] < times * se[accepted]).mean() for times in (1, 2)]
    print(f"within 1 and 2 standard errors, accepted   {within[0]:.1%}, {within[1]:.1%}")
    print_refinements(rows)
    for alike, name in ((False, "any two different clips"), (True, "two of one activity")):
        wrong, count = other_clips(clips, args.seed, noise, alike=alike, count=args.others)
        print(f"accepted of {name:30s} {wrong:4d} of {count}")
    for low, high in pairwise(BINS):
        here = (confidence >= low) & (confidence < high)
        if here.any():
            print(f"confidence {low:.3f} to {min(high, 1):.3f}: {here.sum():4d} clips, {right[here].mean():6.1%} right")


if __name__ == "__main__":
    main()
