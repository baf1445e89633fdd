"""Adapt the shipped lifter to a few takes of one athlete, and see what the run says of itself.

python examples/03_finetune.py [folder of the run]
"""

import sys
from dataclasses import replace
from pathlib import Path

import twoview
from twoview import DetectConfig, FinetuneConfig, Take

SHIPPED = Path(twoview.__file__).parent / "assets" / "demo" / "golf"


def main() -> None:
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("run")
    takes = []
    for name in ("take1", "take2"):
        videos = {view: SHIPPED / name / f"view_{view}.mp4" for view in "ab"}
        clocks = twoview.sync(*videos.values(), names=list(videos))
        poses = {view: twoview.detect(path, config=DetectConfig(detector="movenet")) for view, path in videos.items()}
        takes.append(Take(name, poses, clocks))

    # Every default is a field of FinetuneConfig; this changes one, to be quick.
    run = twoview.finetune(takes, replace(FinetuneConfig(), epochs=5), out=out)

    print(f"best epoch {run.best_epoch}, model {run.model}")
    for name in ("criterion", "disagreement", "bone_spread", "angle_deg"):
        print(f"{name:14s} {run.before[name]:8.3f} -> {run.after[name]:8.3f}")
    for sentence in run.warnings:
        print("warning:", sentence)


if __name__ == "__main__":
    main()
