"""The paper's claims, and what decides them: one thing changed at a time, from the paper's setting to ours.

python tests/benchmarks/claims.py [--steps 200] [--quick] [--only NAME,...]

The base is the paper's setting: a narrow lifter, joints as a COCO detector's, the losses as published. Every other line
changes one thing: what the lifter knows, the network, the joints, the detector's errors, the learning rate, the length
of the clips. Prints the errors of every line on six sports, which of the paper's claims hold there, and what could be
told beforehand without truth: by activity, how far the lifter is from the two-view 3D of the takes, and what adaptation
then gained.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from adapting import RESULTS, Conditions, mean
from grid import Cell, Machine, fill, lifter_mm, scores, six

from twoview.training.planning import PAPER_HARMS_MM, PAPER_HELPS_MM

ROWS = (
    "unadapted",
    "Iqbal et al.",
    "L_2D",
    "one similarity per frame",
    "L_2Dcon (paper)",
    "L_3D",
    "L_3Dcon",
    "L_3D (trained as phones)",
    "phones",
)
ASKED = ("unadapted", "L_2Dcon (paper)", "L_3D")  # of lines that change a detail
QUICK = ("unadapted", "L_2D", "one similarity per frame", "L_2Dcon (paper)", "L_3D", "phones")
SHORT = {"steps": 30, "every": 3}  # a step of the small DSTformer takes as long as fifteen of the temporal network
SHORT_LINES = (
    "30 steps of 27-frame clips",
    "30 steps of 27-frame clips: a small DSTformer",
)


def lines() -> dict[str, list[Cell]]:
    """Name -> the cells of one line; the first is the paper's setting."""
    sports, as_is = Conditions(), Conditions(sports=False)
    return {
        "the paper's setting": _cells("sports", sports, ROWS),
        "joints as captured": _cells("as-is", as_is, ROWS),
        "the lifter that ships": _cells("sports", sports, ROWS, lifter="twoview-small"),
        "the lifter that ships, joints as captured": _cells("as-is", as_is, ROWS, lifter="twoview-small"),
        "2D without errors": _cells("no errors", Conditions(level=1e-6), ASKED),
        "2D errors doubled": _cells("errors x 2", Conditions(level=0.014), ASKED),
        "learning rate / 4": _cells("sports", sports, ASKED, sets=("lr=5e-5",)),
        "learning rate x 4": _cells("sports", sports, ASKED, sets=("lr=8e-4",)),
        "clips of 27 frames": _cells("sports", sports, ASKED, sets=("clip_length=27",)),
        "clips of 9 frames": _cells("sports", sports, ASKED, sets=("clip_length=9",)),
        "consistency weight 1": _cells(
            "sports", sports, ("unadapted", "L_2Dcon (paper)"), sets=("loss.consistency=1",)
        ),
        "consistency weight 0.1": _cells(
            "sports", sports, ("unadapted", "L_2Dcon (paper)"), sets=("loss.consistency=0.1",)
        ),
        SHORT_LINES[0]: _cells("sports", sports, QUICK, sets=("clip_length=27",)),
        SHORT_LINES[1]: _cells("sports", sports, QUICK, lifter="narrow-dstformer"),
    }


def _cells(
    filmed: str, how: Conditions, rows: tuple[str, ...], *, lifter: str = "narrow", sets: tuple[str, ...] = ()
) -> list[Cell]:
    return [Cell(filmed, how, row, lifter=lifter, sets=() if row == "unadapted" else sets) for row in rows]


def claims(found: Mapping[str, np.ndarray]) -> list[str]:
    """What of the paper holds in one line: "yes", "no", or "-" where it was not asked. MPJPE, PA-MPJPE (2,) by row."""

    def ask(names: tuple[str, ...], holds) -> str:
        return ("yes" if holds(*(found[name] for name in names)) else "no") if set(names) <= set(found) else "-"

    start, flat, con, label = "unadapted", "L_2D", "L_2Dcon (paper)", "L_3D"
    return [
        ask((start, flat), lambda a, b: b[0] < a[0] and b[1] >= a[1]),
        ask((flat, con), lambda a, b: (b < 0.65 * a).all()),
        ask((start, con), lambda a, b: (b < a).all()),
        ask((label, "L_3Dcon"), lambda a, b: (abs(b - a) < 1.0).all()),
        ask(("one similarity per frame", con), lambda a, b: b[0] < a[0]),
        _gap(found, con),
        _gap(found, "phones"),
    ]


def _gap(found: Mapping[str, np.ndarray], row: str) -> str:
    """Share of the way from the unadapted lifter to the one with labels."""
    if not {"unadapted", "L_3D", row} <= set(found):
        return "-"
    whole = found["unadapted"][0] - found["L_3D"][0]
    return f"{(found['unadapted'][0] - found[row][0]) / whole:.0%}" if whole > 1 else "nothing to gain"


HEADS = (
    "L_2D lowers MPJPE, not PA",
    "L_2Dcon is a third below L_2D or more",
    "L_2Dcon is below unadapted",
    "L_3Dcon is as L_3D",
    "one transform per clip beats one per frame",
    "L_2Dcon closes of the gap to L_3D",
    "phones closes",
)
PAPER = {  # Table 1 of the paper, all activities
    "unadapted": (77.1, 44.1), "Iqbal et al.": (42.9, 28.5), "L_2D": (64.4, 45.0), "L_2Dcon (paper)": (36.4, 22.0),
    "L_3D": (28.7, 21.7), "L_3Dcon": (28.0, 21.3),
}  # fmt: skip


def main() -> None:
    """Print the two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="every third clip, 60 steps, the paper's setting alone")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--every", type=int, default=1, help="train on one of so many clips")
    parser.add_argument("--only", default="", help="lines to compute; all are printed that are known")
    Machine.add_options(parser, "table1")
    given = parser.parse_args()
    machine = Machine.of(given)
    every = lines()
    chosen = given.only.split(",") if given.only else list(every)[: 1 if given.quick else None]
    if given.quick:
        given.steps, given.every = 60, 3
    form = {"steps": given.steps, "every": given.every}
    every = {name: [_as(cell, _form(name, form)) for cell in cells] for name, cells in every.items()}
    fill([cell for name in chosen for cell in every[name]], machine)
    text = [*_errors(every, machine.work), "", *_claims(every, machine.work), "", *_beforehand(every, machine.work)]
    print("\n".join(text), flush=True)
    if not given.quick:
        what = f"`python tests/benchmarks/claims.py --steps {given.steps} --every {given.every}`, one seed."
        (RESULTS / "claims.md").write_text(
            "\n".join(["# The paper's claims", "", what, "", *text, ""]), encoding="utf-8"
        )


def _form(name: str, form: Mapping[str, int]) -> Mapping[str, int]:
    return SHORT if name in SHORT_LINES else form


def _as(cell: Cell, form: Mapping[str, int]) -> Cell:
    return replace(cell, **form)


def _found(every: Mapping[str, list[Cell]], work: Path) -> dict[str, dict[str, np.ndarray]]:
    """Line -> row -> MPJPE and PA-MPJPE (2,), mm, of six sports, as far as they are known."""
    lines = {"the paper, SportsPose": {row: np.array(values) for row, values in PAPER.items()}}
    for name, cells in every.items():
        known = {cell.row: six(kept[0]) for cell in cells if (kept := scores(cell, work))}
        lines[name] = known
    return {name: known for name, known in lines.items() if len(known) > 1}


def _errors(every: Mapping[str, list[Cell]], work: Path) -> list[str]:
    text = [f"| MPJPE / PA-MPJPE, mm | {' | '.join(ROWS)} |", "|---" * (len(ROWS) + 1) + "|"]
    for name, known in _found(every, work).items():
        cells = [f"{known[row][0]:.1f} / {known[row][1]:.1f}" if row in known else "-" for row in ROWS]
        text.append(f"| {name} | {' | '.join(cells)} |")
    return text


def _claims(every: Mapping[str, list[Cell]], work: Path) -> list[str]:
    text = [f"| does it hold? | {' | '.join(HEADS)} |", "|---" * (len(HEADS) + 1) + "|"]
    return [*text, *(f"| {name} | {' | '.join(claims(known))} |" for name, known in _found(every, work).items())]


def _beforehand(every: Mapping[str, list[Cell]], work: Path) -> list[str]:
    """The activities of all lines by the lifter's distance from the two-view 3D, with what was gained on the test."""
    found = []
    for name, cells in every.items():
        kept = {cell.row: own[0] for cell in cells if (own := scores(cell, work))}
        if not {"unadapted", "L_2Dcon (paper)", "phones"} <= set(kept):
            continue
        for kind, apart in lifter_mm(cells[0], work).items():
            start, *ends = (mean(kept[row][kind])[0] for row in ("unadapted", "L_2Dcon (paper)", "phones"))
            found.append((apart, f"{name}: {kind}", start, [end - start for end in ends]))
    text = ["| takes | lifter to two-view 3D, mm | test, unadapted, mm | L_2Dcon (paper) | phones |", "|---" * 5 + "|"]
    for apart, what, start, ends in sorted(found):
        text.append(f"| {what} | {apart:.0f} | {start:.1f} | {' | '.join(f'{end:+.1f}' for end in ends)} |")
    bounds = ((0.0, PAPER_HARMS_MM), (PAPER_HARMS_MM, PAPER_HELPS_MM), (PAPER_HELPS_MM, np.inf))
    text += [
        "",
        "| lifter to two-view 3D, mm | activities | L_2Dcon helped | on average | phones helped | on average |",
    ]
    text.append("|---" * 6 + "|")
    for low, high in bounds:
        some = np.array([ends for apart, _, _, ends in found if low <= apart < high]).reshape(-1, 2)
        cells = [f"{(ends < 0).sum()} | {ends.mean():+.1f}" for ends in some.T if len(ends)]
        text.append(f"| {low:g} to {high:g} | {len(some)} | {' | '.join(cells)} |")
    return text


if __name__ == "__main__":
    main()
