"""Write docs/reference/angles.md and its pictures from the code: `python docs/make_angles.py`.
A test compares the page.

Every picture is a figure posed with one angle alone, seen from where it shows best, and the number beside it is what
`twoview.angles` measures on that figure.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray as Array
from scipy.spatial.transform import Rotation

from twoview.biomechanics.angles import ANGLES, Angle, angles
from twoview.poses import Poses3D
from twoview.skeleton import HALPE26

FOLDER = Path(__file__).parent / "reference"
PICTURES = Path(__file__).parent / "pictures" / "angles"
UP = (0.0, -1.0, 0.0)  # in camera axes, of a level camera
# Name -> degrees of the picture, and where it is seen from: "right" side, "front", or "above".
SHOWN = {
    "hip_flexion": (50, "right"), "hip_abduction": (30, "front"), "knee_flexion": (60, "right"),
    "ankle_dorsiflexion": (20, "right"), "shoulder_flexion": (70, "right"), "shoulder_abduction": (60, "front"),
    "shoulder_elevation": (60, "front"), "elbow_flexion": (75, "right"), "trunk_side_bend": (20, "front"),
    "x_factor": (40, "above"), "trunk_lean": (30, "right"), "trunk_side_lean": (20, "front"),
    "pelvis_list": (15, "front"), "pelvis_turn": (40, "above"), "shoulder_turn": (40, "above"),
}  # fmt: skip


def posed(**degrees: float) -> dict[str, Array]:
    """Joints (3,) m of Halpe-26 by name, of a figure with these angles, all others 0: x right, y up, facing -z.

    Sided angles as `right_knee_flexion`; `ahead` bends the trunk forward with the pelvis; whole-body turns come last.
    """

    def get(name: str) -> float:
        return np.radians(degrees.get(name, 0.0))

    def turn(**axes: float) -> Rotation:
        """Turns about axes of the body, each about those that the turns before it have moved."""
        found = Rotation.identity()
        for axis, angle in axes.items():
            found = found * Rotation.from_rotvec(angle * np.eye(3)["xyz".index(axis)])
        return found

    down, joints = np.array([0.0, -1.0, 0.0]), {"hip": np.zeros(3)}
    trunk = turn(z=-get("trunk_side_bend"), y=get("x_factor"))
    joints["neck"] = trunk.apply([0.0, 0.5, 0.0])
    joints["head"] = trunk.apply([0.0, 0.75, 0.0])
    joints["nose"] = trunk.apply([0.0, 0.65, -0.1])
    for side, sign in (("right", 1), ("left", -1)):
        joints[f"{side}_eye"] = trunk.apply([0.03 * sign, 0.68, -0.08])
        joints[f"{side}_ear"] = trunk.apply([0.07 * sign, 0.66, 0.0])
        joints[f"{side}_hip"] = np.array([0.13 * sign, 0.0, 0.0])
        thigh = turn(x=get(f"{side}_hip_flexion"), z=sign * get(f"{side}_hip_abduction"))
        joints[f"{side}_knee"] = joints[f"{side}_hip"] + 0.43 * thigh.apply(down)
        shank = thigh * turn(x=-get(f"{side}_knee_flexion"))
        joints[f"{side}_ankle"] = joints[f"{side}_knee"] + 0.42 * shank.apply(down)
        foot = shank * turn(x=get(f"{side}_ankle_dorsiflexion"))
        for name, place in (("heel", (0.0, -0.06, 0.05)), ("big_toe", (-0.03 * sign, -0.06, -0.18)),
                            ("small_toe", (0.03 * sign, -0.06, -0.18))):  # fmt: skip
            joints[f"{side}_{name}"] = joints[f"{side}_ankle"] + foot.apply(place)
        joints[f"{side}_shoulder"] = trunk.apply([0.18 * sign, 0.5, 0.0])
        arm = trunk * turn(x=get(f"{side}_shoulder_flexion"), z=sign * get(f"{side}_shoulder_abduction"))
        joints[f"{side}_elbow"] = joints[f"{side}_shoulder"] + 0.29 * arm.apply(down)
        forearm = arm * turn(x=get(f"{side}_elbow_flexion"))
        joints[f"{side}_wrist"] = joints[f"{side}_elbow"] + 0.26 * forearm.apply(down)
    whole = turn(y=get("turn"), x=-get("lean"), z=-get("side_lean"))
    return {name: whole.apply(place) for name, place in joints.items()}


def poses_of(*bodies: dict[str, Array]) -> Poses3D:
    """Posed figures as frames of a camera that stands behind them, level, 4 m away."""
    xyz = np.array([[body[joint] for joint in HALPE26.joints] for body in bodies])
    seen = xyz * [1.0, -1.0, -1.0] + [0.0, 0.0, 4.0]
    return Poses3D(seen, np.arange(len(bodies)) / 30, HALPE26, "camera", "m")


def figure_of(name: str, value: float) -> dict[str, Array]:
    """A figure whose angle of that name, on the right where it has sides, is the value."""
    if name == "trunk_lean":
        return posed(lean=value, right_hip_flexion=value, left_hip_flexion=value)
    if name == "trunk_side_lean":
        return posed(trunk_side_bend=value)
    if name == "pelvis_list":
        return posed(side_lean=-value, trunk_side_bend=value)
    if name in ("pelvis_turn", "shoulder_turn"):
        return posed(turn=180 + value)
    if name == "shoulder_elevation":
        return posed(right_shoulder_abduction=value)
    return posed(**{f"right_{name}" if ANGLES[name].sided else name: value})


def draw(name: str, path: Path) -> None:
    """The picture of one angle: the pose where it is 0, pale, and the one where it is positive."""
    from matplotlib.figure import Figure

    value, side = SHOWN[name]
    # In the plane of the picture: right, up.
    axes = {"right": (np.array([0, 0, -1]), np.array([0, 1, 0])), "front": (np.array([-1, 0, 0]), np.array([0, 1, 0])),
            "above": (np.array([1, 0, 0]), np.array([0, 0, -1]))}[side]  # fmt: skip
    figure = Figure(figsize=(3.0, 3.6), layout="constrained", dpi=100)
    plot = figure.subplots()
    for body, alpha in ((figure_of(name, 0), 0.25), (figure_of(name, value), 1.0)):
        _draw_body(plot, body, axes, alpha)
    key = f"right_{name}" if ANGLES[name].sided else name
    measured = angles(poses_of(figure_of(name, value)), up=UP).degrees[key][0]
    plot.set_title(f"{key.replace('_', ' ')}: {measured:+.0f}°", fontsize=11)
    where = {"right": "seen from the right, facing right", "front": "seen from the front", "above": "seen from above"}
    plot.set_xlabel(where[side] + (", camera below" if name.endswith("_turn") else ""), fontsize=8)
    plot.set(aspect="equal", xticks=[], yticks=[])
    for edge in plot.spines.values():
        edge.set_visible(False)
    figure.savefig(path, metadata={"Software": None})


def _draw_body(plot: Any, body: dict[str, Array], axes: tuple[Array, Array], alpha: float) -> None:
    colors = {"left": "#2a6fdb", "right": "#e8871e"}
    lines = [("hip", "neck"), ("neck", "nose"), ("nose", "head")]
    for side in ("left", "right"):
        lines += [("neck", f"{side}_shoulder"), (f"{side}_shoulder", f"{side}_elbow"),
                  (f"{side}_elbow", f"{side}_wrist"), ("hip", f"{side}_hip"), (f"{side}_hip", f"{side}_knee"),
                  (f"{side}_knee", f"{side}_ankle"), (f"{side}_ankle", f"{side}_heel"),
                  (f"{side}_heel", f"{side}_big_toe"), (f"{side}_ankle", f"{side}_big_toe")]  # fmt: skip
    for a, b in lines:
        ends = np.array([body[a], body[b]])
        color = next((colors[side] for side in colors if side in b), "#555555")
        plot.plot(ends @ axes[0], ends @ axes[1], color=color, alpha=alpha, lw=3.5, solid_capstyle="round")


def _row(name: str, about: Angle) -> str:
    coordinate, sign = about.opensim
    opensim = f"`{'-' if sign < 0 else ''}{coordinate}{'_r`, `_l' if about.sided else ''}`" if coordinate else ""
    shown = f"![{name}](../pictures/angles/{name}.png)"
    named = f"`right_{name}`, `left_{name}`" if about.sided else f"`{name}`"
    return f"| {shown} | {named} | {about.between} | {about.zero} | {about.positive} | {opensim} |"


TEXT = """# Angles

What `twoview angles` and `twoview.angles` measure, in degrees. Written with its pictures by `docs/make_angles.py`.
Orange is the athlete's right; the pale figure shows where the angle is 0, and the number was measured on the figure.

## Between parts of the body

They need neither gravity nor meters, and are the same from every view.

{free}

## Against gravity

Only where up is known: poses of `triangulate` and `infer` [contain it](../explain/world.md), and the command says to
how many degrees. `twoview angles --level` takes the phone as level instead, `twoview.angles(poses, up=...)` any
direction in the poses' axes. With a tilted phone, `--level` makes leans wrong by as much as the phone is tilted.

{upright}

## How they are measured

- The trunk is the line from the middle of the hips to the middle of the shoulders. **Forward** at the hips is square to
  the hip line and the trunk; at the shoulders, square to the shoulder line and the trunk.
- Flexion and abduction are turns one after the other, as in OpenSim's hip and shoulder: first flexion about the hip (or
  shoulder) line, then abduction. A limb that points along that line, to within 14 degrees, has no flexion: NaN.
- Flexion of hip and shoulder goes from -120 to 240 degrees, so that an arm that reaches behind from overhead does not
  jump.
- The hip's flexion is against the trunk, since hips and shoulders do not show how the pelvis tilts: it contains the
  bend of the back. Turns of thigh, upper arm and forearm about their own length are not measured.
- The joints are those of the detector and the lifter, not of a skeleton in the body: a straight leg may show a few
  degrees.
- The ankle needs heel and toes, which Human3.6M's 17 joints lack.
- `.mot` files hold the coordinates of the last column, with its sign, for models such as Rajagopal's whose knee is
  positive in flexion. Where the [world](../explain/world.md) is known, the pelvis's six coordinates are in them too:
  turns about z, x and y of the hip line and the trunk, and the middle of the hips (not of OpenSim's pelvis) in m.
- Angular velocities are from the frame before to the frame after. Smooth the poses to read peaks:
  `twoview angles RESULT.npz --filter butterworth`.
- The **top of a swing** is the hands' slowest moment in the second before they are fastest, relative to the hips. Other
  movements may have such a moment too.
- Where the world is known: **contacts** of each foot, **jumps** (no foot on the floor for 0.12 s or more; the pelvis's
  highest place above upright standing, the 75th percentile of its height with a foot on the floor) and the **way
  travelled** by the pelvis, its noise above 3 Hz taken out.

Errors against truth: [results](../results/angles.md).
"""


def page() -> str:
    """The table of all angles, and how they are measured."""
    head = ["| picture | name | between | 0 | positive | OpenSim |", "|---|---|---|---|---|---|"]
    tables = {
        upright: "\n".join([*head, *(_row(name, about) for name, about in ANGLES.items() if about.upright == upright)])
        for upright in (False, True)
    }
    return TEXT.format(free=tables[False], upright=tables[True])


if __name__ == "__main__":
    PICTURES.mkdir(parents=True, exist_ok=True)
    for shown in ANGLES:
        draw(shown, PICTURES / f"{shown}.png")
    (FOLDER / "angles.md").write_text(page(), encoding="utf-8")
