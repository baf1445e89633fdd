"""Readers of motion capture and data sets: a file in, motion or poses with their cameras out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Motion:
    """One person moving through a room.

    joints   (T, 17, 3) float32  metres, Human3.6M order, z up, the floor near z = 0
    rate     frames a second
    kind     what is done ("walk", "golf_swing"); "" where unknown
    subject  who does it
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
            raise ValueError(f"Motion.rate: expected frames a second, got {self.rate}")

    @property
    def seconds(self) -> float:
        """Length of the clip."""
        return len(self.joints) / self.rate
