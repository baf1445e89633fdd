"""Prepared motion capture: 17 Human3.6M joints of many clips in one `.npz`, with a `.json` of what each clip is.

The arrays are int16 in units of half a millimeter, 60 frames per second, z up; see `docs/howto/pretrain.md`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy import ndarray as Array

from twoview.datasets.recordings import read_text
from twoview.errors import FormatError
from twoview.storage import records
from twoview.storage.objects import DAMAGE, read_arrays


@dataclass(frozen=True, eq=False)
class Motion:
    """One person moving through a room.

    joints   (T, 17, 3) float32  meters, Human3.6M order, z up, the floor near z = 0
    rate     frames per second
    kind     of movement ("walk", "golf_swing"); "" where unknown
    subject  the person
    """

    name: str
    joints: Array
    rate: float
    kind: str = ""
    subject: str = ""

    def __post_init__(self) -> None:
        if self.joints.ndim != 3 or self.joints.shape[1:] != (17, 3) or not len(self.joints):
            raise ValueError(f"Motion.joints: expected shape (any, 17, 3), got {self.joints.shape}")
        if not self.rate > 0:
            raise ValueError(f"Motion.rate: expected frames per second, got {self.rate}")

    @property
    def seconds(self) -> float:
        """Length."""
        return len(self.joints) / self.rate


_UNIT_M = 0.0005
_RATE = 60.0


def read_motions(path: Path | str) -> list[Motion]:
    """All motions of a prepared file, in the order of its list. Raises FormatError if a file is missing or damaged.

    path  the `.npz`; the `.json` of the same name is beside it
    """
    path = Path(path).with_suffix(".npz")
    try:
        rows = json.loads(read_text(path.with_suffix(".json")))
        arrays = read_arrays(path)
        return [
            Motion(row["key"], arrays[row["key"]].astype(np.float32) * _UNIT_M, _RATE, row["cls"], row["subject"])
            for row in rows
        ]
    except (*DAMAGE, FormatError) as error:
        raise FormatError(
            f"{path} and {path.with_suffix('.json').name} cannot be read as prepared motion capture: "
            f"{getattr(error, 'message', error)}"[:400],
            hint="make them again from the originals, see docs/howto/pretrain.md",
        ) from error


def write_motions(path: Path | str, motions: Sequence[Motion]) -> None:
    """Write motions at 60 frames per second, to half a millimeter, and their list: the inverse of `read_motions`.

    Other rates are interpolated. Raises FormatError for two motions of one name, and for joints that are not finite or
    further than 16 m from the origin.
    """
    path = Path(path).with_suffix(".npz")
    arrays, rows = {}, []
    for motion in motions:
        if motion.name in arrays:
            raise FormatError(f"two motions are called {motion.name!r}", hint="give each a name of its own")
        joints = _at_rate(motion)
        reach = float(np.abs(joints).max())
        if not reach <= _UNIT_M * np.iinfo(np.int16).max:
            raise FormatError(
                f"motion {motion.name!r} has joints {reach:.3g} m from the origin; at most 16 m fit in the file"
            )
        arrays[motion.name] = np.round(joints / _UNIT_M).astype(np.int16)
        rows.append({"key": motion.name, "cls": motion.kind, "subject": motion.subject, "frames": len(joints)})
    with records.atomic(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    with records.atomic(path.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(rows, indent=1), encoding="utf-8")


def _at_rate(motion: Motion) -> Array:
    """Joints (T, 17, 3) at 60 frames per second."""
    old = np.arange(len(motion.joints)) / motion.rate
    new = np.arange(int(old[-1] * _RATE + 1e-6) + 1) / _RATE
    flat = motion.joints.reshape(len(old), -1)
    return np.stack([np.interp(new, old, column) for column in flat.T], axis=-1).reshape(-1, 17, 3)
