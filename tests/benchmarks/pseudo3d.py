"""How good is the two-view 3D of the filmed takes themselves? By angle, noise and delay, against the lifter alone.

python tests/benchmarks/pseudo3d.py [--quick]      prints a table; without --quick also writes docs/results/pseudo3d.md
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from adapting import RESULTS, Conditions, errors, mean, render_takes

from twoview.lifting.inference import lift
from twoview.lifting.model import load_model
from twoview.reconstruction.triangulation import triangulate_takes

ROWS = {
    "as captured": Conditions(sports=False),
    "COCO-like joints": Conditions(),
    "  2D noise doubled": Conditions(level=0.014),
    "  views 45 degrees apart": Conditions(angles=(45.0,)),
    "  views 20 degrees apart": Conditions(angles=(20.0,)),
    "  view b 17 ms late": Conditions(delay_s=0.017),
    "  view b 67 ms late": Conditions(delay_s=0.067),
    "  traveling 3 m through depth": Conditions(travel_m=3.0),
    "  three views": Conditions(angles=(60.0, 120.0)),
}


def row(how: Conditions, every: int) -> list[float]:
    """Unadapted and two-view errors of view a, the worst tenth, the rotation's error, seconds a window pair."""
    model = load_model("twoview-small")
    takes = [t for found in render_takes("target_train", how, 0).values() for t in found][::every]
    before = [errors(lift(model, t.poses["a"]), t) for t in takes]
    started = time.process_time()
    found = [triangulate_takes([t], model)[0] for t in takes]
    seconds = time.process_time() - started
    after = [errors(f.poses("a"), t) for f, t in zip(found, takes, strict=True)]
    windows = sum(len(f.time) for f in found) / 27
    worst = np.percentile(np.concatenate(after)[:, 0], 90)
    return [*mean(before), *mean(after), worst, np.mean([f.reliable.mean() for f in found]), seconds / windows]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="every 8th clip")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    head = "| takes | lifter alone, MPJPE / PA, mm | two views | 90 % below | reliable | core-s a window pair |"
    lines = [head, "|---|---|---|---|---|---|"]
    print("\n".join(lines))
    for name, how in ROWS.items():
        a, b, c, d, worst, reliable, seconds = row(how, 8 if quick else 1)
        lines.append(
            f"| {name} | {a:.1f} / {b:.1f} | {c:.1f} / {d:.1f} | {worst:.1f} | {reliable:.0%} | {seconds:.3f} |"
        )
        print(lines[-1], flush=True)
    if not quick:
        text = f"# Two-view 3D of the takes themselves\n\n{__doc__.splitlines()[2]}\n\n" + "\n".join(lines) + "\n"
        (RESULTS / "pseudo3d.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
