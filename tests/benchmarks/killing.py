"""A long video whose detection is killed at random moments, against the same without: the arrays have to be equal.

    python tests/benchmarks/killing.py                       20 minutes of video, killed three times
    python tests/benchmarks/killing.py --minutes 2 --seed 5

The video is the real clip of the shared folder, forwards and backwards, small and at 4 frames per second, so that this
takes as long as the detector that ships needs for its frames. Killed means SIGKILL, as by the system or by a power cut.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from detect import ROOT, make_clip

RATE = 4
SCRIPT = """
import sys
from pathlib import Path
from twoview.config import DetectConfig
from twoview.detection.pipeline import detect
from twoview.storage import records
video, partial, out = map(Path, sys.argv[1:4])
def show(event):
    print(int(event.done), flush=True)
poses = detect(video, config=DetectConfig(detector="movenet", device="cpu", save_every_s=float(sys.argv[4])),
               partial=partial, on_progress=show)
records.save(out, poses)
"""


def run(clip: Path, name: str, *, save_every_s: float, kill_at: int | None = None) -> int:
    """One process of detection, up to the end or to its death once `kill_at` frames are done; frames done."""
    files = [clip, clip.with_name(f"{name}.people.npz"), clip.with_name(f"{name}.npz")]
    command = [sys.executable, "-c", SCRIPT, *map(str, files), str(save_every_s)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as running:
        assert running.stdout is not None
        for line in running.stdout:
            done = int(line)
            if kill_at is not None and done >= kill_at:
                running.send_signal(signal.SIGKILL)
                break
    if kill_at is None and running.returncode:
        raise SystemExit(f"detection ended with {running.returncode}")
    return done


def same(a: Path, b: Path) -> bool:
    """Whether all arrays of two files are equal byte by byte, headers aside."""
    with np.load(a) as left, np.load(b) as right:
        names = [name for name in left.files if name != "header"]
        return names == [n for n in right.files if n != "header"] and all(
            left[name].tobytes() == right[name].tobytes() for name in names
        )


def main() -> None:
    """Make the video, detect it whole and with kills, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save-every", type=float, default=30.0, help="seconds between two saves")
    args = parser.parse_args()
    frames = round(60 * RATE * args.minutes)
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "long.mp4"
        make_clip(clip, frames, rate=RATE, size=(270, 480))
        print(f"{args.minutes:g} minutes of video, {frames} frames", flush=True)
        begun = time.monotonic()
        for at in sorted(random.Random(args.seed).sample(range(frames // 20, frames), args.times)):
            done = run(clip, "killed", save_every_s=args.save_every, kill_at=at)
            people = clip.with_name("killed.people.npz")
            kept = len(np.load(people)["time"]) if people.exists() else 0
            print(f"killed after {done} frames; {kept} were on the disk", flush=True)
        run(clip, "killed", save_every_s=args.save_every)
        print(f"finished after {time.monotonic() - begun:.0f} s", flush=True)
        begun = time.monotonic()
        run(clip, "whole", save_every_s=args.save_every)
        print(f"without kills {time.monotonic() - begun:.0f} s", flush=True)
        equal = all(
            same(clip.with_name(f"killed{end}"), clip.with_name(f"whole{end}")) for end in (".npz", ".people.npz")
        )
        print("the arrays are " + ("equal, byte by byte" if equal else "NOT EQUAL"))
        if not equal:
            raise SystemExit(1)


if __name__ == "__main__":
    main()
