"""Make `twoview/assets/rehearsal/everyday.npz`: 2D clips of everyday movement, for a lifter to rehearse on.

python docs/make_rehearsal.py MOCAP_FILE      (prepared motion capture; what ships is made of source_train_accad.npz)

Each clip, every other one with another body, is seen by a virtual phone with a detector's errors; two of four have the
joints as captured, two as a COCO detector's, converted, since a lifter knows both. Only the 2D is written: x, y in
eighths of a pixel, the score in 255ths, the picture's size, where each clip ends, and the rate.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from twoview.config import BodyRange, CameraRange, NoiseModel
from twoview.datasets.motion import read_motions
from twoview.training.bodies import coco_like, vary_bodies
from twoview.training.method_phones import REHEARSAL
from twoview.training.virtual_cameras import NEAREST_M, Chance, place_cameras, simulate_detector

RATE = 30.0


def main(path: Path) -> None:
    """Write the file."""
    chance, noise = Chance(torch.Generator().manual_seed(0)), NoiseModel(level=(0.004, 0.008), blind=0.0, swaps=0.0)
    found: dict[str, list[np.ndarray]] = {"xy": [], "score": [], "size": []}
    for number, motion in enumerate(read_motions(path)):
        body = torch.from_numpy(motion.joints[:: round(motion.rate / RATE)]).float()[None]
        body = vary_bodies(body, chance, BodyRange(tumbling=0.0, leaning=0.0)) if number % 2 else body
        for away in (1.0, 1.5, 2.0, 3.0):  # until the athlete stays in the picture
            where = CameraRange(distance=(3.0 * away, 8.0 * away), roll=1.5, off_center=0.3, crop=(0.9, 1.1))
            cameras = place_cameras(body, chance, where)
            joints = coco_like(body) if number % 4 < 2 else body
            xy, score = simulate_detector(
                cameras.project(cameras.to_camera(joints), nearest=NEAREST_M), cameras.size, chance, noise
            )
            if (score > 0).float().mean() > 0.93:
                break
        found["xy"].append((xy[0] * 8).round().numpy().astype(np.int16))
        found["score"].append((score[0] * 255).round().numpy().astype(np.uint8))
        found["size"].append(cameras.size[0].numpy().astype(np.int16))
    ends = np.cumsum([len(xy) for xy in found["xy"]])
    arrays = {
        "xy": np.concatenate(found["xy"]),
        "score": np.concatenate(found["score"]),
        "size": np.stack(found["size"]),
    }
    np.savez_compressed(REHEARSAL, **arrays, ends=ends, rate=RATE)
    print(f"{len(ends)} clips, {ends[-1] / RATE / 60:.1f} minutes, {REHEARSAL.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
