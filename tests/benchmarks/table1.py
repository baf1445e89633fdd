"""The paper's Table 1 on motion capture: what adaptation to two views without 3D labels gains, and what it forgets.

python tests/benchmarks/table1.py [--quick] [--protocol sports|as-is] [--seeds 3] [--rows NAME,...] [--workers 2]

Rows are the paper's baselines and the method `phones` with its ablations; every row gets the same clips, steps, batch
and learning rate. "sports": joints as a COCO detector's, converted; "as-is": joints as captured, the hard case.
New people are the subject numbers that no training file holds; golf, baseball and basketball have one subject each, so
there the test is on new trials. MPJPE / PA-MPJPE in true mm of view a, one view seen; 95 % intervals over clips.
What is finished is kept in --work, and a second call continues.
"""

from __future__ import annotations

import argparse
import os
import pickle
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from adapting import RESULTS, SIX, Shoot, film_all, interval, mean, measure, remembered
from rows import PHONES, ROWS, solved, train

from twoview.checkpoint import load_model

QUICK = ("unadapted", "L_2D", "L_2Dcon (paper)", "L_3D", "phones")
PROTOCOLS = ("sports", "as-is")
CLASSES = (*SIX, "dance", "acrobatics")
Scores = dict[str, list[np.ndarray]]  # class, "all new" or "new trials" -> errors (T, 2) of every clip


def one(protocol: str, seed: int, rows: Sequence[str], steps: int, every: int, work: Path) -> None:
    """All rows of one protocol and seed; of every so many clips one is trained on. Each row is kept as a file."""
    torch.set_num_threads(1)
    todo = [name for name in rows if not _kept(work, protocol, seed, name).exists()]
    if not todo:
        return
    how, model = Shoot(sports=protocol == "sports"), load_model("twoview-small")
    takes = [take for found in film_all("target_train", how, seed).values() for take in found][::every]
    new, same = film_all("target_test", how, 100 + seed), film_all("target_test_same", how, 200 + seed)
    shared = work / f"{protocol}-{seed}-triangulated.pkl"
    if set(todo) & set(PHONES) and not shared.exists():
        started = time.process_time()
        _write(shared, solved(takes, model))
        print(f"  {protocol}, seed {seed}, triangulated: {time.process_time() - started:.0f} core-s", flush=True)
    for name in todo:
        started = time.process_time()
        found = pickle.loads(shared.read_bytes()) if name in PHONES else []
        adapted = train(name, model, takes, found, steps=steps, seed=seed)
        spent = time.process_time() - started
        scores, trials = measure(adapted, new), measure(adapted, same)
        scores["all new"] = [clip for clips in scores.values() for clip in clips]
        scores["new trials"] = [clip for clips in trials.values() for clip in clips]
        scores |= {kind: clips for kind, clips in trials.items() if kind not in scores}
        _write(_kept(work, protocol, seed, name), (scores, remembered(adapted)))
        print(f"  {protocol}, seed {seed}, {name}: {_show([scores], 'all new')}, {spent:.0f} core-s", flush=True)


def _kept(work: Path, protocol: str, seed: int, row: str) -> Path:
    return work / f"{protocol}-{seed}-{''.join(c if c.isalnum() else '_' for c in row)}.pkl"


def _write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    temporary.write_bytes(pickle.dumps(value))
    temporary.replace(path)


def table(protocol: str, rows: Sequence[str], seeds: Sequence[int], work: Path) -> list[str]:
    """Lines of one protocol's table, from what is kept."""
    columns = [*CLASSES, "all new", "new trials"]
    lines = [f"| {protocol} | six sports | {' | '.join(columns)} | everyday movement after |"]
    lines.append("|---" * (len(columns) + 3) + "|")
    for name in rows:
        files = [_kept(work, protocol, seed, name) for seed in seeds]
        kept = [pickle.loads(path.read_bytes()) for path in files if path.exists()]
        if not kept:
            continue
        results = [scores for scores, _ in kept]
        six = np.mean([[mean(seed[kind]) for kind in SIX] for seed in results], axis=(0, 1))
        cells = [f"**{six[0]:.1f} / {six[1]:.1f}**", *(_show(results, column) for column in columns)]
        note = "" if len(kept) == len(seeds) else f" ({len(kept)} of {len(seeds)} seeds)"
        lines.append(f"| {name}{note} | {' | '.join(cells)} | {np.mean([after for _, after in kept]):.1f} |")
    return lines


def _show(seeds: Sequence[Scores], kind: str) -> str:
    clips = [seed[kind] for seed in seeds]
    own = np.mean([mean(c) for c in clips], axis=0)
    if kind != "all new":
        return f"{own[0]:.1f} / {own[1]:.1f}"
    low, high = interval(clips, mean)
    return f"{own[0]:.1f} ({low[0]:.1f} to {high[0]:.1f}) / {own[1]:.1f}"


def plot(path: Path, rows: Sequence[str], seeds: Sequence[int], work: Path) -> None:
    """Bars of the mean over six sports and of all new people, one group a row."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(PROTOCOLS), figsize=(11, 4), sharey=True)
    for axes, protocol in zip(panels, PROTOCOLS, strict=True):
        names = [row for row in rows if _kept(work, protocol, seeds[0], row).exists()]
        for shift, kinds in ((-0.2, SIX), (0.2, ("all new",))):
            heights = []
            for row in names:
                files = [_kept(work, protocol, seed, row) for seed in seeds]
                kept = [pickle.loads(f.read_bytes())[0] for f in files if f.exists()]
                heights.append(np.mean([[mean(scores[kind])[0] for kind in kinds] for scores in kept]))
            label = "six sports" if kinds == SIX else "all new people"
            axes.barh(np.arange(len(names)) + shift, heights, 0.4, label=label)
        axes.set(title=protocol, xlabel="MPJPE, mm", yticks=np.arange(len(names)), yticklabels=names)
        axes.invert_yaxis()
    panels[0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed, sports, five rows, every third clip, 60 steps")
    parser.add_argument("--protocol", choices=PROTOCOLS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rows", default="")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--work", type=Path, default=Path("work/table1"))
    given = parser.parse_args()
    protocols = [given.protocol] if given.protocol else ["sports"] if given.quick else list(PROTOCOLS)
    rows = given.rows.split(",") if given.rows else QUICK if given.quick else ROWS
    steps, every = (60, 3) if given.quick else (given.steps, 1)
    seeds = range(1 if given.quick else given.seeds)
    work = given.work / f"{steps}-{every}"
    with ProcessPoolExecutor(given.workers, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(one, protocol, seed, rows, steps, every, work) for seed in seeds for protocol in protocols]
        for job in jobs:
            job.result()
    lines = [line for protocol in protocols for line in (*table(protocol, rows, seeds, work), "")]
    print("\n".join(lines), flush=True)
    if not given.quick and not given.rows and not given.protocol:
        head = f"# Table 1\n\n`python tests/benchmarks/table1.py`, {len(seeds)} seeds, {steps} steps each.\n\n"
        text = head + "\n".join(lines) + "\n![Table 1](table1.png)\n"
        (RESULTS / "table1.md").write_text(text, encoding="utf-8")
        plot(RESULTS / "table1.png", rows, seeds, work)


if __name__ == "__main__":
    main()
