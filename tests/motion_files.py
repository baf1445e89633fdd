"""Small motion capture files: one take as CMU's .asf/.amc and as .bvh."""

from __future__ import annotations

from pathlib import Path

import numpy as np

UNIT = 0.0254 / 0.45


# One chain of bones (name, parent, direction, length), as in CMU's skeletons, y up, facing z.
BONES = [
    ("lhipjoint", "root", (0.6, -0.8, 0), 2.0), ("lfemur", "lhipjoint", (0, -1, 0), 7.0),
    ("ltibia", "lfemur", (0, -1, 0), 7.5), ("rhipjoint", "root", (-0.6, -0.8, 0), 2.0),
    ("rfemur", "rhipjoint", (0, -1, 0), 7.0), ("rtibia", "rfemur", (0, -1, 0), 7.5),
    ("lowerback", "root", (0, 1, 0), 2.0), ("upperback", "lowerback", (0, 1, 0), 2.1),
    ("thorax", "upperback", (0, 1, 0), 2.1), ("lowerneck", "thorax", (0, 1, 0), 1.6),
    ("upperneck", "lowerneck", (0, 1, 0), 1.6), ("head", "upperneck", (0, 1, 0), 1.7),
    ("lclavicle", "thorax", (1, 0, 0), 3.0), ("lhumerus", "lclavicle", (1, 0, 0), 5.0),
    ("lradius", "lhumerus", (1, 0, 0), 3.2), ("lwrist", "lradius", (1, 0, 0), 1.6),
    ("rclavicle", "thorax", (-1, 0, 0), 3.0), ("rhumerus", "rclavicle", (-1, 0, 0), 5.0),
    ("rradius", "rhumerus", (-1, 0, 0), 3.2), ("rwrist", "rradius", (-1, 0, 0), 1.6),
]  # fmt: skip


# What each BVH joint moves: the bone that begins there. The conversion drops thorax and wrist bones.
IN_BVH = {
    "LeftUpLeg": "lfemur", "LeftLeg": "ltibia", "RightUpLeg": "rfemur", "RightLeg": "rtibia", "Spine": "upperback",
    "LeftArm": "lhumerus", "LeftForeArm": "lradius", "RightArm": "rhumerus", "RightForeArm": "rradius",
}  # fmt: skip


def angles(frames: int = 4) -> dict[str, np.ndarray]:
    """Degrees (T, 3) about x, y, z of the bones that both files can move, and the root's place and turn."""
    rng = np.random.default_rng(0)
    out = {bone: rng.uniform(-60, 60, (frames, 3)).round(3) for bone in IN_BVH.values()}
    out["root"] = np.concatenate([rng.uniform(-5, 5, (frames, 3)), rng.uniform(-180, 180, (frames, 3))], axis=1).round(
        3
    )
    return out


def write_acclaim(folder: Path) -> tuple[Path, Path]:
    lines = [":units", "  mass 1.0", "  length 0.45", "  angle deg", ":root", "  order TX TY TZ RX RY RZ", ":bonedata"]
    for index, (name, _, direction, length) in enumerate(BONES):
        lines += [
            "  begin",
            f"    id {index + 1}",
            f"    name {name}",
            f"    direction {direction[0]} {direction[1]} {direction[2]}",
        ]
        lines += [f"    length {length}", "    axis 0 0 0 XYZ", "    dof rx ry rz", "  end"]
    lines += [":hierarchy", "  begin"] + [f"    {parent} {name}" for name, parent, *_ in BONES] + ["  end"]
    asf = folder / "1.asf"
    asf.write_text("\n".join(lines))
    found = angles()
    take = [":FULLY-SPECIFIED", ":DEGREES"]
    for frame in range(4):
        take.append(str(frame + 1))
        take += [f"{bone} {' '.join(map(str, values[frame]))}" for bone, values in found.items()]
    amc_path = folder / "1_01.amc"
    amc_path.write_text("\n".join(take))
    return amc_path, asf


def write_bvh(folder: Path) -> Path:
    """The same take as the conversions have it: no thorax bone, the hand at the end of the radius."""
    bone = {name: np.array(direction) * length for name, _, direction, length in BONES}
    zero = np.zeros(3)
    arm = lambda s, w: (f"{w}Shoulder", zero, [(f"{w}Arm", bone[f"{s}clavicle"], [(f"{w}ForeArm", bone[f"{s}humerus"], [(f"{w}Hand", bone[f"{s}radius"], [])])])])  # fmt: skip  # noqa: E501, E731
    leg = lambda s, w: (f"{w}UpLeg", bone[f"{s}hipjoint"], [(f"{w}Leg", bone[f"{s}femur"], [(f"{w}Foot", bone[f"{s}tibia"], [])])])  # fmt: skip  # noqa: E501, E731
    head = ("Neck", zero, [("Neck1", bone["lowerneck"], [("Head", bone["upperneck"], [])])])
    chest = ("Spine1", bone["upperback"], [head, arm("l", "Left"), arm("r", "Right")])
    tree = ("Hips", zero, [leg("l", "Left"), leg("r", "Right"), ("Spine", bone["lowerback"], [chest])])
    found, order, lines = angles(), [], ["HIERARCHY"]

    def put(node, depth):
        name, offset, children = node
        order.append(name)
        lines.append(f"{'JOINT' if depth else 'ROOT'} {name} {{ OFFSET {offset[0]} {offset[1]} {offset[2]}")
        place = "Xposition Yposition Zposition " if not depth else ""
        lines.append(f"CHANNELS {3 + 3 * (not depth)} {place}Zrotation Yrotation Xrotation")
        for child in children:
            put(child, depth + 1)
        if not children:
            end = bone["head"] if name == "Head" else np.array([0, -1.0, 0])
            lines.append(f"End Site {{ OFFSET {end[0]} {end[1]} {end[2]} }}")
        lines.append("}")

    put(tree, 0)
    lines += ["MOTION", "Frames: 4", "Frame Time: 0.00833333"]
    for frame in range(4):
        row = list(found["root"][frame, :3])
        for name in order:
            turn = (
                found["root"][frame, 3:] if name == "Hips" else found.get(IN_BVH.get(name, ""), np.zeros((4, 3)))[frame]
            )
            row += list(turn[::-1])
        lines.append(" ".join(map(str, row)))
    path = folder / "1_01.bvh"
    path.write_text("\n".join(lines))
    return path
