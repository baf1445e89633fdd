"""Which takes show one movement, and do the warnings name the takes that do not belong, and only those?

python tests/benchmarks/movements.py [--quick] [--work work/pixels]

Takes are the rendered golf and karate sessions from pixels, and motion capture of training people by two virtual phones
(Conditions of `adapting`). Sessions are drawn from one person's takes of one movement, alone (nothing should be named)
and with a mistake planted: a take of another movement, a take of another person, another take's second view, or a
person who stands still. The bounds in `twoview/training/movements.py` were chosen on these takes.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from adapting import MOCAP, RESULTS, Conditions, render_take
from numpy import ndarray as Array
from pixels import SESSIONS, of_session

from twoview.datasets.motion import Motion, read_motions
from twoview.errors import TwoViewError
from twoview.geometry.similarity import bone_lengths
from twoview.lifting.model import Model, load_model
from twoview.reconstruction.triangulation import Triangulation, triangulate_takes
from twoview.takes import Take, resample
from twoview.training.clips import cut
from twoview.training.movements import (
    FEW_TAKES,
    STILL_MM,
    Movements,
    of_poses,
    other_athletes,
    poses,
    proportions,
    spread,
)

SECONDS = 6  # of every motion capture clip
MOST = 8  # clips of one person and movement
SAME_BODY = 0.01  # mean difference of the logarithms of true bones: some people were captured on one shared skeleton
DRAWS = 40  # sessions per person and movement


@dataclass(frozen=True, eq=False)
class Known:
    """A take, who and what it shows, and what was found in it; `bones` (16,) m are the true ones, None for unknown."""

    take: Take
    kind: str
    body: str
    bones: Array | None
    poses: Array
    alone: Triangulation


def known(take: Take, model: Model, kind: str, body: str, bones: Array | None = None) -> Known | None:
    """A take with its comparable poses and its triangulation; None where the views hardly overlap."""
    try:
        grid = resample(take, model.rate_hz)
        clips = cut(grid, length=model.clip_length)
        found = triangulate_takes([take], model, grids=[grid])[0]
    except TwoViewError:
        return None
    return Known(take, kind, body, bones, poses(clips, model), found) if clips else None


def of_motion(motion: Motion, number: int, model: Model) -> Known | None:
    """A motion capture clip by two virtual phones."""
    motion = replace(motion, joints=motion.joints[: round(SECONDS * motion.rate)])
    bones = bone_lengths(torch.from_numpy(motion.joints)).median(dim=0).values.numpy()
    return known(render_take(motion, Conditions(), number), model, motion.kind, motion.subject, bones)


def another_body(a: Known, b: Known) -> bool:
    """Whether two takes show bodies of different proportions."""
    if a.bones is None or b.bones is None:
        return a.body != b.body
    off = np.log(a.bones / a.bones.sum()) - np.log(b.bones / b.bones.sum())
    return bool(np.abs(off).mean() > SAME_BODY)


def sessions(takes: Sequence[Known], random: np.random.Generator) -> list[tuple[list[Known], list[Known]]]:
    """Sessions of one body and movement, of 4 to 9 takes, each with all takes that are not of the session's kind."""
    found = []
    for first in {(take.kind, take.body): take for take in takes}.values():
        own = [t for t in takes if (t.kind, t.body) == (first.kind, first.body) and not another_body(first, t)]
        if len(own) >= FEW_TAKES:
            rest = [take for take in takes if take.kind != first.kind or another_body(first, take)]
            for _ in range(DRAWS):
                count = min(len(own), int(random.integers(FEW_TAKES, 10)))
                found.append(([own[i] for i in random.choice(len(own), count, replace=False)], rest))
    return found


def movements_of(takes: Sequence[Known]) -> Movements:
    """As `compare` does, from the poses that are known."""
    return of_poses({take.take.name: take.poses for take in takes})


def named_unlike(takes: Sequence[Known]) -> list[str]:
    """Takes that are named as unlike the others."""
    return [said.split()[0] for said in movements_of(takes).warnings() if "is unlike" in said]


def named_other(takes: Sequence[Known]) -> list[str]:
    """Takes that are named as showing another athlete."""
    return [said.split()[0] for said in other_athletes({t.take.name: proportions(t.alone) for t in takes})]


def row(
    what: str,
    drawn: Sequence[tuple[list[Known], list[Known]]],
    named: Callable[[Sequence[Known]], list[str]],
    fits: Callable[[Known, Known], bool],
    random: np.random.Generator,
) -> str:
    """How often a session alone has a take named, and how often a planted take that `fits` is, and no other."""
    false, hits, others = [], [], []
    for own, rest in drawn:
        false.append(bool(named(own)))
        planted = [take for take in rest if fits(own[0], take)]
        if planted:
            other = planted[int(random.integers(len(planted)))]
            said = named([*own, other])
            hits.append(other.take.name in said)
            others.append(bool(set(said) - {other.take.name}))
    return f"| {what} | {len(drawn)} | {np.mean(false):.1%} | {np.mean(hits):.0%} | {np.mean(others):.1%} |"


def of_groups(takes: Sequence[Known], random: np.random.Generator) -> list[str]:
    """How often takes of one movement are one group, and takes of two movements share none."""
    kinds: dict[tuple[str, str], list[Known]] = {}
    for take in takes:
        kinds.setdefault((take.kind, take.body), []).append(take)
    lines = ["| movement | takes | five takes are one group | three of each: no group of both |", "|---|---|---|---|"]
    for key, own in kinds.items():
        if len(own) < FEW_TAKES:
            continue
        one, two = [], []
        for _ in range(DRAWS):
            some = [own[i] for i in random.permutation(len(own))]
            one.append(len(movements_of(some[:5]).groups) == 1)
            others = [other for name, other in kinds.items() if name != key and len(other) >= 3]
            other = others[int(random.integers(len(others)))]
            names = {take.take.name for take in some[:3]}
            both = movements_of([*some[:3], *(other[i] for i in random.permutation(len(other))[:3])])
            two.append(not any(set(group) & names and set(group) - names for group in both.groups))
        lines.append(f"| {' of '.join(key)} | {len(own)} | {np.mean(one):.0%} | {np.mean(two):.0%} |")
    return lines


def misfit(found: Triangulation) -> bool:
    """Whether a warning says that the views do not fit together; swapped sides and the phones' places say nothing."""
    return any("swapped" not in said and "depth is uncertain" not in said for said in found.warnings)


def wrong_person(takes: Sequence[Known], model: Model, count: int, random: np.random.Generator) -> list[str]:
    """How often a take is named whose view b is that of another take of the same kind, or of any other."""
    lines = ["| view b is of | takes | a warning says that the views do not fit |", "|---|---|---|"]
    for what, same in (("another take of the movement", True), ("another movement", False)):
        said = []
        for take in [takes[i] for i in random.permutation(len(takes))[:count]]:
            fits = [t for t in takes if t is not take and (t.kind == take.kind) == same and len(t.poses) > 20]
            if not fits:
                continue
            other = fits[int(random.integers(len(fits)))].take
            mixed = replace(take.take, poses={"a": take.take.poses["a"], "b": other.poses["b"]}, truth=None)
            try:
                said.append(misfit(triangulate_takes([mixed], model)[0]))
            except TwoViewError:
                said.append(True)
        lines.append(f"| {what} | {len(said)} | {np.mean(said):.0%} |")
    right = np.mean([misfit(take.alone) for take in takes])
    return [*lines, f"| the same take | {len(takes)} | {right:.0%} |"]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the rendered sessions alone")
    parser.add_argument("--work", type=Path, default=Path("work/pixels"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    model, random, lines = load_model("twoview-small"), np.random.default_rng(0), []
    made = [known(t, model, name, name) for name in SESSIONS for t in of_session(name, given.work, "movenet")[0]]
    rendered = [take for take in made if take]
    for names in (("golf",), ("karate",), ("golf", "karate")):
        found = movements_of([take for take in rendered if take.kind in names])
        lines.append(f"\n{' and '.join(names)}: {'; '.join(', '.join(group) for group in found.groups)}\n")
        lines += ["| take | from the others, mm | spread, mm |", "|---|---|---|"]
        lines += [f"| {take} | {away:.0f} | {found.spread[take]:.0f} |" for take, away in found.away.items()]
    if not given.quick:
        captured, standing, count = list(rendered), [], Counter[tuple[str, str]]()
        for number, motion in enumerate(m for n in ("target_train", "source_val") for m in read_motions(MOCAP / n)):
            count[motion.kind, motion.subject] += 1
            if count[motion.kind, motion.subject] <= MOST:
                captured += [take for take in [of_motion(motion, 1000 + number, model)] if take]
            if number % 5 == 0:
                joints = np.repeat(motion.joints[:1], round(3 * motion.rate), axis=0)
                grid = resample(render_take(replace(motion, joints=joints), Conditions(), number), model.rate_hz)
                standing.append(spread(poses(cut(grid, length=model.clip_length), model)))
        lines += ["", *of_groups(captured, random), ""]
        lines += ["| planted | sessions | sessions without it where a take is named | named | others named |"]
        lines += ["|---|---|---|---|---|"]
        drawn = sessions(captured, random)
        lines.append(row("another movement", drawn, named_unlike, lambda a, b: a.kind != b.kind, random))
        lines.append(row("another person", drawn, named_other, another_body, random))
        alike = lambda a, b: a.kind == b.kind and another_body(a, b)  # noqa: E731
        lines.append(row("another person, same movement", drawn, named_other, alike, random))
        spreads = sorted((spread(take.poses), take.take.name) for take in captured)
        low = ", ".join(f"{value:.0f} ({name})" for value, name in spreads[:4])
        named = sum(value < STILL_MM for value in standing)
        wrong = sum(value < STILL_MM for value, _ in spreads)
        lines.append(
            f"\n{named} of {len(standing)} people who stand still are named ({np.median(standing):.0f} mm, up to "
            f"{max(standing):.0f}), and {wrong} of {len(spreads)} takes that move: the least of them spread {low} mm"
        )
        lines += ["", *wrong_person([t for t in captured if t not in rendered], model, 20, random)]
    lines += ["", "rendered sessions:", "", *wrong_person(rendered, model, len(rendered), random)]
    print("\n".join(lines))
    if not given.quick:
        head = "# Movements of the takes, and takes that do not belong\n\n`python tests/benchmarks/movements.py`\n"
        (RESULTS / "movements.md").write_text(head + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
