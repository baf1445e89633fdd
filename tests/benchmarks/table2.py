"""The paper's Table 2: 3D labels for few people, 2D from two views for the rest, mixed in every batch.

python tests/benchmarks/table2.py [--quick]

Joints as a COCO detector's, converted. Every tenth, fourth or second clip has labels.
"""

from __future__ import annotations

import argparse

from adapting import RESULTS, Conditions
from grid import Cell, Machine, fill, scores, six
from rows import FEW, MIXED, SHARES


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="every third take, one share, 60 steps")
    parser.add_argument("--steps", type=int, default=200)
    Machine.add_options(parser, "table2")
    given = parser.parse_args()
    machine = Machine.of(given)
    steps, every = (60, 3) if given.quick else (given.steps, 1)
    picked = slice(1, 2) if given.quick else slice(None)
    names = [("unadapted", few, both, "phones", "L_3D") for few, both in zip(FEW, MIXED, strict=True)][picked]
    table = [[Cell("sports", Conditions(), row, steps=steps, every=every) for row in row_names] for row_names in names]
    fill(list(dict.fromkeys(cell for row in table for cell in row)), machine)
    lines = [
        "| clips with 3D | unadapted | L_3D on these alone | and 2D of all, L_con | phones, no 3D | L_3D on all |",
        "|---|---|---|---|---|---|",
    ]
    for share, row in zip(SHARES[picked], table, strict=True):
        found = [six(result[0]) for cell in row if (result := scores(cell, machine.work))]
        lines.append(f"| {share:.0%} | {' | '.join(f'{own:.1f} / {aligned:.1f}' for own, aligned in found)} |")
    print("\n".join(lines), flush=True)
    if not given.quick:
        what = f"one seed, {steps} steps, six sports, MPJPE / PA-MPJPE, mm."
        text = f"# Table 2\n\n`python tests/benchmarks/table2.py`: {what}\n\n"
        (RESULTS / "table2.md").write_text(text + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
