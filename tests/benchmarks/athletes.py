"""Is the right one of several people taken for the athlete, or a question asked? Two-view scenes whose truth is known.

    python tests/benchmarks/athletes.py                 52 scenes of motion capture, as tracks: two minutes
    python tests/benchmarks/athletes.py --write         and docs/results/athletes.md
    python tests/benchmarks/athletes.py --pixels --work work/athletes    also composites of the rendered clips
    python tests/benchmarks/athletes.py --fit           the weights of the log odds, from other motions and seeds

The athlete is who the phones are aimed at, by hand: up to half a meter beside. Others stand, cross, come near a phone,
do the same in the mirror or a second later, are there before the athlete, or leave. Noise, occlusion and tracks are
those of `tests/crowds.py`; the clock is 8 ms off. A scene is *right* if both views show the athlete, *asked* if a view
asks (and no other is wrong), *warned* if a view is wrong with a warning, and *silent* if it is wrong without one. The
composites are pixels: rendered athletes with a window of another clip, detected by the detector that ships.
"""

from __future__ import annotations

import argparse
import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from beside import ROOT, SHARED
from crowds import RATE, Phone, Seen, look
from numpy import ndarray as Array
from scipy.optimize import minimize

from twoview.config import DetectConfig
from twoview.datasets.motion import Motion, read_motions
from twoview.datasets.rendered import Scene as RenderedScene
from twoview.datasets.rendered import read_scene
from twoview.detection import athlete as rules
from twoview.detection.athlete import Choice, Crowd, choose_alone, choose_together, summarize
from twoview.detection.pipeline import find_everyone
from twoview.media.video import frames, probe
from twoview.media.writer import VideoWriter
from twoview.skeleton import H36M17
from twoview.timeline import ClockMap, Sync
from twoview.workflow.detection import SURE

MOCAP = SHARED / "data" / "mocap" / "public"
RENDERED = SHARED / "data" / "rendered"
PAGE = ROOT / "docs" / "results" / "athletes.md"
LEAST = DetectConfig().sureness
FLIPPED = [0, 4, 5, 6, 1, 2, 3, 7, 8, 9, 10, 14, 15, 16, 11, 12, 13]  # joints of a body seen in the mirror
KINDS = {
    "single": "nobody else",
    "standing": "somebody stands behind",
    "crossing": "somebody walks through the picture",
    "larger": "somebody near one phone, larger than the athlete",
    "mirrored": "a mirrored copy beside, at the same moments, in the same colors",
    "imitating": "a coach beside does the same 0.3 to 1.5 s later, in the same colors",
    "late": "the athlete comes after a third to half of the time; somebody is there from the start",
    "leaving": "somebody leaves after half of the time",
    "one view": "somebody whom one phone does not see",
    "two others": "two of these",
    "training": "somebody else trains behind",
    "far athlete": "the athlete further away, somebody between the phones",
    "dancer": "a dancer or fighter, and somebody who stands behind",
}
COUNTED = ("right", "asked", "warned", "silent")


class View(NamedTuple):
    """What one view answers with the others and alone, and whom each track shows (0: the athlete)."""

    choice: Choice
    alone: Choice
    owner: dict[int, int]


@dataclass(frozen=True, eq=False)
class Scene:
    """Everyone's tracks in the views of a scene.

    owners  view -> track -> the body that it shows: 0 the athlete, -1 none, or less than half of what was seen of one
    """

    name: str
    crowds: dict[str, Crowd]
    owners: dict[str, dict[int, int]]
    sync: Sync

    def views(self) -> dict[str, View]:
        """Every view's answer with the others and alone."""
        together = choose_together(self.crowds, self.sync)
        return {
            view: View(together[view], choose_alone(crowd.people, crowd.size), self.owners[view])
            for view, crowd in self.crowds.items()
        }


# --- scenes of motion capture ----------------------------------------------------------------------------------------


class Motions:
    """Motions by what they are good for; `fit`: those that the weights are fitted on, of other subjects."""

    def __init__(self, *, fit: bool) -> None:
        target = read_motions(MOCAP / ("target_train" if fit else "target_test"))
        source = read_motions(MOCAP / ("source_train" if fit else "source_val"))
        self.sports = target
        self.dances = [m for m in target if m.kind in ("dance", "martial_arts")]
        self.walks = [m for m in source if m.kind == "walk" and m.seconds < 6]
        self.idle = [m for m in source if m.kind in ("gesture", "sit_stand", "carry_lift")]

    @staticmethod
    def part(pool: list[Motion], count: int, rng: np.random.Generator) -> Array:
        """(count, 17, 3) m at RATE of a motion of at least 2.5 s: a part, or it waits before and after."""
        pool = [m for m in pool if m.seconds >= 2.5]
        joints = pool[rng.integers(len(pool))].joints[::2].astype(float)
        first = rng.integers(abs(len(joints) - count) + 1)
        if len(joints) >= count:
            return joints[first : first + count]
        return joints[np.clip(np.arange(count) - first, 0, len(joints) - 1)]


def centered(body: Array) -> Array:
    """A body (T, 17, 3) whose way has its middle over the room's origin."""
    return body - np.nanmean(body[:, H36M17.root], axis=0) * [1, 1, 0]


def turned(body: Array, angle: float) -> Array:
    """A body (T, 17, 3) turned about the vertical."""
    cos, sin = np.cos(angle), np.sin(angle)
    return body @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])


def still(body: Array, rng: np.random.Generator) -> Array:
    """Somebody who stands: one pose, swaying by some mm."""
    time = np.arange(len(body))[:, None, None] / RATE
    phase = 2 * np.pi * rng.uniform(0.1, 0.4, (1, 1, 3)) * time + rng.uniform(0, 6, (1, 1, 3))
    pose = body[rng.integers(len(body))]
    return pose + 0.006 * np.sin(phase) * np.clip(pose[:, 2:], 0, 2)


def walking(motion: Motion, count: int, start: Array, end: Array, begins: int) -> Array:
    """A walker (count, 17, 3) from start to end (2,) m who begins at a frame; absent before and after."""
    joints = motion.joints[::2].astype(float)
    way, own = end - start, joints[-1, 0, :2] - joints[0, 0, :2]
    inner = turned(joints - joints[:, :1] * [1, 1, 0], np.arctan2(way[1], way[0]) - np.arctan2(own[1], own[0]))
    lasts = int(np.linalg.norm(way) / max(np.linalg.norm(own) / len(joints), 0.02))
    body, there_and_back = np.full((count, 17, 3), np.nan), np.concatenate([inner, inner[::-1]])
    for i in range(min(lasts, count - begins)):
        body[begins + i] = there_and_back[i % len(there_and_back)] + [*(start + way * i / lasts), 0]
    return body


def place(angle: float, distance: float, height: float = 0.0) -> Array:
    """A point (3,) in the room."""
    return np.array([distance * np.cos(angle), distance * np.sin(angle), height])


def scene(kind: str, seed: int, motions: Motions) -> Scene:
    """A random scene of a kind: two phones, the athlete, and the others."""
    rng = np.random.default_rng([seed, list(KINDS).index(kind)])
    count, late = int(rng.uniform(5, 11) * RATE), int(rng.uniform(0, 1.5) * RATE)  # b begins later
    total = count + late + 2
    athlete = turned(
        motions.part(motions.dances if kind == "dancer" else motions.sports, total, rng), rng.uniform(0, 6)
    )
    if kind == "late":
        athlete[: int(total * rng.uniform(0.3, 0.5))] = np.nan
    athlete = centered(athlete)
    first, apart = rng.uniform(0, 6.28), np.radians(rng.uniform(50, 110))
    at, middle = (first, first + apart), first + apart / 2
    distance = rng.uniform(4.0, 7.0, 2) * (1.4 if kind == "far athlete" else 1.0)
    phones = [
        Phone(
            place(at[i], distance[i], rng.uniform(1.0, 1.7)), np.array([*rng.normal(0, 0.3, 2), 0.95]),
            (1080, 1920) if rng.random() < 0.3 else (1920, 1080), rng.uniform(1250, 1700),
        )
        for i in (0, 1)
    ]  # fmt: skip
    some = ("standing", "crossing", "larger", "leaving", "training")
    roles = [some[i] for i in rng.integers(len(some), size=2)] if kind == "two others" else [kind]
    others = [_other(role, athlete, motions, (at, distance, middle), rng) for role in roles if role != "single"]
    bodies = [athlete, *others]
    colors = rng.uniform(0.1, 0.9, (len(bodies), 6))
    if kind in ("mirrored", "imitating"):
        colors[1] = colors[0]
    shown = {view: [body[i * late :][:count] for body in bodies] for i, view in enumerate("ab")}
    seen = {view: look(phones[i], shown[view], rng, colors) for i, view in enumerate("ab")}
    sync = Sync("a", {"a": ClockMap(), "b": ClockMap(late / RATE + rng.normal(0, 0.008))})
    crowds = {view: Crowd(one.people, H36M17, one.size) for view, one in seen.items()}
    return Scene(f"{kind} {seed}", crowds, {view: _owners(one) for view, one in seen.items()}, sync)


def _owners(seen: Seen) -> dict[int, int]:
    """Track -> body, -1 where it shows less than half of what was seen of that body."""
    owners = {}
    for track in seen.people.tracks:
        body = seen.owner_of(track)
        owners[track] = body if (seen.people.track == track).sum() >= 0.5 * (seen.owner == body).sum() else -1
    return owners


def _other(
    role: str, athlete: Array, motions: Motions, where: tuple[tuple[float, ...], Array, float], rng: np.random.Generator
) -> Array:
    """Somebody else (T, 17, 3); where: the phones' angles, their distances, and the angle between them."""
    (at, distance, middle), total = where, len(athlete)
    around = rng.uniform(0, 6.28)
    behind = place(middle + np.pi + rng.uniform(-1.2, 1.2), rng.uniform(1.2, 3.5))
    idle = turned(centered(motions.part(motions.idle, total, rng)), rng.uniform(0, 6))
    near = int(rng.integers(2))
    if role == "crossing":
        side, across = place(around, rng.uniform(0.8, 2.0))[:2], place(around + np.pi / 2, 4.5)[:2]
        walk = motions.walks[rng.integers(len(motions.walks))]
        return walking(walk, total, side - across, side + across, int(rng.integers(total // 2)))
    if role == "larger":  # beside the line of sight of one phone
        aside = at[near] + rng.choice([-1, 1]) * rng.uniform(0.25, 0.45)
        return (still(idle, rng) if rng.random() < 0.6 else idle) + place(
            aside, distance[near] * rng.uniform(0.35, 0.6)
        )
    if role == "mirrored":
        return (athlete * [1, -1, 1])[:, FLIPPED] + place(around, rng.uniform(1.2, 1.8))
    if role == "imitating":
        copy = athlete[np.clip(np.arange(total) - int(rng.uniform(0.3, 1.5) * RATE), 0, None)]
        copy = (copy + 0.03 * rng.normal(size=(1, 17, 3))) * rng.uniform(0.95, 1.05)
        return turned(copy, rng.uniform(-0.5, 0.5)) + place(around, rng.uniform(1.2, 2.2))
    if role == "leaving":
        return np.where(np.arange(total)[:, None, None] < total * rng.uniform(0.4, 0.7), idle + behind, np.nan)
    if role in ("one view", "far athlete"):
        return idle + place(at[near] + (2.4 if near else -2.4), rng.uniform(2, 3))
    if role == "training":
        other = turned(centered(motions.part(motions.sports, total, rng)), rng.uniform(0, 6))
        return other + place(middle + np.pi + rng.uniform(-1.2, 1.2), rng.uniform(2.0, 3.5))
    stands = role in ("standing", "dancer") or rng.random() < 0.5  # who was there before the athlete may also move
    return (still(idle, rng) if stands else idle) + behind


# --- scenes of pixels ------------------------------------------------------------------------------------------------


class Composite(NamedTuple):
    """A rendered scene with a window of another: scale, place (share of the width, of the height for the feet)."""

    scene: str
    other: str
    scale: float
    at: tuple[float, float]
    later_s: float = 0.0
    mirrored: bool = False
    frozen: bool = False


COMPOSITES = {
    "a mirrored golfer": Composite("golf/take2", "golf/take2", 0.9, (0.85, 0.95), mirrored=True),
    "a golfer who imitates": Composite("golf/take3", "golf/take3", 0.8, (0.15, 0.9), later_s=0.6),
    "a large golfer who stands": Composite("golf/take4", "golf/take1", 1.5, (0.1, 1.1), frozen=True),
    "a fighter beside a golfer": Composite("golf/take1", "karate/take1", 0.8, (0.14, 0.9)),
}
MOST_S = 6.0


def composites(work: Path) -> Iterator[Scene]:
    """The composites, each drawn and detected once."""
    for name, recipe in COMPOSITES.items():
        scene, other = (read_scene(RENDERED / part) for part in (recipe.scene, recipe.other))
        crowds, owners = {}, {}
        for view in "ab":
            video = work / f"{name.replace(' ', '_')}_{view}.mp4"
            if not video.exists():
                video.parent.mkdir(parents=True, exist_ok=True)
                _draw(recipe, scene, other, view, video)
            found = find_everyone(video, config=DetectConfig(detector="movenet"), partial=video.with_suffix(".npz"))
            crowds[view] = found.crowd
            owners[view] = _near_truth(found.crowd, scene, view)
        sync = Sync("a", {view: scene.views[view].clock for view in "ab"})
        yield Scene(name, crowds, owners, sync)


def _draw(recipe: Composite, scene: RenderedScene, other: RenderedScene, view: str, path: Path) -> None:
    """The video of a view, scaled so that its longer side has 1280 px, with the other's window in every frame."""
    own, second = scene.views[view], other.views[view]
    scale = 1280 / max(own.poses2d.size)
    size = tuple(int(side * scale) // 2 * 2 for side in own.poses2d.size)
    low, high = (np.nanquantile(second.poses2d.xy, q, axis=(0, 1)) for q in (0.002, 0.998))
    margin = 0.12 * (high[1] - low[1])
    low, high = np.maximum(low - margin, 0).astype(int), np.minimum(high + margin, second.poses2d.size).astype(int)
    by = recipe.scale * _height(own.poses2d.xy) / _height(second.poses2d.xy) * scale
    shape = np.maximum(((high - low) * by).astype(int), 2)
    corner = np.array([recipe.at[0] * size[0] - shape[0] / 2, recipe.at[1] * size[1] - shape[1]]).astype(int)
    start, end = np.maximum(corner, 0), np.minimum(corner + shape, size)
    reach = np.nanquantile(own.poses2d.xy[..., 0], (0.005, 0.995)) * scale  # nothing may hide the athlete
    left_of = recipe.at[0] < 0.5
    start[0], end[0] = (start[0], min(end[0], reach[0] - 20)) if left_of else (max(start[0], reach[1] + 20), end[0])
    windows, window = frames(second.video), None
    ahead = next(windows, None)
    with VideoWriter(path, size, float(probe(own.video).rate)) as writer:
        for frame in frames(own.video, end=MOST_S, size=size):
            wanted = float(second.clock.to_view(own.clock.to_session(frame.time) - recipe.later_s))
            while ahead is not None and (window is None or (ahead.time <= wanted and not recipe.frozen)):
                part = ahead.rgb[low[1] : high[1], low[0] : high[0]]
                window = cv2.resize(part[:, ::-1] if recipe.mirrored else part, tuple(int(side) for side in shape))
                ahead = next(windows, None)
            rgb = frame.rgb.copy()
            (left, top), (right, bottom) = start - corner, end - corner
            rgb[start[1] : end[1], start[0] : end[0]] = window[top:bottom, left:right]
            writer.write(rgb)


def _height(xy: Array) -> float:
    return float(np.nanmedian(np.nanmax(xy[..., 1], axis=1) - np.nanmin(xy[..., 1], axis=1)))


def _near_truth(crowd: Crowd, scene: RenderedScene, view: str) -> dict[int, int]:
    """Track -> 0 where its joints lie on the athlete's, else -1."""
    truth, people = scene.views[view].poses2d, crowd.people
    scale = max(crowd.size) / max(truth.size)
    nearest = np.clip(np.searchsorted(truth.time, people.time - 0.01), 0, len(truth.time) - 1)
    true = (truth.xy[nearest[people.frame]] * scale)[:, 5:]
    away = np.nanmedian(np.linalg.norm(people.xy[:, 5:17] - true, axis=-1), axis=1)
    on = away < 0.1 * scale * _height(truth.xy)
    own = {track: on[people.track == track] for track in people.tracks}
    return {track: 0 if rows.mean() > 0.5 and rows.sum() > 0.5 * on.sum() else -1 for track, rows in own.items()}


# --- the table -------------------------------------------------------------------------------------------------------


def outcome(choice: Choice, right: bool) -> str:
    """What a person gets: right, asked, warned (wrong with a warning) or silent (wrong without)."""
    if choice.sureness < LEAST:
        return "asked"
    return "right" if right else "warned" if choice.sureness < SURE else "silent"


def worst(outcomes: list[str]) -> str:
    """Of a scene, from those of its views."""
    return max(outcomes, key=COUNTED.index)


def table(name: str, rows: list[tuple[str, str, str]]) -> list[str]:
    """Outcomes by kind of scene: rows (kind, outcome of both views together, worst outcome of each alone)."""
    lines = [f"| {name} | scenes | " + " | ".join(COUNTED) + " | each view alone |", "|---" * 7 + "|"]
    for kind in [*dict.fromkeys(row[0] for row in rows), "all"]:
        own = [row for row in rows if kind in (row[0], "all")]
        together, alone = (Counter(row[i] for row in own) for i in (1, 2))
        short = ", ".join(f"{alone[what]} {what}" for what in COUNTED if alone[what])
        counts = " | ".join(str(together[what]) for what in COUNTED)
        lines.append(f"| {kind} | {len(own)} | {counts} | {short} |")
    return lines


def calibration(views: list[tuple[float, bool]]) -> list[str]:
    """How often a choice is right, by how sure it is: of views with more than one person."""
    lines = ["| sureness | views | right |", "|---|---|---|"]
    edges = [0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.01]
    for low, high in itertools.pairwise(edges):
        own = [right for sure, right in views if low <= sure < high]
        share = f"{np.mean(own):.0%}" if own else ""
        lines.append(f"| {low:.0%} to {min(high, 1):.0%} | {len(own)} | {share} |")
    return lines


def measure(scenes: Iterator[Scene], *, kinds: bool) -> tuple[list[tuple[str, str, str]], list[tuple[float, bool]]]:
    """Outcomes (kind, together, alone) of every scene, and (sureness, right) of its views with several people."""
    rows, sure = [], []
    for one in scenes:
        answers = one.views()
        together = [outcome(view.choice, view.owner[view.choice.track] == 0) for view in answers.values()]
        alone = [outcome(view.alone, view.owner[view.alone.track] == 0) for view in answers.values()]
        said = ", ".join(
            f"{name}: person {view.choice.track} of {view.choice.people}, {view.choice.sureness:.0%}"
            f"{', not the athlete' if view.owner[view.choice.track] else ''}"
            for name, view in answers.items()
        )
        print(f"{one.name:26} {worst(together):7} {said}", flush=True)
        rows.append((one.name.rsplit(" ", 1)[0] if kinds else one.name, worst(together), worst(alone)))
        sure += [(v.choice.sureness, v.owner[v.choice.track] == 0) for v in answers.values() if v.choice.people > 1]
    return rows, sure


def page(args: argparse.Namespace) -> list[str]:
    """The whole result as a page."""
    motions = Motions(fit=False)
    scenes = (scene(kind, args.first + seed, motions) for kind in KINDS for seed in range(args.seeds))
    rows, sure = measure(scenes, kinds=True)
    several = [row for row in rows if row[0] != "single"]
    asked = sum(row[1] == "asked" for row in several)
    clear = [row for row in several if row[0] not in ("mirrored", "imitating")]
    again = sum(row[1] == "asked" for row in clear)
    options = " --pixels --work work/athletes" if args.pixels else ""
    lines = [
        "# The right athlete, or a question",
        "",
        f"`python tests/benchmarks/athletes.py{options} --write` makes this page:",
        f"{len(rows)} two-view scenes from motion capture that the rules were not fitted on, as tracks with",
        "simulated detector noise. [How the athlete is chosen](../explain/detection.md#who-is-the-athlete)",
        "explains the sureness.",
        "",
        *table("kind", rows),
        "",
        "*Right*: both views show the athlete. *Asked*: a view asks for `--person`. *Warned*: a view is wrong, and",
        f"a warning comes with it: its sureness is below {SURE:.0%}. *Silent*: a view is wrong without one. *Each",
        "view alone* is what `twoview infer` knows of the same videos.",
        "",
        f"With several people a question was asked in {asked} of {len(several)} scenes ({asked / len(several):.0%});",
        f"without those of the athlete's copies (mirrored, imitating) in {again} of {len(clear)}.",
        "With one person none was.",
        "",
        *(f"- {kind}: {what}" for kind, what in KINDS.items()),
        "",
        "## How sure, and how often right",
        "",
        "Views with more than one person.",
        "",
        *calibration(sure),
        "",
    ]
    if args.pixels:
        rows, _ = measure(composites(args.work), kinds=False)
        lines += ["## Composites of the rendered clips", "",
                  "Pixels, detected by the detector that ships; the other person is a window of another clip.", "",
                  *table("scene", rows), ""]  # fmt: skip
    return lines


# --- the weights -----------------------------------------------------------------------------------------------------


def fit(seeds: int) -> None:
    """Print the weights of `detection.athlete`, fitted on scenes of other motions."""
    motions = Motions(fit=True)
    chosen, pairs = [], []
    for kind in KINDS:
        for one in (scene(kind, 1000 + seed, motions) for seed in range(seeds)):
            tracks = {}
            for view, crowd in one.crowds.items():
                found = summarize(crowd.people, crowd.size)
                right = [one.owners[view][row.track] == 0 for row in found]
                if any(right) and not all(right):
                    chosen.append((np.array([measures(row) for row in found]), np.array(right)))
                tracks[view] = [
                    (rules._trajectories(crowd, row.track, one.sync, view), one.owners[view][row.track])
                    for row in found
                ]
            if kind == "mirrored":
                continue  # motion cannot tell these apart
            for (a, owner), (b, other) in itertools.product(tracks["a"], tracks["b"]):
                known = rules.compare(a, b) if min(owner, other) >= 0 else None
                if known is not None:
                    pairs.append(([1.0, *known], owner == other))

    def of_chosen(weights: Array) -> float:
        total = 0.0
        for values, right in chosen:
            odds = values @ weights
            total += np.logaddexp.reduce(odds) - np.logaddexp.reduce(odds[right])
        return float(total / len(chosen) + 0.003 * (weights**2).sum())

    x, y = np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs], float)
    balance = np.where(y > 0, 0.5 / y.mean(), 0.5 / (1 - y.mean()))

    def of_pairs(weights: Array) -> float:
        odds = x @ weights
        return float(np.mean(balance * (np.logaddexp(0, odds) - y * odds)) + 0.001 * (weights[1:] ** 2).sum())

    print(f"{len(chosen)} views: coverage, size, central, motion", minimize(of_chosen, np.ones(4)).x.round(2))
    print(f"{len(pairs)} pairs: constant, share, misfit, excess", minimize(of_pairs, np.zeros(4)).x.round(2))


def measures(row: rules.TrackSummary) -> list[float]:
    """What `TrackSummary.likeness` weighs."""
    moving = np.log(rules.STILL + min(row.motion, rules.FAST))
    return [np.log(row.coverage), np.log(min(row.size, rules.LARGE)), row.central, moving]


def main() -> None:
    """Measure and print, or fit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=4, help="scenes of each kind")
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--pixels", action="store_true", help="composites of the rendered clips too")
    parser.add_argument("--work", type=Path, default=Path("work/athletes"), help="folder for composites and detections")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    parser.add_argument("--fit", action="store_true", help="print fitted weights instead")
    args = parser.parse_args()
    if args.fit:
        fit(args.seeds)
        return
    lines = page(args)
    print("\n".join(lines))
    if args.write:
        PAGE.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
