"""The paper's Table 1 on motion capture: what adaptation to two views without 3D labels gains, and what it forgets.

python tests/benchmarks/table1.py [--quick] [--protocol sports|as-is] [--seeds 3] [--rows NAME,...]

Rows are the paper's baselines and the method `phones` with its ablations; every row gets the same clips, steps, batch
and learning rate. "sports": joints as a COCO detector's, converted; "as-is": joints as captured, the hard case.
New people are the subject numbers that no training file holds; golf, baseball and basketball have one subject each, so
there the test is on new trials. MPJPE / PA-MPJPE in true mm of view a, one view seen; 95 % intervals over clips.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np
import torch
from adapting import RESULTS, SIX, Shoot, film_all, interval, mean, measure, remembered
from rows import PHONES, ROWS, solved, train

from twoview.checkpoint import load_model

QUICK = ("unadapted", "L_2D", "L_2Dcon (paper)", "L_3D", "phones")


def table(protocol: str, rows: Sequence[str], seeds: int, steps: int, every: int = 1) -> list[str]:
    """Lines of one protocol's table; of every so many clips one is trained on."""
    how, model = Shoot(sports=protocol == "sports"), load_model("twoview-small")
    results: dict[str, list[dict[str, list[np.ndarray]]]] = {}
    kept: dict[str, list[float]] = {}
    for seed in range(seeds):
        takes = [take for found in film_all("target_train", how, seed).values() for take in found][::every]
        new, same = film_all("target_test", how, 100 + seed), film_all("target_test_same", how, 200 + seed)
        found = solved(takes, model) if set(rows) & set(PHONES) else []
        for name in rows:
            started = time.process_time()
            adapted = train(name, model, takes, found, steps=steps, seed=seed)
            spent = time.process_time() - started
            scores, trials = measure(adapted, new), measure(adapted, same)
            scores["all new"] = [clip for clips in scores.values() for clip in clips]
            scores["new trials"] = [clip for clips in trials.values() for clip in clips]
            scores |= {kind: clips for kind, clips in trials.items() if kind not in scores}
            results.setdefault(name, []).append(scores)
            kept.setdefault(name, []).append(remembered(adapted))
            print(
                f"  {protocol}, seed {seed}, {name}: {_show(results[name], 'all new')}, {spent:.0f} core-s", flush=True
            )
    columns = [*SIX, "dance", "acrobatics", "all new", "new trials"]
    lines = [f"| {protocol} | six sports | {' | '.join(columns)} | everyday movement after |"]
    lines.append("|---" * (len(columns) + 3) + "|")
    for name in rows:
        six = np.mean([[mean(seed[kind]) for kind in SIX] for seed in results[name]], axis=(0, 1))
        cells = [f"**{six[0]:.1f} / {six[1]:.1f}**", *(_show(results[name], column) for column in columns)]
        lines.append(f"| {name} | {' | '.join(cells)} | {np.mean(kept[name]):.1f} |")
    return lines


def _show(seeds: Sequence[dict[str, list[np.ndarray]]], kind: str) -> str:
    clips = [seed[kind] for seed in seeds]
    own = np.mean([mean(c) for c in clips], axis=0)
    if kind != "all new":
        return f"{own[0]:.1f} / {own[1]:.1f}"
    low, high = interval(clips, mean)
    return f"{own[0]:.1f} ({low[0]:.1f} to {high[0]:.1f}) / {own[1]:.1f}"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed, sports, five rows, every third clip, 60 steps")
    parser.add_argument("--protocol", choices=("sports", "as-is"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rows", default="")
    given = parser.parse_args()
    torch.set_num_threads(1)
    protocols = [given.protocol] if given.protocol else ["sports"] if given.quick else ["sports", "as-is"]
    rows = given.rows.split(",") if given.rows else QUICK if given.quick else ROWS
    text = []
    for protocol in protocols:
        lines = table(
            protocol,
            rows,
            1 if given.quick else given.seeds,
            60 if given.quick else given.steps,
            3 if given.quick else 1,
        )
        print("\n".join(lines), flush=True)
        text += [*lines, ""]
    if not given.quick:
        head = f"# Table 1\n\n`python tests/benchmarks/table1.py`, {given.seeds} seeds, {given.steps} steps each.\n\n"
        (RESULTS / "table1.md").write_text(head + "\n".join(text), encoding="utf-8")


if __name__ == "__main__":
    main()
