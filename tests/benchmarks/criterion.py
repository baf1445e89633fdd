"""Does the number that chooses the epoch, which needs no 3D truth, rise and fall with the true error?

python tests/benchmarks/criterion.py [--quick]

Lifters of many kinds and ages, good and bad, on held-out takes of six sports: the criterion of the method `phones`
(error against the takes' own two-view 3D) and the one of the paper's losses (agreement, bones, reprojection) beside the
true MPJPE. Prints rank correlations, over all lifters and inside a run, where the choice is made.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
import torch
from adapting import RESULTS, SIX, Conditions, adapt, cut_all, mean, measure, render_takes
from rows import FRAMES, PAPER, PHONES, Row, bare, labeled, phones, solved
from scipy.stats import spearmanr

from twoview.lifting.model import Model, load_model
from twoview.training.method_paper import Paper

RUNS = {
    "phones": PHONES["phones"],
    "phones, rate x 5": Row("phones", ("lr=1e-3",)),
    "phones without rehearsal": PHONES["phones without rehearsal"],
    "L_2Dcon": PAPER["L_2Dcon (paper)"],
    "L_2Dcon, rate x 5": Row("paper_sportspose", ("lr=1e-3",)),
    "L_2D": PAPER["L_2D"],
    "L_3D": PAPER["L_3D"],
}


def main() -> None:
    """Print the correlations."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="every fourth take, 24 steps, four runs")
    parser.add_argument("--device", default="cpu", help="where lifters are trained")
    given = parser.parse_args()
    torch.set_num_threads(1)
    steps, every = (24, 4) if given.quick else (100, 1)
    names = ["phones", "phones, rate x 5", "L_2Dcon", "L_2D"] if given.quick else list(RUNS)
    model = load_model("twoview-small", device=given.device)
    takes = [t for clips in render_takes("target_train", Conditions(), 0, only=SIX).values() for t in clips][::every]
    held, train = takes[::4], [take for n, take in enumerate(takes) if n % 4]
    found = solved(takes, model)
    held_clips = cut_all(bare(held), frames=model.clip_length)
    ours = phones(train, held, model, RUNS["phones"].config(), found)  # only for its criterion
    paper = Paper(held_clips, held_clips, model, RUNS["L_2Dcon"].config())
    table: list[tuple[str, float, float, float]] = []
    for name in names:
        config = RUNS[name].config()
        if config.method == "phones":
            objective = phones(train, [], model, config, found)
        else:
            clips = cut_all(labeled(train, RUNS[name]), frames=model.clip_length)
            objective = Paper(clips, held_clips[:1], model, replace(config, batch=FRAMES // model.clip_length))

        def look(step: int, now: Model, name: str = name) -> None:
            if step % (steps // 4) == 0:
                true = mean([e for v in measure(now, {"": held}).values() for e in v])[0]
                table.append(
                    (name, ours.validate(now.lifter)["criterion"], paper.validate(now.lifter)["criterion"], true)
                )

        adapt(model, objective, config, steps=steps, after=look)
    lines = ["| run | phones' criterion, mm | paper's criterion | true MPJPE, mm |", "|---|---|---|---|"]
    lines += [f"| {name} | {a:.1f} | {b:.3f} | {true:.1f} |" for name, a, b, true in table]
    for which, column in (("phones' criterion", 1), ("the paper's", 2)):
        everything = spearmanr([row[column] for row in table], [row[3] for row in table]).statistic
        inside = [
            spearmanr(*zip(*[(row[column], row[3]) for row in table if row[0] == name], strict=True)).statistic
            for name in names
        ]
        lines.append(f"\nrank correlation of {which} with the true error: {everything:.2f}; inside a run: "
                     f"{np.nanmean(inside):.2f}")  # fmt: skip
    print("\n".join(lines))
    if not given.quick:
        head = "# The criterion that chooses the epoch\n\n`python tests/benchmarks/criterion.py`\n\n"
        (RESULTS / "criterion.md").write_text(head + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
