"""How well clocks are related by motion alone: `python tests/benchmarks/motionsync.py [--files ...] [--seed 7]`.

Every clip of at least 4 s of the motion capture is rendered for two virtual phones 45 to 135 degrees apart that begin
and end at different times (up to a fifth of the clip later or earlier each), at 25, 30 or 60 frames per second, with
simulated detector noise. Printed: how many offsets are right within half a frame at 30 frames per second, how many are
accepted, how many pairs of different clips are accepted (any two, and two of one activity, often by one athlete), the
confidences against the share of right answers, and what remains of an error of the sound of up to 50 ms after the
refinement by motion.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from adapting import place
from beside import ASSETS, SHARED
from scipy.interpolate import CubicSpline

from twoview.config import NoiseModel
from twoview.datasets.motion import Motion, read_motions
from twoview.poses import Poses2D
from twoview.skeleton import H36M17
from twoview.synchronization.motion import match_poses, motion_delay
from twoview.synchronization.several_views import Relation
from twoview.timeline import ClockMap
from twoview.training.bodies import coco_like
from twoview.training.virtual_cameras import NEAREST_M, Chance, load_noise, simulate_detector

MOCAP = SHARED / "data/mocap/public"
TARGET = ("target_train", "target_test", "target_test_same")
MEASURED = ASSETS / "movenet/noise.json"
HALF_FRAME_S = 1 / 60
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


def same_clip(clips: Sequence[Motion], seed: int, noise: NoiseModel) -> list[tuple[float, float, bool, float]]:
    """Per clip: error, confidence, whether accepted, and the error of a sound that remains after refinement."""
    rows = []
    rng = np.random.default_rng(seed)
    for number, clip in enumerate(clips):
        pair = render(clip, clip, 1000 * seed + number, noise)
        found = match_poses(pair.a, pair.b)
        lag = rng.uniform(-0.05, 0.05)
        delay, _ = motion_delay(pair.a, pair.b, ClockMap(pair.offset_s + lag))
        rows.append((error_s(pair, found), found.quality.confidence, not found.refusal, abs(delay + lag)))
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


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", default=",".join(TARGET))
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--others", type=int, default=100, help="pairs of different clips, of each of two kinds")
    parser.add_argument("--noise", choices=("usual", "measured"), default="usual")
    parser.add_argument("--every", type=int, default=1, help="take every n-th clip only")
    args = parser.parse_args()
    torch.set_num_threads(1)
    noise = load_noise(MEASURED) if args.noise == "measured" else NoiseModel()
    clips = [clip for file in args.files.split(",") for clip in read_motions(MOCAP / file) if clip.seconds >= 4]
    clips = clips[:: args.every]
    began = time.process_time()
    error, confidence, accepted, left = (
        np.array(column) for column in zip(*same_clip(clips, args.seed, noise), strict=True)
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
    found = np.isfinite(left)
    print(f"refinement within 8 ms, of all             {(left < 0.008).mean():6.1%}  (refused {(~found).mean():.1%})")
    print(f"refinement, median, 95 %                   "
          f"{np.median(left[found]) * 1000:.1f} ms, {np.quantile(left[found], 0.95) * 1000:.1f} ms")  # fmt: skip
    for alike, name in ((False, "any two different clips"), (True, "two of one activity")):
        wrong, count = other_clips(clips, args.seed, noise, alike=alike, count=args.others)
        print(f"accepted of {name:30s} {wrong:4d} of {count}")
    for low, high in pairwise(BINS):
        here = (confidence >= low) & (confidence < high)
        if here.any():
            print(f"confidence {low:.3f} to {min(high, 1):.3f}: {here.sum():4d} clips, {right[here].mean():6.1%} right")


if __name__ == "__main__":
    main()
