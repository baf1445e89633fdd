"""How fast and how accurately videos are read, and how fast they are drawn.

    python tests/benchmarks/media.py                    the clips that ship
    python tests/benchmarks/media.py FOLDER [...]       rendered scenes (truth.json, truth.npz)

For every view: decoding in frames per second, the largest error of a frame's time against truth, the memory that
reading adds, and the time that a frame of the overlay video takes.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from beside import ASSETS

from twoview.datasets.rendered import SceneView, read_scene
from twoview.media.video import frames, probe
from twoview.visualization.overlay import render

SHIPPED = ASSETS / "demo" / "golf" / "take1"


def memory_mib() -> float:
    """Largest memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(name: str, view: SceneView, folder: Path) -> None:
    """Print one row."""
    info = probe(view.video)
    before, started = memory_mib(), time.perf_counter()
    times = [frame.time for frame in frames(view.video)]
    read = len(times) / (time.perf_counter() - started)
    grown = memory_mib() - before
    error = np.abs(np.array(times) - view.poses2d.time).max() * 1e6
    started = time.perf_counter()
    render(view.video, view.poses2d, view.poses3d, folder / "out.mp4")
    drawn = 1000 * (time.perf_counter() - started) / len(times)
    size = f"{info.size[0]}x{info.size[1]}"
    print(f"{name:26} {info.codec:5} {size:9} {len(times):5} {read:9.0f} {error:9.2f} {grown:8.0f} {drawn:9.0f}")


def main() -> None:
    print("view                       codec size     frames  frames/s  error us  MiB more  ms drawn")
    with tempfile.TemporaryDirectory() as folder:
        for scene in [Path(argument) for argument in sys.argv[1:]] or [SHIPPED]:
            for name, view in read_scene(scene).views.items():
                measure(f"{scene.name} {name}", view, Path(folder))


if __name__ == "__main__":
    main()
