"""Takes of a walking body, as two virtual phones see it, with the truth."""

from __future__ import annotations

import numpy as np
from bodies import moving_body, two_views

from twoview.poses import Poses2D
from twoview.reconstruction.triangulation import solve_takes
from twoview.skeleton import H36M17
from twoview.takes import Take, resample
from twoview.timeline import ClockMap, Sync


def takes(count: int = 2, frames: int = 60) -> tuple[list[Take], list]:
    """Takes of one body by two phones, with their triangulations."""
    made, lifted = [], {}
    for index in range(count):
        rng = np.random.default_rng(index)
        tracks, _ = two_views(moving_body(frames, rng), rng, noise=0.004)
        poses = {
            view: Poses2D(tracks.xy[v], tracks.score[v], tracks.time, H36M17, (1920, 1080), view=view)
            for v, view in enumerate("ab")
        }
        made.append(Take(f"take{index}", poses, Sync("a", {"a": ClockMap(), "b": ClockMap()})))
        lifted |= {id(poses[view]): tracks.start[v] - tracks.start[v][:, :1] for v, view in enumerate("ab")}
    from twoview.poses import Poses3D

    return made, solve_takes(
        [resample(take, 30.0) for take in made], lambda p: Poses3D(lifted[id(p)], p.time, view=p.view)
    )
