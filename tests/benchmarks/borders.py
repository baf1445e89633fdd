"""Do the poses jump where windows end? Acceleration errors near the borders of windows and away from them.

    python tests/benchmarks/borders.py [LIFTER ...] [--quick]

Long clips of motion capture before a virtual phone, with a detector's errors. "blended" is what `infer` does: windows
half overlapping, each one's say fading to nothing at its ends; "one after the other" are windows without overlap, as
MotionBERT's own script cuts them. A border is a frame next to a window's first or last; error in m/s^2.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from unittest import mock

import numpy as np
import torch
from adapting import MOCAP, RATE, Shoot, film

from twoview import inference
from twoview.checkpoint import LIFTERS_FOLDER, Model, load_model
from twoview.clips import Take
from twoview.datasets import mocap
from twoview.inference import lift, windows
from twoview.metrics import acceleration_errors

Array = np.ndarray


def one_after_the_other(frames: int, clips: int, length: int) -> Iterator[Array]:
    """Windows without overlap; the last may be shorter."""
    for first in range(min(clips, frames)):
        own = np.arange(first, frames, clips)
        for start in range(0, len(own), length):
            yield own[start : start + length]


CUTS = {"blended": windows, "one after the other": one_after_the_other}


def jolts(model: Model, take: Take, cut: str) -> tuple[Array, Array]:
    """Acceleration errors (T - 2,) m/s^2 of a clip, mean over joints, and which of these frames lie at a border."""
    with mock.patch.object(inference, "windows", CUTS[cut]):
        found = lift(model, take.poses["a"])
    truth = take.truth["a"].xyz
    metres = truth[:, :1, 2:] * take.poses["a"].size[0] / (2 * take.focal["a"])
    p, t = (torch.from_numpy(np.array(value)).double() for value in (found.xyz * metres, truth))
    errors = acceleration_errors(p, t, torch.from_numpy(take.truth["a"].time.copy())).mean(dim=1).numpy()
    ends = {int(end) for window in CUTS[cut](len(truth), 1, model.clip_length) for end in (window[0], window[-1])}
    near = np.array([bool(ends & {frame, frame + 1, frame + 2}) for frame in range(len(errors))])
    return errors, near & np.isfinite(errors)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lifters", nargs="*", default=sorted(path.stem for path in LIFTERS_FOLDER.glob("*.pt")))
    parser.add_argument("--quick", action="store_true", help="every eighth clip")
    given = parser.parse_args()
    torch.set_num_threads(1)
    models = {name: load_model(name) for name in given.lifters}
    longest = max(model.clip_length for model in models.values()) / RATE
    motions = [
        m for name in ("source_val", "target_test") for m in mocap.read(MOCAP / name) if m.seconds > 1.5 * longest
    ]
    takes = [film(motion, Shoot(), seed) for seed, motion in enumerate(motions[:: 8 if given.quick else 1])]
    print("| lifter | windows | at borders | elsewhere | borders / elsewhere |\n|---|---|---|---|---|")
    for name, model in models.items():
        for cut in CUTS:
            errors, near = (np.concatenate(part) for part in zip(*(jolts(model, t, cut) for t in takes), strict=True))
            border, inside = np.nanmean(errors[near]), np.nanmean(errors[~near])
            print(f"| {name} | {cut} | {border:.2f} | {inside:.2f} | {border / inside:.2f} |", flush=True)
    print(f"{len(takes)} clips longer than a window and a half")


if __name__ == "__main__":
    main()
