"""Where adaptation helps and where it harms: adapt to some takes with default settings, test on everything else.

python tests/benchmarks/harm.py [--quick] [--lifters twoview-small,narrow] [--only golf,jump 30 s] [--work work/harm]

From pixels (MoveNet): the sessions golf and karate and, of every other rendered scene, its first half are adapted to;
tests are the sessions' test takes and the second halves. On motion capture by virtual phones: some takes of one
athlete's movement are adapted to; tests are the athlete's other takes of it, other athletes' takes of it, the athlete's
other movements, and everything else, training people only; and people that no training file holds.
Every cell has the error of the unadapted lifter, and how much worse the adapted lifter alone and the model with its
gate are, MPJPE in mm; 95 % intervals over clips. What is finished is kept in --work, and a second call continues.
"""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from adapting import NARROW, RESULTS, Conditions, errors, load_lifter, render_takes
from pixels import SESSIONS, SINGLE, of_halves, of_session
from rows import ALONE, bare

from twoview.config import FinetuneConfig, TriangulateConfig
from twoview.evaluation.scoring import evaluate
from twoview.lifting.inference import in_meters, lift
from twoview.lifting.model import Model, load_model
from twoview.poses import Poses2D, Poses3D
from twoview.takes import Take
from twoview.training.finetuning import finetune

# Name -> class and subject of motion capture, and seconds of takes.
FILMED = {
    "golf 18 s": ("golf_swing", "64", 60.0),
    "soccer 15 s": ("soccer_kick", "10", 60.0),
    "basketball 40 s": ("basketball", "06", 60.0),
    "jump 10 s": ("jump", "118", 10.0),
    "jump 30 s": ("jump", "118", 30.0),
    "jump 2 min": ("jump", "118", 120.0),
    "dance 10 s": ("dance", "05", 10.0),
    "dance 30 s": ("dance", "05", 30.0),
    "dance 2 min": ("dance", "05", 120.0),
    "acrobatics 30 s": ("acrobatics", "88", 30.0),
    "martial arts 30 s": ("martial_arts", "135", 30.0),
}
QUICK = ("golf", "golf 18 s", "jump 10 s")
EXPLAINED = """\
Rows: what the lifter was adapted to, by `finetune` with default settings. Cells: MPJPE of the unadapted lifter in mm,
how much worse (+) or better (-) the adapted lifter alone is, and in bold the model as it is written, with its
[gate](../explain/gate.md); in brackets the 95 % interval of that over clips. From pixels: MoveNet on rendered scenes;
scenes other than the sessions golf and karate are adapted to on their first half (about 4 s) and tested on their
second. Motion capture: virtual phones, joints as a COCO detector's; the training people's last three takes each, and
at most four takes per class of people that no training file holds. The gate was chosen on cells of rendered scenes
and of training people.
"""
FEW = 3  # takes of each class and subject to test on, the last ones
NEW = 4  # the same of each class of people that no training file holds
Errors = dict[str, list[np.ndarray]]  # what is tested -> MPJPE (3,) of every clip: unadapted, adapted alone, gated


@dataclass(frozen=True)
class Test:
    """A clip to test on: what it shows, its detections, and its truth: poses and a height, or a rendered take."""

    what: str
    poses: Poses2D
    truth: tuple[Poses3D, float] | Take

    def error(self, model: Model) -> float:
        """MPJPE, mm."""
        found = lift(model, self.poses)
        if isinstance(self.truth, Take):
            return float(errors(found, self.truth)[:, 0].mean())
        poses, height = self.truth
        return float(evaluate(in_meters(found, height), poses).value("MPJPE"))


def from_pixels(work: Path) -> tuple[dict[str, list[Take]], list[Test]]:
    """Takes by session or scene, and tests of all."""
    takes, tests = {}, []
    for name in (*SESSIONS, *SINGLE):
        takes[name], own = (of_session if name in SESSIONS else of_halves)(name, work, "movenet")
        tests += [Test(name, poses, (truth, height)) for poses, truth, height in own]
    return takes, tests


def from_motion_capture() -> tuple[dict[str, list[Take]], list[Test]]:
    """Takes by what is filmed, and tests: the last takes of everybody, and people that no training file holds."""
    by: dict[tuple[str, str], list[Take]] = {}
    for kind, some in render_takes("target_train", Conditions(), 0).items():
        for take in some:
            by.setdefault((kind, take.name.split("_")[0]), []).append(take)
    takes = {name: list(_until(by[kind, who], seconds)) for name, (kind, who, seconds) in FILMED.items()}
    takes["everything 13 min"] = [take for some in by.values() for take in some]
    tests = [Test(f"{kind} {who}", t.poses["a"], t) for (kind, who), some in by.items() for t in some[-FEW:]]
    for file, what in (("target_test", "new people"), ("target_test_same", "new trials")):
        for kind, some in render_takes(file, Conditions(), 100).items():
            tests += [Test(f"{kind}, {what}", take.poses["a"], take) for take in some[:NEW]]
    return takes, tests


def _until(takes: Sequence[Take], seconds: float) -> Iterator[Take]:
    total = 0.0
    for take in takes:
        if total < seconds:
            yield take
        total += float(take.poses["a"].time[-1])


def lifter_file(name: str) -> str:
    """What `finetune` takes as weights for a lifter of the benchmarks."""
    own = NARROW / f"{name}.pt"
    return str(own) if own.exists() else name


def cell(name: str, takes: Sequence[Take], tests: Sequence[Test], lifter: str, work: Path, *, mocap: bool) -> Errors:
    """Errors of every test with a lifter that is adapted to the takes, and with the one that it was."""
    path = kept(name, lifter, work)
    if not path.exists():
        config = FinetuneConfig(weights=lifter_file(lifter))
        run = finetune(bare(takes), config, out=path.parent, triangulation=ALONE if mocap else TriangulateConfig())
        after = load_model(run.model)
        print(f"  {lifter}, {name}:", *run.warnings, sep="\n    ", flush=True)
        before = _unadapted(lifter, tests, work / lifter / f"unadapted_{'motion' if mocap else 'pixels'}.pkl")
        taught, found = {take.name for take in takes}, Errors()
        for test, error in zip(tests, before, strict=True):
            if not (isinstance(test.truth, Take) and test.truth.name in taught):
                values = [error, *(test.error(model) for model in (after.adapted_part(), after))]
                found.setdefault(test.what, []).append(np.array(values))
        _write(path, found)
    return pickle.loads(path.read_bytes())


def kept(name: str, lifter: str, work: Path) -> Path:
    """Where the errors of what was adapted to are, beside its run."""
    return work / lifter / "".join(c if c.isalnum() else "_" for c in name) / "errors.pkl"


def _unadapted(lifter: str, tests: Sequence[Test], kept: Path) -> list[float]:
    """MPJPE of every test before adaptation, mm."""
    if not kept.exists():
        model = load_lifter(lifter)
        _write(kept, [test.error(model) for test in tests])
    return pickle.loads(kept.read_bytes())


def _write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".part").write_bytes(pickle.dumps(value))
    path.with_suffix(".part").replace(path)


def group(source: str, what: str) -> str:
    """How a test of motion capture relates to what was adapted to."""
    kind = FILMED[source][0] if source in FILMED else ""
    own = what.startswith(kind) if kind else True
    if what.endswith(("new people", "new trials")):
        return "the same movement, new people or trials" if own else "anything else, new people or trials"
    if kind and what == f"{kind} {FILMED[source][1]}":
        return "the athlete's other takes of it"
    return "the same movement by another athlete" if own else "anything else by training people"


def change(clips: Sequence[np.ndarray]) -> str:
    """Unadapted error, and how much worse the adapted lifter alone and the gated model are, with an interval."""
    rows = np.array(clips)
    worse = rows[:, 2] - rows[:, 0]
    random = np.random.default_rng(0)
    low, high = np.percentile(
        [worse[random.integers(len(worse), size=len(worse))].mean() for _ in range(500)], [2.5, 97.5]
    )
    before, alone, gated = rows.mean(axis=0)
    return f"{before:.1f}: {alone - before:+.1f}, **{gated - before:+.1f}** ({low:+.1f} to {high:+.1f})"


def worst(found: Mapping[str, Errors]) -> list[str]:
    """The cells in which a gated model is more than 1 mm worse, and how many there are in all."""
    cells = [(name, what, np.mean(clips, axis=0)) for name, own in found.items() for what, clips in own.items()]
    bad = sorted(
        ((r[2] - r[0], name, what, r) for name, what, r in cells if r[2] - r[0] > 1), reverse=True, key=lambda x: x[0]
    )
    gains = [(r[1] - r[0], r[2] - r[0]) for _, _, r in cells if r[1] - r[0] < -1]
    kept = sum(gain for _, gain in gains) / sum(gain for gain, _ in gains) if gains else float("nan")
    before = sum(r[1] - r[0] > 1 for _, _, r in cells)
    lines = [
        f"{len(cells)} cells: the adapted lifter alone is more than 1 mm worse in {before}, the gated model in "
        f"{len(bad)}; of the gains of the {len(gains)} cells that gain more than 1 mm the gate keeps {kept:.0%}.",
        "",
    ]
    return lines + [f"- {name} on {what}: {r[0]:.1f}: {r[1] - r[0]:+.1f}, {worse:+.1f}" for worse, name, what, r in bad]


def matrix(found: Mapping[str, Errors], columns: Sequence[str]) -> list[str]:
    """A row per source, a column per test."""
    lines = [f"| adapted to | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name, own in found.items():
        lines.append(f"| {name} | {' | '.join(change(own[what]) if what in own else '-' for what in columns)} |")
    return lines


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"only {', '.join(QUICK)}, one lifter")
    parser.add_argument("--lifters", default="twoview-small,narrow")
    parser.add_argument("--only", default="", help="what to adapt to, with commas; all is printed that is known")
    parser.add_argument("--work", type=Path, default=Path("work/harm"), help="where finished parts are kept")
    given = parser.parse_args()
    torch.set_num_threads(1)
    only = QUICK if given.quick else [name for name in given.only.split(",") if name]
    text: list[str] = []
    for lifter in given.lifters.split(",")[: 1 if given.quick else None]:
        for title in ("from pixels", "motion capture"):
            mocap = title == "motion capture"
            takes, tests = from_motion_capture() if mocap else from_pixels(given.work / "pixels")
            found = {
                name: cell(name, some, tests, lifter, given.work, mocap=mocap)
                for name, some in takes.items()
                if not only or name in only or kept(name, lifter, given.work).exists()
            }
            if not found:
                continue
            text += ["", f"## {lifter}, {title}", "", *matrix(*_columns(found, mocap=mocap)), "", *worst(found)]
    print("\n".join(text), flush=True)
    if not given.quick:
        head = f"# What adaptation harms\n\n`python tests/benchmarks/harm.py --lifters {given.lifters}`, one seed.\n\n"
        (RESULTS / "harm.md").write_text(head + EXPLAINED + "\n".join([*text, ""]), encoding="utf-8")


def _columns(found: Mapping[str, Errors], *, mocap: bool) -> tuple[dict[str, Errors], list[str]]:
    """The errors by column of the table: every test by itself, or by its relation to what was adapted to."""
    if not mocap:
        return dict(found), list(dict.fromkeys(what for own in found.values() for what in own))
    joined: dict[str, Errors] = {}
    for name, own in found.items():
        joined[name] = {}
        for what, clips in own.items():
            joined[name].setdefault(group(name, what), []).extend(clips)
    return joined, list(dict.fromkeys(column for own in joined.values() for column in own))


if __name__ == "__main__":
    main()
