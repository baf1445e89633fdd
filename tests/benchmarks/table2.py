"""The paper's Table 2: 3D labels for few people, 2D from two views for the rest, mixed in every batch.

python tests/benchmarks/table2.py [--lifter narrow] [--quick]

Joints as a COCO detector's, converted. Labels are of whole people whose clips are a tenth, a quarter or half of all, or
a little less; the others' takes leave the terms on labels alone, as S5 to S8 do in the paper.
"""

from __future__ import annotations

import argparse

from adapting import RESULTS, Conditions
from grid import Cell, Machine, fill, scores, six
from rows import FEW, MIXED, SHARES, people_within, person


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="every third take, one share, 60 steps")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--every", type=int, default=1, help="train on one of so many takes")
    parser.add_argument("--lifter", default="twoview-small")
    Machine.add_options(parser, "table2")
    given = parser.parse_args()
    machine = Machine.of(given)
    steps, every = (60, 3) if given.quick else (given.steps, given.every)
    picked = slice(1, 2) if given.quick else slice(None)
    names = [("unadapted", few, both, "phones", "L_3D") for few, both in zip(FEW, MIXED, strict=True)][picked]
    table = [
        [Cell("sports", Conditions(), row, steps=steps, every=every, lifter=given.lifter) for row in row_names]
        for row_names in names
    ]
    fill(list(dict.fromkeys(cell for row in table for cell in row)), machine)
    lines = [
        "| 3D of | unadapted | L_3D on these alone | and 2D of all, L_con | phones, no 3D | L_3D on all |",
        "|---|---|---|---|---|---|",
    ]
    takes = table[0][0].takes()
    for share, row in zip(SHARES[picked], table, strict=True):
        known = [who for who in map(person, takes) if who in people_within(takes, share)]
        name = f"{len(known)} of {len(takes)} clips, {len(set(known))} people"
        found = [six(result[0]) for cell in row if (result := scores(cell, machine.work))]
        lines.append(f"| {name} | {' | '.join(f'{own:.1f} / {aligned:.1f}' for own, aligned in found)} |")
    print("\n".join(lines), flush=True)
    if not given.quick:
        name = "table2" if given.lifter == "twoview-small" else f"table2-{given.lifter}"
        command = f"`python tests/benchmarks/table2.py --lifter {given.lifter} --steps {steps} --every {every}`"
        text = f"# Table 2, {given.lifter}\n\n{command}: one seed, six sports, MPJPE / PA-MPJPE, mm.\n\n"
        (RESULTS / f"{name}.md").write_text(text + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
