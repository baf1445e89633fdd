"""The paper's Table 2: 3D labels for few people, 2D from two views for the rest, mixed in every batch.

python tests/benchmarks/table2.py [--quick]

Joints as a COCO detector's, converted. Every tenth, fourth or second clip has labels.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from adapting import RESULTS, SIX, Shoot, adapt, film_all, mean, measure, windows
from rows import LABELS, bare, solved, train

from twoview.checkpoint import Model, load_model
from twoview.clips import Take
from twoview.config import FinetuneConfig, LossConfig
from twoview.objectives import Paper

SHARES = (0.1, 0.25, 0.5)
MIXED = LossConfig(**{**LABELS, "reprojection": 1.0, "consistency": 0.2})


def mixed(model: Model, labelled: Sequence[Take], rest: Sequence[Take], *, steps: int) -> Model:
    """Labels where there are any, the paper's 2D and consistency losses everywhere."""
    clips = windows([*labelled, *bare(rest)])
    config = FinetuneConfig(method="paper", loss=MIXED, batch=64, held_out=0.0)
    return adapt(model, Paper(clips, clips[:1], model, config), steps=steps)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="every third take, one share, 60 steps")
    parser.add_argument("--steps", type=int, default=200)
    given = parser.parse_args()
    torch.set_num_threads(1)
    steps, model = (60 if given.quick else given.steps), load_model("twoview-small")
    takes = [t for clips in film_all("target_train", Shoot(), 0).values() for t in clips]
    takes = takes[::3] if given.quick else takes
    new, same = film_all("target_test", Shoot(), 100, only=SIX), film_all("target_test_same", Shoot(), 200, only=SIX)
    test = {**same, **new}
    lines = [
        "| clips with 3D | L_3D on these alone | and 2D of the rest, consistency | phones, no 3D |",
        "|---|---|---|---|",
    ]
    print("\n".join(lines))
    ours = _six(measure(train("phones", model, takes, solved(takes, model), steps=steps, seed=0), test))
    for share in SHARES[1:2] if given.quick else SHARES:
        few = takes[:: round(1 / share)]
        rest = [take for take in takes if all(take is not other for other in few)]
        alone = _six(measure(train("L_3D", model, few, [], steps=steps, seed=0), test))
        both = _six(measure(mixed(model, few, rest, steps=steps), test))
        lines.append(f"| {share:.0%} | {alone} | {both} | {ours} |")
        print(lines[-1], flush=True)
    if not given.quick:
        text = f"# Table 2\n\nOne seed, {steps} steps, six sports, MPJPE / PA-MPJPE, mm.\n\n"
        (RESULTS / "table2.md").write_text(text + "\n".join(lines) + "\n", encoding="utf-8")


def _six(scores: Mapping[str, list[np.ndarray]]) -> str:
    own, aligned = np.mean([mean(scores[kind]) for kind in SIX], axis=0)
    return f"{own:.1f} / {aligned:.1f}"


if __name__ == "__main__":
    main()
