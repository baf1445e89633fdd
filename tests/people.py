"""People who move in a room: z up, floor at 0, as motion capture has them."""

from __future__ import annotations

import numpy as np
import torch
from bodies import moving_body
from torch import Tensor


def standing_people(clips: int, frames: int, *, seed: int = 0) -> Tensor:
    """(clips, frames, 17, 3) m: a few bodies that swing their limbs near the origin, each clip turned its own way."""
    rng = np.random.default_rng(seed)
    bodies = np.stack([moving_body(frames, rng, travel=0.1) for _ in range(min(clips, 6))])
    upright = np.stack([bodies[..., 0], bodies[..., 2], -bodies[..., 1] + 1.0], axis=-1)[np.arange(clips) % len(bodies)]
    angle = rng.uniform(-np.pi, np.pi, clips)
    cos, sin, one, zero = np.cos(angle), np.sin(angle), np.ones(clips), np.zeros(clips)
    turn = np.stack([cos, -sin, zero, sin, cos, zero, zero, zero, one], axis=-1).reshape(clips, 1, 3, 3)
    return torch.from_numpy(upright @ turn.swapaxes(-1, -2)).float()
