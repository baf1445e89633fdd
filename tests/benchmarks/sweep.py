"""One number varied, everything else fixed: what the benchmarks of angle, lateness and number of views share."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from adapting import RESULTS, SIX, Shoot, errors, film_all, mean, measure
from rows import solved, train

from twoview.checkpoint import load_model

ONE_VIEW = ("L_2D", "L_3D")  # rows that one view can teach


def sweep(name: str, about: str, settings: Mapping[float, Shoot], quick: Sequence[float], rows: Sequence[str]) -> None:
    """Adapt each row at each setting, print six sports' errors; write a table and a plot into docs/results."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few settings, every third take, 60 steps")
    parser.add_argument("--steps", type=int, default=200)
    given = parser.parse_args()
    torch.set_num_threads(1)
    steps, model = (60 if given.quick else given.steps), load_model("twoview-small")
    new, same = film_all("target_test", Shoot(), 100, only=SIX), film_all("target_test_same", Shoot(), 200, only=SIX)
    test = {**same, **new}
    lines = [f"| {name} | unadapted | {' | '.join(rows)} | two-view 3D of the takes |", "|---" * (len(rows) + 3) + "|"]
    print("\n".join(lines))
    start, found = _six(measure(model, test)), {}
    for value in quick if given.quick else settings:
        takes = [t for clips in film_all("target_train", settings[value], 0).values() for t in clips]
        takes = takes[::3] if given.quick else takes
        several = len(settings[value].angles) > 0
        triangulated = solved(takes, model) if several else []
        nothing = np.full(2, np.nan)
        own = mean([errors(f.poses("a"), t) for f, t in zip(triangulated, takes, strict=True)]) if several else nothing
        scores = [
            _six(measure(train(row, model, takes, triangulated, steps=steps, seed=0), test))
            if several or row in ONE_VIEW
            else nothing
            for row in rows
        ]
        found[value] = [score[0] for score in scores] + [own[0]]
        cells = [f"{a:.1f} / {b:.1f}" if np.isfinite(a) else "-" for a, b in (start, *scores, own)]
        lines.append(f"| {value:g} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    if not given.quick:
        key = name.split(",")[0].replace(" ", "-")
        what = f"MPJPE / PA-MPJPE, mm, six sports; one seed, {steps} steps."
        head = f"# {name.capitalize()}\n\n{about.strip()}\n\n{what}\n\n"
        (RESULTS / f"{key}.md").write_text(head + "\n".join(lines) + f"\n\n![{name}]({key}.png)\n", encoding="utf-8")
        plot(RESULTS / f"{key}.png", name, found, [*rows, "two-view 3D of the takes"], start[0])


def _six(scores: Mapping[str, list[np.ndarray]]) -> np.ndarray:
    return np.mean([mean(scores[kind]) for kind in SIX], axis=0)


def plot(path, name: str, found: Mapping[float, Sequence[float]], labels: Sequence[str], start: float) -> None:
    """MPJPE over the setting, a line a row."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4))
    axes.axhline(start, color="grey", linestyle=":", label="unadapted")
    for label, values in zip(labels, zip(*found.values(), strict=True), strict=True):
        axes.plot(list(found), values, marker="o", label=label)
    axes.set(xlabel=name, ylabel="MPJPE, mm", ylim=(0, None))
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
