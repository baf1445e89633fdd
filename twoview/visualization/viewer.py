"""One web page with the moving 3D figure: drag to turn it, scroll to zoom, play or step. Needs no network to open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray as Array

from twoview.errors import MissingBackend
from twoview.poses import Poses3D
from twoview.skeleton import Skeleton

MAX_RATE = 30.0  # frames a second in the page
MAX_FRAMES = 900
_COLORS = {"left": "#2676d6", "right": "#ec7022", "middle": "#484e58"}


def write_page(poses: Poses3D, path: Path, *, before: Poses3D | None = None) -> None:
    """Write a self-contained html page; `before` is drawn in pale gray at the same moments.

    Raises MissingBackend without plotly.
    """
    try:
        from plotly import graph_objects
    except ImportError as error:
        raise MissingBackend(
            "the page with the 3D figure needs the package plotly", hint="pip install plotly"
        ) from error
    times = _moments(poses)
    shown = _upright(poses.at(times).xyz)
    ghost = _upright(before.at(times).xyz) if before is not None else None
    frames = [
        graph_objects.Frame(
            data=_figure(graph_objects, poses.skeleton, shown[index], None if ghost is None else ghost[index]),
            name=f"{time:.2f}",
        )
        for index, time in enumerate(times)
    ]
    step = 1000 * float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    page = graph_objects.Figure(frames[0].data, _layout(poses, shown, ghost, frames, step), frames)
    path.write_text(page.to_html(include_plotlyjs=True, auto_play=False), encoding="utf-8")


def _moments(poses: Poses3D) -> Array:
    """Times of the poses, thinned to what a page can play."""
    step = 1
    if len(poses) > 1:
        rate = (len(poses) - 1) / float(poses.time[-1] - poses.time[0])
        step = max(1, round(rate / MAX_RATE), -(-len(poses) // MAX_FRAMES))
    return poses.time[::step]


def _upright(xyz: Array) -> Array:
    """Camera axes to the page's: x right, y away, z up; rounded to keep the page small."""
    return np.round(xyz[..., [0, 2, 1]] * np.array([1, 1, -1]), 4)


def _figure(plotly: Any, skeleton: Skeleton, joints: Array, ghost: Array | None) -> list[Any]:
    """Lines of one frame: left, right, middle, and those of `ghost` in gray."""
    side = {joint: name for pair in skeleton.pairs for joint, name in zip(pair, ("left", "right"), strict=True)}
    lines = []
    for name, color in _COLORS.items():
        bones = [(a, b) for a, b in skeleton.bones if side.get(b, "middle") == name]
        lines.append(_line(plotly, joints, bones, color, 9, name))
    if ghost is not None:
        lines.append(_line(plotly, ghost, list(skeleton.bones), "#b9bfca", 6, "before"))
    return lines


def _line(plotly: Any, joints: Array, bones: list[tuple[int, int]], color: str, width: int, name: str) -> Any:
    places = joints.astype(object)
    places[np.isnan(joints)] = None
    ends = np.full((len(bones), 3, 3), None, dtype=object)  # the third row breaks the line
    ends[:, :2] = places[np.array(bones)]
    x, y, z = (axis.tolist() for axis in ends.reshape(-1, 3).T)
    return plotly.Scatter3d(
        x=x, y=y, z=z, mode="lines+markers", line={"color": color, "width": width},
        marker={"color": color, "size": 3}, name=name, hoverinfo="skip",
    )  # fmt: skip


def _layout(poses: Poses3D, shown: Array, ghost: Array | None, frames: list[Any], step: float) -> dict[str, Any]:
    everything = shown if ghost is None else np.concatenate([shown, ghost])
    known = everything.reshape(-1, 3)[np.isfinite(everything.reshape(-1, 3)).all(axis=1)]
    low, high = (known.min(axis=0), known.max(axis=0)) if len(known) else (-np.ones(3), np.ones(3))
    margin = 0.08 * float((high - low).max())
    unit = "m" if poses.unit == "m" else "screen units, no scale"
    titles = (f"right ({unit})", "away from the camera", "up")
    axes = {
        f"{axis}axis": {"range": [float(a) - margin, float(b) + margin], "title": title, "backgroundcolor": "#f7f8fa"}
        for axis, a, b, title in zip("xyz", low, high, titles, strict=True)
    }
    play = {"frame": {"duration": step, "redraw": True}, "fromcurrent": True, "transition": {"duration": 0}}
    jump = {"frame": {"duration": 0, "redraw": True}, "mode": "immediate", "transition": {"duration": 0}}
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
                "steps": [{"label": f.name, "method": "animate", "args": [[f.name], jump]} for f in frames],
            }
        ],
        "margin": {"l": 0, "r": 0, "t": 48, "b": 0},
    }  # fmt: skip
