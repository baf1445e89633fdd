"""Do the poses jump where windows end? Acceleration errors near the borders of windows, and of the same frames inside.

    python tests/benchmarks/borders.py [LIFTER ...] [--quick]

Long clips of motion capture before a virtual phone, with a detector's errors. "blended" is what `infer` does: one
window every third of a window, each one's say fading to nothing at its ends; "one after the other" are windows without
overlap, as MotionBERT's own script cuts them. A border is a frame next to a window's first or last, but for the clip's
own ends, which have nothing beyond them however they are cut. The same frames are lifted again with windows that end
elsewhere, so that what the athlete does there makes no difference. Errors in m/s^2; MPJPE of all frames beside them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from unittest import mock

import numpy as np
import torch
from adapting import MOCAP, RATE, Conditions, render_take
from numpy import ndarray as Array

from twoview.datasets.motion import read_motions
from twoview.evaluation.metrics import acceleration_errors
from twoview.geometry.similarity import rooted
from twoview.lifting import inference
from twoview.lifting.inference import lift, windows
from twoview.lifting.model import LIFTERS_FOLDER, Model, load_model
from twoview.takes import Take


def one_after_the_other(frames: int, clips: int, length: int, _: int = 1) -> Iterator[Array]:
    """Windows without overlap; the last may be shorter."""
    for first in range(min(clips, frames)):
        own = np.arange(first, frames, clips)
        for start in range(0, len(own), length):
            yield own[start : start + length]


def by_halves(frames: int, clips: int, length: int, _: int = 2) -> Iterator[Array]:
    """As with `infer.windows=2`."""
    return windows(frames, clips, length, 2)


Cut = Callable[..., Iterator[Array]]
CUTS: dict[str, Cut] = {
    "blended, one every third": windows,
    "blended, one every half (`infer.windows=2`)": by_halves,
    "one after the other": one_after_the_other,
}


def elsewhere(frames: int, clips: int, length: int, _: int = 1) -> Iterator[Array]:
    """Windows as `infer` cuts them, but a sixth of a window later."""
    for first in range(min(clips, frames)):
        own = np.arange(first, frames, clips)
        size = min(length, len(own))
        last = len(own) - size
        for start in sorted({0, last, *range(size // 6, last, size // 3)}):
            yield own[start : start + size]


def jolts(model: Model, take: Take, cut: Cut) -> tuple[Array, Array]:
    """Acceleration errors (T - 2,) m/s^2 of a clip whose windows are cut like that, and errors (T,) m, over joints."""
    with mock.patch.object(inference, "windows", cut):
        found = lift(model, take.poses["a"])
    truth = take.truth["a"].xyz
    meters = truth[:, :1, 2:] * take.poses["a"].size[0] / (2 * take.focal["a"])
    p, t = (torch.from_numpy(np.array(value)).double() for value in (found.xyz * meters, truth))
    jolt = acceleration_errors(p, t, torch.from_numpy(take.truth["a"].time.copy())).mean(dim=1).numpy()
    return jolt, (rooted(p) - rooted(t)).norm(dim=-1).mean(dim=1).numpy()


def at_borders(model: Model, take: Take, cut: Cut) -> Array:
    """Which of these frames (T - 2,) lie at a border."""
    count = len(take.truth["a"])
    ends = {int(end) for window in cut(count, 1, model.clip_length) for end in (window[0], window[-1])}
    ends -= {0, count - 1}
    return np.array([bool(ends & {frame, frame + 1, frame + 2}) for frame in range(count - 2)])


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
        m for name in ("source_val", "target_test") for m in read_motions(MOCAP / name) if m.seconds > 1.5 * longest
    ]
    takes = [render_take(motion, Conditions(), seed) for seed, motion in enumerate(motions[:: 8 if given.quick else 1])]
    print(
        "| lifter | windows | at borders | same frames, windows cut elsewhere | ratio | windows / frame | MPJPE, mm |"
    )
    print("|---" * 7 + "|")
    for name, model in models.items():
        calm = [jolts(model, take, elsewhere)[0] for take in takes]
        for title, cut in CUTS.items():
            near = [at_borders(model, take, cut) for take in takes]
            found = [jolts(model, take, cut) for take in takes]
            own = [errors[at] for (errors, _), at in zip(found, near, strict=True)]
            mean = 1000 * np.nanmean(np.concatenate([far for _, far in found]))
            frames = sum(len(take.truth["a"]) for take in takes)
            lifted = sum(len(window) for take in takes for window in cut(len(take.truth["a"]), 1, model.clip_length))
            other = [errors[at] for errors, at in zip(calm, near, strict=True)]
            border, inside = np.nanmean(np.concatenate(own)), np.nanmean(np.concatenate(other))
            print(f"| {name} | {title} | {border:.2f} | {inside:.2f} | {border / inside:.2f} | {lifted / frames:.2f} | "
                  f"{mean:.2f} |", flush=True)  # fmt: skip
    print(f"{len(takes)} clips longer than a window and a half")


if __name__ == "__main__":
    main()
