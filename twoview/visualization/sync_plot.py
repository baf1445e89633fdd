"""The picture sync.png: how well the clocks of the views fit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from anyascii import anyascii
from numpy import ndarray as Array

from twoview.poses import Poses2D
from twoview.storage.records import atomic
from twoview.synchronization.audio_features import Sound
from twoview.synchronization.motion_clocks import RATE, trajectories
from twoview.synchronization.several_views import Relation, chained
from twoview.timeline import Sync

Trace = tuple[Array, Array]  # seconds (N,) on a view's clock, and loudness or speed (N,) from 0 to 1

_A, _B, _PALE, _INK, _RIVAL = "#1f5fa8", "#e07a1f", "#b8bec8", "#282c34", "#b3261e"
_HOP_S = 0.005  # between two values of the loudness
_SHOWN_S = 6.0  # length of the traces that is drawn: where most happens
_POINTS = 3000  # most points of a curve; its peaks are kept
_NEAR_S = 0.25  # a runner-up is farther than this from the peak


def draw_sync(sync: Sync, relations: Sequence[Relation], traces: Mapping[str, Trace], path: Path | str) -> Path:
    """Write sync.png: one row for each pair of views that was compared.

    Left, loudness (or speed of the joints) of both views on the session clock, one up and one down: peaks must meet.
    Middle, the correlation over all offsets with its peak and the runner-up. Right, the delay of each window.
    traces  of each view, from `loudness` or `joint_speed`
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    style: Any = {"font.size": 8, "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 9,
                  "axes.titlelocation": "left", "axes.edgecolor": _PALE, "text.parse_math": False}  # fmt: skip
    with rc_context(style):
        figure = Figure(figsize=(13, 2.9 * len(relations) + 0.5), layout="constrained", dpi=110)
        rows = figure.subplots(len(relations), 3, squeeze=False, width_ratios=(1.7, 1, 1))
        for (left, middle, right), relation in zip(rows, relations, strict=True):
            _draw_traces(left, sync, relation, traces)
            _draw_curve(middle, relation)
            _draw_windows(right, relation)
        figure.suptitle(_plotted(_headline(sync)), x=0.01, ha="left", fontsize=10, color=_INK)
        with atomic(path) as temporary:
            figure.savefig(temporary, format="png", metadata={"Software": None})
    return Path(path)


def loudness(sound: Sound) -> Trace:
    """How loud a view is, from 0 (its quiet parts) to 1 (its loudest)."""
    hop = round(_HOP_S * sound.rate)
    level = sound.per_hop(hop, lambda rows: np.sqrt(np.square(rows).mean(axis=1)))
    time = sound.start_s + sound.slowdown * (np.arange(len(level)) + 0.5) * hop / sound.rate
    return time, _normalized(20 * np.log10(level + 1e-4))


def joint_speed(poses: Poses2D) -> Trace:
    """How fast the joints of a view move on average, from 0 (still) to 1 (its fastest)."""
    shown = trajectories(poses)
    rate = np.linalg.norm(np.gradient(shown.xy, axis=0), axis=-1) * RATE if len(shown.xy) > 1 else shown.seen
    speed = (rate * shown.seen).sum(axis=1) / np.maximum(shown.seen.sum(axis=1), 1)
    return shown.start + np.arange(len(speed)) / RATE, _normalized(speed)


def _normalized(level: Array) -> Array:
    if not len(level):
        return level
    low, high = np.quantile(level, 0.2), level.max()
    return np.asarray(np.clip((level - low) / max(float(high - low), 1e-9), 0, 1))


def _plotted(text: str) -> str:
    """A text with the letters that matplotlib's own font lacks transliterated, so that no name becomes empty boxes."""
    from matplotlib.font_manager import findfont, get_font

    known = get_font(findfont("DejaVu Sans")).get_charmap()
    return "".join(letter if ord(letter) in known or letter.isspace() else anyascii(letter) for letter in text)


def _headline(sync: Sync) -> str:
    parts = []
    for view in sync.views[1:]:
        clock, quality = sync.clocks[view], sync.quality.get(view)
        text = f"{view}: {clock.offset_s:+.4f} s against {sync.reference}"
        if quality is not None and math.isfinite(quality.error_s):
            text += f" ± {quality.error_s * 1000:.1f} ms, {quality.confidence:.1%} sure"
        parts.append(text)
    return f"by {sync.method}   " + "   ·   ".join(parts)


def _draw_traces(plot: Any, sync: Sync, relation: Relation, traces: Mapping[str, Trace]) -> None:
    first, second = relation.first, relation.second
    # The second view by this pair's own relation: a pair that was left out has to look wrong.
    clocks = {first: sync.clocks[first], second: chained(sync.clocks[first], relation.clock)}
    shown = {view: (clock.to_session(traces[view][0]), traces[view][1]) for view, clock in clocks.items()}
    start, end = _busiest(shown[first], shown[second])
    for view, sign, color in ((first, 1, _A), (second, -1, _B)):
        time, level = shown[view]
        near = (time >= start) & (time <= end)
        plot.fill_between(time[near], sign * level[near], color=color, linewidth=0, alpha=0.9)
    plot.axhline(0, color="white", linewidth=1)
    plot.set(xlim=(start, end), ylim=(-1.05, 1.05), yticks=[], xlabel="session clock, s")
    plot.set_title(_plotted(f"{first} (up) and {second} (down): peaks have to meet"), color=_INK)


def _busiest(first: Trace, second: Trace) -> tuple[float, float]:
    """Start and end of the part that both show in which most happens."""
    start, end = max(first[0][0], second[0][0]), min(first[0][-1], second[0][-1])
    if end - start <= _SHOWN_S:
        return (float(start), float(end)) if end > start else (float(first[0][0]), float(first[0][0]) + 1.0)
    grid = np.arange(start, end, 0.05)
    both = np.minimum(np.interp(grid, *first), np.interp(grid, *second))
    width = round(_SHOWN_S / 0.05)
    best = int(np.argmax(np.convolve(np.abs(np.diff(both, prepend=both[0])), np.ones(width), mode="valid")))
    return float(grid[best]), float(grid[best]) + _SHOWN_S


def _draw_curve(plot: Any, relation: Relation) -> None:
    lags, heights = relation.lags, relation.heights
    plot.set(xlabel="offset, s", ylabel=relation.unit)
    if not len(lags):
        plot.set_title(_plotted(relation.refusal or "not compared"), color=_RIVAL, wrap=True)
        return
    plot.plot(*_thinned(lags, heights), color=_A, linewidth=0.9)
    top = int(np.argmax(heights))
    far = np.abs(lags - lags[top]) > _NEAR_S
    plot.plot(lags[top], heights[top], "o", color=_B, markersize=5)
    title = "correlation: one peak"
    if far.any():
        second = int(np.argmax(np.where(far, heights, -np.inf)))
        plot.plot(lags[second], heights[second], "v", color=_RIVAL, markersize=4)
        share = heights[second] / max(heights[top], 1e-9)
        title = f"correlation: runner-up reaches {max(share, 0):.0%}"
    plot.set_title(_plotted(relation.refusal or title), color=_RIVAL if relation.refusal else _INK, wrap=True)


def _thinned(x: Array, y: Array) -> Trace:
    """Few enough points to draw: the highest of each group of neighbors."""
    count = math.ceil(len(y) / _POINTS)
    if count <= 1:
        return x, y
    whole = len(y) // count * count
    rows = y[:whole].reshape(-1, count)
    pick = np.arange(len(rows)) * count + rows.argmax(axis=1)
    return x[pick], y[pick]


def _draw_windows(plot: Any, relation: Relation) -> None:
    plot.set(xlabel=_plotted(f"{relation.second}'s clock, s"), ylabel="ms off the offset")
    if not len(relation.time):
        plot.set_title("no windows to compare", color=_INK)
        return
    drift = (relation.clock.rate - 1) if abs(relation.clock.rate - 1) < 0.01 else 0.0
    line = drift * (relation.time - relation.middle_s) * 1000
    off, used = relation.delay * 1000 + line, relation.used.astype(bool)
    plot.plot(relation.time[~used], off[~used], "x", color=_PALE, markersize=5)
    plot.plot(relation.time[used], off[used], "o", color=_A, markersize=3.5)
    plot.plot(relation.time, line, color=_B, linewidth=1.4)
    near = np.abs(np.concatenate([off[used] - line[used], [0.2]]))
    reach = 4 * float(np.quantile(near, 0.9)) + float(np.abs(line).max())
    plot.set_ylim(-reach, reach)
    plot.set_title(f"{used.sum()} of {len(used)} windows used, drift {drift * 1e6:+.1f} ppm", color=_INK)
