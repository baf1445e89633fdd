"""One number varied, everything else fixed: what the benchmarks of angle, delay and number of views share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from adapting import RESULTS, Conditions
from grid import Cell, Machine, fill, scores, six, two_views
from rows import PHONES

ONE_VIEW = ("L_2D", "L_3D")  # rows that one view can teach


def sweep(
    name: str,
    about: str,
    settings: Mapping[float, Conditions],
    quick: Sequence[float],
    rows: Mapping[str, tuple[str, ...]],
) -> None:
    """Adapt each row, with its settings on top, at each setting of the cameras, and print six sports' errors.

    Writes a table and a plot into docs/results.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few settings, every third take, 60 steps")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--every", type=int, default=1, help="train on one of so many takes")
    parser.add_argument("--lifter", default="twoview-small")
    parser.add_argument("--rows", default=",".join(rows))
    parser.add_argument("--at", default="", help="settings, as 1,2,3; all if left out")
    Machine.add_options(parser, "sweeps")
    given = parser.parse_args()
    machine = Machine.of(given)
    chosen = {row: rows[row] for row in given.rows.split(",")}
    key = "-".join([*name.split(",")[0].split(), *([] if given.lifter == "twoview-small" else [given.lifter])])
    at = [float(value) for value in given.at.split(",")] if given.at else quick if given.quick else list(settings)
    steps, every = (60, 3) if given.quick else (given.steps, given.every)
    form = {"steps": steps, "every": every, "lifter": given.lifter}
    start = Cell(_filmed(Conditions()), Conditions(), "unadapted", **form)
    cells = {
        value: [
            Cell(_filmed(how), how, row, sets=sets, **form) if how.angles or row in ONE_VIEW else None
            for row, sets in chosen.items()
        ]
        for value, how in settings.items()
        if value in at
    }
    fill([start, *(cell for own in cells.values() for cell in own if cell)], machine)
    found = {value: [_errors(cell, machine.work) for cell in own] for value, own in cells.items()}
    unadapted = _errors(start, machine.work)
    labels = list(chosen)
    if any(row in PHONES for row in chosen):  # whose training solves them
        labels.append("two-view 3D of the takes")
        for value, own in cells.items():
            found[value].append(two_views(own[-1], machine.work) if own[-1] else np.full(2, np.nan))
    lines = [f"| {name} | unadapted | {' | '.join(labels)} |", "|---" * (len(labels) + 2) + "|"]
    for value, own in found.items():
        shown = [f"{a:.1f} / {b:.1f}" if np.isfinite(a) else "-" for a, b in (unadapted, *own)]
        lines.append(f"| {value:g} | {' | '.join(shown)} |")
    print("\n".join(lines), flush=True)
    if not given.quick:
        command = f"python tests/benchmarks/{Path(sys.argv[0]).name}"
        command += f" --lifter {given.lifter}" if given.lifter != "twoview-small" else ""
        command += f' --rows "{given.rows}"' if list(chosen) != list(rows) else ""
        command += f" --at {given.at}" if given.at else ""
        what = f"{about.splitlines()[0]}\n\n`{command} --steps {steps} --every {every}`"
        what += ": MPJPE / PA-MPJPE, mm, six sports, one seed."
        text = f"# {name.capitalize()}\n\n{what}\n\n" + "\n".join(lines) + f"\n\n![{name}]({key}.png)\n"
        (RESULTS / f"{key}.md").write_text(text, encoding="utf-8")
        curves = {value: [score[0] for score in own] for value, own in found.items()}
        plot(RESULTS / f"{key}.png", name, curves, labels, unadapted[0])


def _filmed(how: Conditions) -> str:
    """A name for files: sweeps that film alike in places share what is finished."""
    return "-".join(f"{value:g}" for value in (how.delay_s, how.travel_m, *how.angles))


def _errors(cell: Cell | None, work: Path) -> np.ndarray:
    found = scores(cell, work) if cell else None
    return np.full(2, np.nan) if found is None else six(found[0])


def plot(path: Path, name: str, found: Mapping[float, Sequence[float]], labels: Sequence[str], start: float) -> None:
    """MPJPE over the setting, a line a row."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4))
    axes.axhline(start, color="gray", linestyle=":", label="unadapted")
    for label, values in zip(labels, zip(*found.values(), strict=True), strict=True):
        axes.plot(list(found), values, marker="o", label=label)
    highest = np.nanmax([start, *(value for values in found.values() for value in values)])
    axes.set(xlabel=name, ylabel="MPJPE, mm", ylim=(0, 1.05 * highest), xticks=list(found))
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
