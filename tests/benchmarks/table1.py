"""The paper's Table 1 on motion capture: what adaptation to two views without 3D labels gains, and what it forgets.

python tests/benchmarks/table1.py [--lifter narrow] [--quick] [--protocol sports|as-is] [--seeds 3] [--rows NAME,...]
    [--steps 200] [--device cuda]

Rows are the presets of the paper and its baselines, as published, and the method `phones` with its ablations, all in
one short form: so many steps of as many frames. Lifters: one that ships, or "narrow" or "narrow-dstformer", which know
what the paper's knew (docs/results/pretraining). "sports": joints as a COCO detector's, converted, as in the paper;
"as-is": joints as captured.
New people are the subject numbers that no training file holds; golf, baseball and basketball have one subject each, so
there the test is on new trials. MPJPE / PA-MPJPE in true mm of view a, one view seen; 95 % intervals over clips.
What is finished is kept in --work, and a second call continues.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from adapting import RESULTS, SIX, Conditions, interval, mean
from grid import Cell, Machine, Scores, fill, scores, six
from rows import ROWS

QUICK = ("unadapted", "L_2D", "one similarity per frame", "L_2Dcon (paper)", "L_3D", "phones")
PROTOCOLS = ("sports", "as-is")
CLASSES = (*SIX, "dance", "acrobatics")


def cells(protocol: str, row: str, lifter: str, *, seeds: Sequence[int], steps: int, every: int) -> list[Cell]:
    """One row of a protocol, a cell a seed."""
    how = Conditions(sports=protocol == "sports")
    return [Cell(protocol, how, row, seed, steps, every, lifter) for seed in seeds]


def table(protocol: str, rows: dict[str, list[Cell]], work: Path) -> list[str]:
    """Lines of one protocol's table, from what is kept."""
    columns = [*CLASSES, "all new", "new trials"]
    lines = [f"| {protocol} | six sports | {' | '.join(columns)} | everyday movement after |"]
    lines.append("|---" * (len(columns) + 3) + "|")
    for name, row in rows.items():
        kept = [found for cell in row if (found := scores(cell, work))]
        if not kept:
            continue
        results = [errors for errors, _ in kept]
        sports = np.mean([six(seed) for seed in results], axis=0)
        cells = [f"**{sports[0]:.1f} / {sports[1]:.1f}**", *(_show(results, column) for column in columns)]
        note = "" if len(kept) == len(row) else f" ({len(kept)} of {len(row)} seeds)"
        lines.append(f"| {name}{note} | {' | '.join(cells)} | {np.mean([after for _, after in kept]):.1f} |")
    return lines


def _show(seeds: Sequence[Scores], kind: str) -> str:
    clips = [seed[kind] for seed in seeds]
    own = np.mean([mean(c) for c in clips], axis=0)
    if kind != "all new":
        return f"{own[0]:.1f} / {own[1]:.1f}"
    low, high = interval(clips, mean)
    return f"{own[0]:.1f} ({low[0]:.1f} to {high[0]:.1f}) / {own[1]:.1f}"


def plot(path: Path, tables: dict[str, dict[str, list[Cell]]], work: Path) -> None:
    """Bars of the mean over six sports and of all new people, one group a row."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(tables), figsize=(11, 4), sharey=True)
    for axes, (protocol, rows) in zip(panels, tables.items(), strict=True):
        kept = {row: [found for cell in own if (found := scores(cell, work))] for row, own in rows.items()}
        names = [row for row, found in kept.items() if found]
        for shift, label in ((-0.2, "six sports"), (0.2, "all new people")):
            summary = six if label == "six sports" else lambda found: mean(found["all new"])
            heights = [np.mean([summary(found)[0] for found, _ in kept[row]]) for row in names]
            axes.barh(np.arange(len(names)) + shift, heights, 0.4, label=label)
        axes.set(title=protocol, xlabel="MPJPE, mm", yticks=np.arange(len(names)), yticklabels=names)
        axes.invert_yaxis()
    panels[0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed, sports, six rows, every third clip, 60 steps")
    parser.add_argument("--lifter", default="twoview-small")
    parser.add_argument("--protocol", choices=PROTOCOLS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rows", default="")
    Machine.add_options(parser, "table1")
    given = parser.parse_args()
    machine = Machine.of(given)
    protocols = [given.protocol] if given.protocol else ["sports"] if given.quick else list(PROTOCOLS)
    rows = given.rows.split(",") if given.rows else QUICK if given.quick else ROWS
    steps, every = (60, 3) if given.quick else (given.steps, 1)
    seeds = range(1 if given.quick else given.seeds)
    tables = {
        p: {row: cells(p, row, given.lifter, seeds=seeds, steps=steps, every=every) for row in rows} for p in protocols
    }
    fill([cell for table in tables.values() for row in table.values() for cell in row], machine)
    lines = [line for protocol, own in tables.items() for line in (*table(protocol, own, machine.work), "")]
    print("\n".join(lines), flush=True)
    if not given.quick and not given.rows and not given.protocol:
        name = "table1" if given.lifter == "twoview-small" else f"table1-{given.lifter}"
        what = f"`python tests/benchmarks/table1.py --lifter {given.lifter} --seeds {len(seeds)} --steps {steps}`"
        text = "\n".join([f"# Table 1, {given.lifter}", "", what, "", *lines, f"![Table 1]({name}.png)", ""])
        (RESULTS / f"{name}.md").write_text(text, encoding="utf-8")
        plot(RESULTS / f"{name}.png", tables, machine.work)


if __name__ == "__main__":
    main()
