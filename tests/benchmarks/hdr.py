"""What a high dynamic range costs: detections of a clip in HLG and PQ beside its standard copy, and time per picture.

    python tests/benchmarks/hdr.py                     the two test swings that ship, by MoveNet
    python tests/benchmarks/hdr.py VIDEO [...] --frames 60

The standard copy has the same encoder, bits and quality, so that its row says what encoding alone does. Distances are
from the detections of the file itself. "as stored" is the picture without the mapping.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from itertools import islice
from pathlib import Path
from unittest.mock import patch

import numpy as np
from beside import ASSETS
from hdr_files import HLG, PQ, frame, write_hdr

import twoview as tv
from twoview.media import pixels
from twoview.media.video import frames, probe

SHIPPED = [ASSETS / "demo" / "golf" / name for name in ("test1/view_a.mp4", "test2/view_b.mp4")]


def measure(video: Path, count: int, folder: Path) -> None:
    """Print the rows of one video."""
    shown = [(one.time, one.rgb) for one in islice(frames(video), count)]
    config = tv.DetectConfig(detector="movenet")
    truth = tv.detect(video, config=config)
    print(f"{video.parent.name}/{video.name}, {len(shown)} frames")

    def row(name: str, path: Path) -> None:
        poses = tv.detect(path, config=config)
        away = np.linalg.norm(poses.xy - truth.xy[: len(poses)], axis=-1)
        color = np.abs(next(frames(path)).rgb.astype(int) - shown[0][1]).mean()
        middle, most = np.nanmedian(away), np.nanquantile(away, 0.9)
        print(f"  {name:14} {middle:9.2f} {most:7.2f} {poses.score.mean():7.3f} {color:7.1f}", flush=True)

    for name, transfer in (("standard copy", 0), ("HLG", HLG), ("PQ", PQ)):
        path = write_hdr(folder / "copy.mp4", shown, transfer, probe(video).rate)
        row(name, path)
        if transfer:
            with patch.object(pixels, "HDR", {}):
                row(f"{name} as stored", path)


def per_picture() -> None:
    """Print the time that one picture of 1920 x 1080 takes."""
    rgb = np.random.default_rng(0).integers(0, 255, (1080, 1920, 3), np.uint8)
    made = pixels.DecodedFrame(0.0, frame(rgb, HLG), (1, 0, 0, 1))
    for name, known in (("mapped", pixels.HDR), ("as stored", {})):
        with patch.object(pixels, "HDR", known):
            made.rgb()
            began = time.process_time()
            for _ in range(10):
                made.rgb()
            print(f"1920 x 1080 {name:10} {100 * (time.process_time() - began):5.0f} ms per picture, one core")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="*", type=Path, default=SHIPPED)
    parser.add_argument("--frames", type=int, default=60)
    given = parser.parse_args()
    print("                 median px  90 % px  score  levels off")
    with tempfile.TemporaryDirectory() as folder:
        for video in given.videos:
            measure(video, given.frames, Path(folder))
    per_picture()


if __name__ == "__main__":
    main()
