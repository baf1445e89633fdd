"""Curves of joint angles over time, left and right together, as one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from twoview.biomechanics.angles import SIDES, Angles
from twoview.biomechanics.events import Contact
from twoview.errors import FormatError
from twoview.storage.records import atomic

COLORS = {"left": "#2a6fdb", "right": "#e8871e", "": "#555555"}  # as in all pictures
COLUMNS = 3
_BARS, _BAR = (
    {"right": 0.0, "left": 0.04},
    0.03,
)  # of contacts: where they begin, height; shares of a panel's


def draw_angles(
    found: Angles,
    path: Path | str,
    *,
    events: Mapping[str, float] | None = None,
    contacts: Sequence[Contact] = (),
) -> Path:
    """Write a png with a curve per angle in degrees, right orange and left blue; a gap is a gap.

    events    name -> s, drawn as lines
    contacts  of each foot with the floor, drawn as bars below the curves

    Raises FormatError where no frame shows an angle, StorageError where the picture cannot be written.
    """
    from matplotlib.figure import Figure

    panels: dict[str, dict[str, str]] = {}
    for name, values in found.degrees.items():
        side, _, rest = name.partition("_")
        side, title = (side, rest) if side in SIDES else ("", name)
        if np.isfinite(values).any():
            panels.setdefault(title, {})[side] = name
    if not panels:
        raise FormatError("no frame shows an angle to draw", hint="was an athlete found in the video?")
    rows = -(-len(panels) // COLUMNS)
    figure = Figure(figsize=(4.2 * COLUMNS, 2.3 * rows), layout="constrained", dpi=100)
    grid = figure.subplots(rows, COLUMNS, squeeze=False, sharex=True).ravel()
    for plot, (title, sides) in zip(grid, panels.items(), strict=False):
        for side, name in sides.items():
            plot.plot(found.time, found.degrees[name], color=COLORS[side], lw=1.3, label=side)
        for contact in contacts:
            low = _BARS[contact.foot]
            plot.axvspan(contact.start, contact.end, low, low + _BAR, color=COLORS[contact.foot], lw=0, gid="contact")
        for moment in (events or {}).values():
            plot.axvline(moment, color="#888888", lw=0.8, ls=":")
        plot.set_title(title.replace("_", " "), fontsize=10)
        plot.axhline(0, color="#cccccc", lw=0.6, zorder=0)
        plot.tick_params(labelsize=8)
        for edge in ("top", "right"):
            plot.spines[edge].set_visible(False)
    for plot in grid[len(panels) :]:
        plot.set_visible(False)
    for plot in grid[max(len(panels) - COLUMNS, 0) : len(panels)]:
        plot.tick_params(labelbottom=True)
        plot.set_xlabel("s", fontsize=8)
    for name, moment in (events or {}).items():
        grid[0].annotate(name, (moment, 1), xycoords=("data", "axes fraction"), fontsize=7, rotation=90, va="top")
    grid[0].set_ylabel("degrees", fontsize=8)
    if any(grid[0].get_legend_handles_labels()[1]):
        grid[0].legend(fontsize=8, frameon=False)
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})
    return Path(path)
