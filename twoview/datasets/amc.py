"""Acclaim motion capture: a skeleton file (.asf) and the joint angles of one take (.amc), as CMU publishes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from twoview.datasets import Motion
from twoview.datasets.kinematics import rotation, to_h36m
from twoview.errors import FormatError

Array = np.ndarray

_INCH_M = 0.0254
_ROOT = "root"

# A bone's name stands for its far end. CMU's own root lies 10 cm above the hip joints and is not used.
CMU_JOINTS: dict[str, str | tuple[str, str]] = {
    "right_hip": "rhipjoint", "right_knee": "rfemur", "right_ankle": "rtibia",
    "left_hip": "lhipjoint", "left_knee": "lfemur", "left_ankle": "ltibia",
    "spine": "lowerback", "thorax": ("thorax", "lowerneck"), "nose": "upperneck", "head": "head",
    "left_shoulder": "lclavicle", "left_elbow": "lhumerus", "left_wrist": "lwrist",
    "right_shoulder": "rclavicle", "right_elbow": "rhumerus", "right_wrist": "rwrist",
}  # fmt: skip


@dataclass
class _Bone:
    direction: Array = field(default_factory=lambda: np.zeros(3))
    length: float = 0.0
    axis: Array = field(default_factory=lambda: np.zeros(3))
    freedoms: tuple[str, ...] = ()
    parent: str = ""


def read(path: Path | str, asf: Path | str, *, rate: float) -> Motion:
    """One take as motion in metres, z up.

    asf   the subject's skeleton
    rate  frames a second; the files do not say (CMU: 120, but 60 for a few subjects)
    Raises FormatError for a damaged file or an angle without a bone.
    """
    path, asf = Path(path), Path(asf)
    try:
        bones, unit = _skeleton(asf.read_text(encoding="latin-1"))
        angles = _angles(path.read_text(encoding="latin-1"))
    except OSError as error:
        raise FormatError(f"cannot read {error.filename}: {error.strerror}") from error
    except (ValueError, IndexError, KeyError) as error:
        raise FormatError(f"{path} or {asf} is damaged: {error}", hint="download it again") from error
    strangers = sorted(set(angles) - set(bones) - {_ROOT})
    if strangers or _ROOT not in angles:
        raise FormatError(f"{path} does not fit {asf}: it moves {', '.join(strangers) or 'no root'}")
    return Motion(path.stem, to_h36m(_positions(bones, angles, unit), CMU_JOINTS, str(asf)), rate)


def _positions(bones: dict[str, _Bone], angles: dict[str, Array], unit: float) -> dict[str, Array]:
    """Far end (T, 3) of each bone in metres: parent's turn, then axis * angles * axis^-1, then along the bone."""
    root = angles[_ROOT]
    frames = len(root)
    turns = {_ROOT: rotation("zyx", root[:, [5, 4, 3]])}
    ends = {_ROOT: root[:, :3] * unit}
    for name, bone in bones.items():
        if bone.parent not in turns:
            raise FormatError(
                f"the bone {name} hangs on {bone.parent or 'nothing'}, which comes after it or is missing"
            )
        axis = rotation("zyx", bone.axis[::-1])
        own = np.zeros((frames, 3))
        for index, freedom in enumerate(bone.freedoms):
            if name in angles:
                own[:, "xyz".index(freedom[-1])] = angles[name][:, index]
        turns[name] = turns[bone.parent] @ axis @ rotation("zyx", own[:, ::-1]) @ axis.T
        ends[name] = ends[bone.parent] + turns[name] @ (bone.direction * bone.length * unit)
    return ends


def _skeleton(text: str) -> tuple[dict[str, _Bone], float]:
    """Bones, parents before children, and metres a unit."""
    bones: dict[str, _Bone] = {}
    order: list[str] = []
    section, name, unit = "", "", 1.0
    for line in text.splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        key, values = words[0].lower(), words[1:]
        if key.startswith(":"):
            section = key[1:]
        elif section == "units" and key == "length":
            unit = _INCH_M / float(values[0])
        elif section == "bonedata" and key == "name":
            name = values[0]
            bones[name] = _Bone()
        elif section == "bonedata" and key == "direction":
            bones[name].direction = np.array(values[:3], dtype=float)
        elif section == "bonedata" and key == "length":
            bones[name].length = float(values[0])
        elif section == "bonedata" and key == "axis":
            if values[3].upper() != "XYZ":
                raise ValueError(f"axis order {values[3]} of {name}; only XYZ is known")
            bones[name].axis = np.array(values[:3], dtype=float)
        elif section == "bonedata" and key == "dof":
            bones[name].freedoms = tuple(values)
        elif section == "hierarchy" and key not in ("begin", "end"):
            for child in values:
                bones[child].parent = words[0]
                order.append(child)
    if not order:
        raise ValueError("no hierarchy")
    return {name: bones[name] for name in order}, unit


def _angles(text: str) -> dict[str, Array]:
    """Values (T, n) of each bone. Every frame must name the same bones."""
    rows: dict[str, list[list[float]]] = {}
    frames = 0
    for line in text.splitlines():
        words = line.split()
        if not words or words[0][0] in "#:":
            continue
        if len(words) == 1 and words[0].isdigit():
            frames += 1
        else:
            rows.setdefault(words[0], []).append([float(word) for word in words[1:]])
    short = [name for name, values in rows.items() if len(values) != frames]
    if not frames or short:
        raise ValueError(f"{frames} frames, and {', '.join(short) or 'none'} not in all of them")
    return {name: np.array(values) for name, values in rows.items()}
