"""Whether two checkouts of this project give the same results: the demo, sync, detections, lifters, a training run.

    python tests/benchmarks/same.py OLD NEW                          everything; 25 minutes on 2 cores
    python tests/benchmarks/same.py OLD NEW --parts lifters,finetune
    python tests/benchmarks/same.py OLD NEW --keep results           results of a checkout are kept there and read again

Each part runs in a process of its own that imports the checkout, with the Python that runs this file, by the public
functions alone. A part's numbers are compared entry by entry against the part's limit:

    lifters   answers of the shipped lifters to seeded 2D                    equal to 1e-6
    finetune  weights after 10 steps of `phones` and 2 epochs of `paper`     equal to 1e-6
    detect    joints and scores of the pictures in pose2sim_single           equal
    sync      offsets of the generator's pairs, seed 8808, sets std and trap 0.01 ms, and the same pairs refused
    demo      errors in the tables of `twoview demo`                         0.1 mm

`sync` needs ffmpeg and espeak-ng; `sync` and `detect` need the data that lies beside a developer's checkout.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Numbers = dict[str, np.ndarray]


def lifters(_: Path) -> Numbers:
    """Answers of the shipped lifters to the same 2D."""
    import torch

    from twoview import load_model

    found = {}
    for name in ("twoview-small", "twoview-dstformer"):
        model = load_model(name)
        x = torch.randn((2, model.clip_length, 17, 3), generator=torch.Generator().manual_seed(1)) * 0.3
        with torch.inference_mode():
            found[name] = model.lifter(x).numpy()
    return found


def finetune(folder: Path) -> Numbers:
    """Weights and held-out figures after a few steps on the golf takes, from their true 2D."""
    from dataclasses import replace

    import twoview as tv
    from twoview.datasets.rendered import read_scene

    shipped = Path(tv.__file__).parent / "assets" / "demo" / "golf"
    takes = []
    for name in ("take1", "take2", "take3"):
        views = read_scene(shipped / name).views
        poses = {view: seen.poses2d for view, seen in views.items()}
        takes.append(tv.Take(name, poses, tv.Sync("a", {view: seen.clock for view, seen in views.items()})))
    plain = tv.FinetuneConfig(seed=1, device="cpu")
    steps = "steps" if hasattr(plain.phones, "steps") else "steps_per_epoch"  # its name before and after 0.1.0
    configs = {
        "phones": replace(plain, epochs=1, phones=replace(plain.phones, **{steps: 10})),
        "paper": replace(plain, method="paper", epochs=2),
    }
    found = {}
    for method, config in configs.items():
        run = tv.finetune(takes, config, out=folder / method)
        state = tv.load_model(run.model).lifter.state_dict()
        found |= {f"{method} {key}": value.numpy() for key, value in state.items()}
        found[f"{method} criterion"] = np.array(_criterion(run))
    return found


def _criterion(run: Any) -> list[float]:
    rows = [json.loads(line) for line in (Path(run.model).parent / "log.jsonl").read_text().splitlines()]
    return [row["criterion"] for row in rows if "criterion" in row]


def detect(_: Path) -> Numbers:
    """The athlete in the four cameras of a real recording, by the detector that ships."""
    import twoview as tv

    found = {}
    for video in sorted((_shared() / "data/video/pose2sim_single/videos").glob("*.mp4")):
        poses = tv.detect(video, config=tv.DetectConfig(detector="movenet", device="cpu"))
        found |= {f"{video.stem} xy": poses.xy, f"{video.stem} score": poses.score, f"{video.stem} time": poses.time}
    return found


def sync(folder: Path) -> Numbers:
    """Offsets (s) of made pairs; NaN where they were refused."""
    import twoview as tv

    pairs = Path(os.environ["PAIRS"])
    found = {}
    for pair in sorted(path for path in pairs.iterdir() if path.is_dir()):
        files = [next(iter(sorted(pair.glob(f"{view}.*")))) for view in ("a", "b")]  # .mp4 before .wav
        try:
            clock = tv.sync(*files, names=["a", "b"]).clocks["b"]
            found[pair.name] = np.array([clock.offset_s, clock.rate])
        except tv.TwoViewError:
            found[pair.name] = np.array([np.nan, np.nan])
    if np.mean([np.isnan(offset) for offset, _ in found.values()]) > 0.5:
        raise SystemExit("more than half of the pairs were refused: nothing to compare")
    return found


def demo(folder: Path) -> Numbers:
    """Every number in the demo's tables."""
    import twoview as tv

    found = {}
    for table in tv.demo(folder / "demo").tables:
        for row in table.rows:
            numbers = [value for value in row[1:] if isinstance(value, int | float)]
            found[f"{table.title}: {row[0]} {row[1] if isinstance(row[1], str) else ''}".strip()] = np.array(numbers)
    return found


PARTS: dict[str, tuple[Callable[[Path], Numbers], float]] = {
    "lifters": (lifters, 1e-6),
    "finetune": (finetune, 1e-6),
    "detect": (detect, 0.0),
    "sync": (sync, 1e-5),
    "demo": (demo, 0.1),
}


def _shared() -> Path:
    from beside import SHARED

    return SHARED


def make_pairs(folder: Path) -> Path:
    """The generator's pairs of files; their truth is not needed here."""
    pairs = folder / "pairs"
    if not pairs.exists():
        script = _shared() / "bench" / "sync" / "make_sync_bench.py"
        command = [sys.executable, str(script), "--out", str(folder / "made"), "--seed", "8808", "--sets", "std,trap"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        next((folder / "made").rglob("pairs")).rename(pairs)
    return pairs


def results(checkout: Path, part: str, keep: Path, pairs: Path | None) -> tuple[Numbers, float]:
    """A part's numbers in a checkout, and the seconds they took."""
    command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    head = subprocess.run(command, capture_output=True, text=True, check=True).stdout[:12]
    path = keep / f"{part}-{head}.npz"
    started = time.monotonic()
    if not path.exists():
        environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
        if pairs is not None:
            environment["PAIRS"] = str(pairs)
        subprocess.run([sys.executable, __file__, "--worker", part, str(path)], check=True, env=environment)
    with np.load(path) as found:
        return dict(found), time.monotonic() - started


def compare(old: Numbers, new: Numbers) -> tuple[int, float, list[str]]:
    """Entries compared, the largest difference, and the entries that only one side has, or that differ in shape."""
    lone = sorted(old.keys() ^ new.keys())
    worst = 0.0
    for key in old.keys() & new.keys():
        a, b = old[key].astype(float), new[key].astype(float)
        if a.shape != b.shape or (np.isnan(a) != np.isnan(b)).any():
            lone.append(key)
        elif a.size:
            worst = max(worst, float(np.nanmax(np.abs(a - b), initial=0.0)))
    return len(old.keys() & new.keys()), worst, lone


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", nargs="*", type=Path, help="OLD and NEW")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--keep", type=Path, help="folder for each checkout's results")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        part, path = given.worker
        with tempfile.TemporaryDirectory() as folder:
            found = PARTS[part][0](Path(folder))
        np.savez(path, **found)
        return
    old, new = (path.resolve() for path in given.checkouts)
    with tempfile.TemporaryDirectory() as folder:
        keep = given.keep or Path(folder)
        keep.mkdir(exist_ok=True)
        differ = False
        for part in given.parts.split(","):
            pairs = make_pairs(keep) if part == "sync" else None
            (one, took), (two, again) = (results(checkout, part, keep, pairs) for checkout in (old, new))
            count, worst, lone = compare(one, two)
            same = worst <= PARTS[part][1] and not lone
            differ |= not same
            verdict = "same" if same else "DIFFERENT"
            limit, lonely = PARTS[part][1], f"  on one side alone, or of another shape: {lone[:5]}" if lone else ""
            print(f"{part:9} {count:4} entries, largest difference {worst:.3g} (limit {limit:g})  {verdict}", end="  ")
            print(f"{took:.0f} and {again:.0f} s{lonely}", flush=True)
    sys.exit(differ)


if __name__ == "__main__":
    main()
