"""Choose settings of `phones` on training people alone, so that no test person is looked at.

python tests/benchmarks/tuning.py [--steps 200] [--rows NAME,...] [--set phones.rehearsal=1]
                                   [--consistency 0.1,0.3,1] [--protocol sports|as-is]

Of `target_train`, three people are never taught ("new": a dancer, a martial artist, a footballer), nor is a quarter of
the clips of the activities with many ("known"); the rest is. MPJPE / PA-MPJPE in true mm of view a, one view seen.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from adapting import MOCAP, Conditions, everyday_error, mean, measure, render_take
from rows import solved, train

from twoview.datasets.motion import read_motions
from twoview.lifting.model import load_model
from twoview.takes import Take

NEW = {"cmu_60", "cmu_135", "cmu_10"}
MANY = ("jump", "basketball", "dance", "acrobatics")


def split(how: Conditions) -> tuple[list[Take], dict[str, list[Take]]]:
    """The takes that teach, and the others by "new" or "known" and activity."""
    taught, asked = [], {}
    for number, motion in enumerate(read_motions(MOCAP / "target_train")):
        take = render_take(motion, how, number)
        if motion.subject in NEW:
            asked.setdefault(f"new {motion.kind}", []).append(take)
        elif motion.kind in MANY and sum(map(ord, motion.name)) % 4 == 0:
            asked.setdefault(f"known {motion.kind}", []).append(take)
        else:
            taught.append(take)
    return taught, asked


def main() -> None:
    """Print one line a row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rows", default="unadapted,phones,L_3D")
    parser.add_argument("--set", action="append", default=[], help="a setting of `twoview finetune`, for every row")
    parser.add_argument("--consistency", help="a row of `phones` for each of these weights of the paper's loss")
    parser.add_argument("--protocol", default="sports", choices=("sports", "as-is"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows: dict[str, tuple[str, list[str]]] = {}
    for name in given.rows.split(","):
        weights = given.consistency.split(",") if given.consistency and name == "phones" else []
        rows |= {f"phones, L_con {w}": (name, [*given.set, f"phones.consistency={w}"]) for w in weights}
        rows |= {} if weights else {name: (name, given.set)}
    model = load_model("twoview-small")
    taught, asked = split(Conditions(sports=given.protocol == "sports"))
    found = solved(taught, model)
    print(
        "| row | new people | known people | mean of activities | everyday after | core-s |\n|---|---|---|---|---|---|"
    )
    for name, (row, sets) in rows.items():
        started = time.process_time()
        adapted = train(row, model, taught, found, steps=given.steps, seed=0, sets=sets)
        spent = time.process_time() - started
        scores = measure(adapted, asked)
        cells = [
            mean([c for kind, clips in scores.items() if kind.startswith(who) for c in clips])
            for who in ("new", "known")
        ]
        cells.append(np.mean([mean(clips) for clips in scores.values()], axis=0))
        shown = " | ".join(f"{a:.1f} / {b:.1f}" for a, b in cells)
        print(f"| {name} | {shown} | {everyday_error(adapted):.1f} | {spent:.0f} |", flush=True)


if __name__ == "__main__":
    main()
