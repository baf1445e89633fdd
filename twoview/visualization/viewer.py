"""A web page with the moving 3D figure: drag to turn it, scroll to zoom, play or step. It opens without a network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray as Array

from twoview.errors import MissingBackend
from twoview.poses import Poses3D
from twoview.skeleton import Skeleton
from twoview.visualization.drawing import COLORS, PAPER, css, side_of

MAX_RATE = 30.0  # frames per second on the page
MAX_FRAMES = 900
_BEFORE = (185, 191, 202)  # color of the figure before adaptation


def write_page(poses: Poses3D, path: Path, *, before: Poses3D | None = None) -> None:
    """Write a self-contained html page; `before` is a second result for the same video, drawn in pale gray.

    Raises MissingBackend without plotly.
    """
    try:
        from plotly import graph_objects
    except ImportError as error:
        raise MissingBackend("html pages need the package plotly", hint="pip install plotly") from error
    times = _thinned(poses)
    figures = [_z_up(shown.at(times).xyz) for shown in (poses, before) if shown is not None]
    frames = [
        graph_objects.Frame(
            data=[graph_objects.Scatter3d(line) for line in _lines(poses.skeleton, *joints)], name=f"{time:.2f}"
        )
        for time, *joints in zip(times, *figures, strict=True)
    ]
    page = graph_objects.Figure(frames[0].data, _layout(poses, times, np.concatenate(figures)), frames)
    path.write_text(page.to_html(include_plotlyjs=True, auto_play=False), encoding="utf-8")


def _thinned(poses: Poses3D) -> Array:
    """Times (N,) of the poses that a page can play: at most MAX_RATE and MAX_FRAMES."""
    step = 1
    if len(poses) > 1:
        rate = (len(poses) - 1) / float(poses.time[-1] - poses.time[0])
        step = max(1, round(rate / MAX_RATE), -(-len(poses) // MAX_FRAMES))
    return poses.time[::step]


def _z_up(xyz: Array) -> Array:
    """Camera axes to those of the page: x right, y away, z up; rounded to keep the page small."""
    return np.asarray((xyz[..., [0, 2, 1]] * np.array([1, 1, -1])).round(4))


def _lines(skeleton: Skeleton, joints: Array, before: Array | None = None) -> list[dict[str, Any]]:
    """The lines of one frame: left, right and middle bones of joints (J, 3), and all bones of `before` in gray."""
    lines = []
    for side, color in COLORS.items():
        bones = [(a, b) for a, b in skeleton.bones if side_of(skeleton, b) == side]
        lines.append(_line(joints, bones, name=side, color=css(color), width=9))
    if before is not None:
        lines.append(_line(before, skeleton.bones, name="before", color=css(_BEFORE), width=6))
    return lines


def _line(joints: Array, bones: Sequence[tuple[int, int]], *, name: str, color: str, width: int) -> dict[str, Any]:
    places = joints.astype(object)
    places[np.isnan(joints)] = None
    ends = np.full((len(bones), 3, 3), None, dtype=object)  # the third row breaks the line
    ends[:, :2] = places[np.array(bones)]
    x, y, z = (axis.tolist() for axis in ends.reshape(-1, 3).T)
    return {
        "x": x, "y": y, "z": z, "mode": "lines+markers", "line": {"color": color, "width": width},
        "marker": {"color": color, "size": 3}, "name": name, "hoverinfo": "skip",
    }  # fmt: skip


def _layout(poses: Poses3D, times: Array, shown: Array) -> dict[str, Any]:
    """Axes that hold all joints shown (N, J, 3), the buttons and the slider."""
    known = shown[np.isfinite(shown).all(axis=-1)]
    low, high = (known.min(axis=0), known.max(axis=0)) if len(known) else (-np.ones(3), np.ones(3))
    margin = 0.08 * float((high - low).max())
    unit = "m" if poses.unit == "m" else "screen units, no scale"
    titles = (f"right ({unit})", "away from the camera", "up")
    axes = {
        f"{axis}axis": {"range": [float(a) - margin, float(b) + margin], "title": title, "backgroundcolor": css(PAPER)}
        for axis, a, b, title in zip("xyz", low, high, titles, strict=True)
    }
    step = 1000 * float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    play = {"frame": {"duration": step, "redraw": True}, "fromcurrent": True, "transition": {"duration": 0}}
    jump = {"frame": {"duration": 0, "redraw": True}, "mode": "immediate", "transition": {"duration": 0}}
    names = [f"{time:.2f}" for time in times]
    return {
        "title": {"text": f"3D pose, {poses.view or 'one view'}; time in seconds of the video's own clock"},
        "scene": {**axes, "aspectmode": "data", "camera": {"eye": {"x": -1.0, "y": -1.7, "z": 0.5}}},
        "updatemenus": [
            {
                "type": "buttons", "direction": "left", "x": 0.0, "y": 0.0, "xanchor": "left", "yanchor": "top",
                "buttons": [
                    {"label": "Play", "method": "animate", "args": [None, play]},
                    {"label": "Pause", "method": "animate", "args": [[None], jump]},
                ],
            }
        ],
        "sliders": [
            {
                "x": 0.15, "len": 0.85, "y": 0.0, "currentvalue": {"suffix": " s"},
                "steps": [{"label": name, "method": "animate", "args": [[name], jump]} for name in names],
            }
        ],
        "margin": {"l": 0, "r": 0, "t": 48, "b": 0},
    }  # fmt: skip
