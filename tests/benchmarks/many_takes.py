"""Time and memory of the commands against the number of takes, and the rates of stages for planning large data sets.

python tests/benchmarks/many_takes.py [--quick] [--work work/many_takes] [--sizes 10,100,1000,10000]

Sessions of 10 to 10,000 takes of 24 athletes and 8 movements, poses and clocks alone: takes of a movement have the same
poses, 5 s of two views, each in files of its own. Every command runs in a process of its own, start included; memory is
that process's largest. The exponents are slopes of processor time over takes on log axes: over all sizes, and from
1,000 takes on of what a command takes beyond its time for the fewest.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

SIZES, FEW = (10, 100, 1000, 10_000), (10, 40)
STEPS = 50
ATHLETES = 24


@dataclass(frozen=True)
class Cost:
    """What a process took: seconds by the clock and of the processor, and the largest memory in MiB."""

    wall_s: float
    cpu_s: float
    mib: float
    printed: str


def run(*words: str | Path) -> Cost:
    """A command of twoview in a process of its own, or this script with other options.

    This process has to stay small: a new one counts its starter's memory as its own.
    """
    start = [sys.executable, "-m", "twoview"] if not str(words[0]).startswith("--") else [sys.executable, __file__]
    began = time.perf_counter()
    with subprocess.Popen([*start, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        printed = process.stdout.read().decode()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{words} ended with {process.returncode}\n{printed}")
    return Cost(time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, printed)


def finetune(folder: Path) -> None:
    """Train for STEPS steps, and print what passed until the first one as JSON: seconds, of the processor, takes."""
    from twoview.config import FinetuneConfig
    from twoview.progress import Progress
    from twoview.storage.session import open_session
    from twoview.workflow.stages import finetune_session

    marks: dict[str, float] = {}

    def heard(event: Progress) -> None:
        marks.setdefault(event.stage, time.process_time())
        marks[f"last {event.stage}"] = time.process_time()

    shutil.rmtree(folder / "runs", ignore_errors=True)
    config = FinetuneConfig()
    config = FinetuneConfig(epochs=-(-STEPS // config.phones.steps_per_epoch))
    result = finetune_session(open_session(folder), config=config, on_progress=heard)
    about = json.loads((result.folder / "result.json").read_text())
    print(json.dumps({"takes": about["takes"], "first take": marks["triangulate"], "first step": marks["finetune"]}))


def exponent(sizes: list[int], seconds: list[float]) -> float:
    """Slope of the line that fits best on log axes."""
    if len(sizes) < 2:
        return math.nan
    return statistics.linear_regression([math.log(n) for n in sizes], [math.log(s) for s in seconds]).slope


def rates() -> list[tuple[str, str]]:
    """What one core does, of the stages that can be run from poses alone: (what, rate)."""
    import numpy as np
    import torch
    from bodies import moving_body, two_views

    from twoview.config import FinetuneConfig
    from twoview.lifting.inference import lift
    from twoview.lifting.model import load_model
    from twoview.poses import Poses2D
    from twoview.reconstruction.triangulation import triangulate
    from twoview.skeleton import H36M17
    from twoview.storage import records
    from twoview.takes import Take
    from twoview.timeline import ClockMap, Sync
    from twoview.training.planning import seconds_per_step

    torch.set_num_threads(1)
    model, found = load_model("twoview-small", device="cpu"), []
    rng = np.random.default_rng(0)
    seconds, hz = 10.0, 30.0
    for views in (2, 7):
        body = moving_body(round(seconds * hz), rng)
        angles = tuple(np.linspace(0, 90, views))
        tracks, _ = two_views(body, rng, angles=angles, noise=0.004)
        names = "abcdefg"[:views]
        poses = {
            view: Poses2D(tracks.xy[v], tracks.score[v], tracks.time, H36M17, (1920, 1080), view)
            for v, view in enumerate(names)
        }
        take = Take("take", poses, Sync("a", {view: ClockMap() for view in names}))
        took = []
        for _ in range(3):
            began = time.process_time()
            triangulate(take, model)
            took.append(time.process_time() - began)
        found.append((f"triangulate, {views} views at 30 Hz", f"{min(took) / seconds:.3f} core-s per second filmed"))
    began = time.process_time()
    for _ in range(5):
        lift(model, poses["a"])
    frames = 5 * len(poses["a"]) / (time.process_time() - began)
    found.append(("lift (infer from detections), one view", f"{frames:.0f} frames per core-s"))
    config = FinetuneConfig().phones
    batch = config.batch + 2 * config.virtual + config.batch // 4
    step = seconds_per_step(model, batch, config.frames)
    found.append(("a training step of 144 clips of 27 frames", f"{step:.3f} s"))
    path = Path("work") / "rate.npz"
    records.save(path, poses["a"])
    found.append(("poses of one view on disk", f"{path.stat().st_size / len(poses['a']):.0f} bytes per frame"))
    path.unlink()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few takes, one turn")
    parser.add_argument("--work", type=Path, default=Path("work/many_takes"))
    parser.add_argument("--sizes", default="")
    parser.add_argument("--only", default="", help="commands to time: show,plan,triangulate,finetune,rates")
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.train:
        finetune(args.train)
        return
    if args.write:
        from poses_only import write_session

        write_session(args.write, int(args.sizes), athletes=ATHLETES)
        return

    sizes = [int(n) for n in args.sizes.split(",")] if args.sizes else list(FEW if args.quick else SIZES)
    wanted = args.only.split(",") if args.only else ["show", "plan", "triangulate", "finetune", "rates"]
    found: dict[str, list[Cost]] = {}
    for count in sizes:
        folder = args.work / str(count)
        shutil.rmtree(folder, ignore_errors=True)
        run("--write", folder, "--sizes", str(count))
        names = sorted(os.listdir(folder / "takes"))
        some = ",".join(names[:: max(len(names) // 3, 1)][:3])
        commands: dict[str, tuple[str | Path, ...]] = {
            "show": ("show", "--session", folder),
            "plan": ("plan", "--session", folder),
            "triangulate": ("triangulate", "--take", some, "--no-picture", "--session", folder),
            "finetune": ("--train", folder),
        }
        for name, words in commands.items():
            if name in wanted:
                turns = [run(*words) for _ in range(3 if name == "show" and not args.quick else 1)]
                cost = min(turns, key=lambda turn: turn.cpu_s)
                found.setdefault(name, []).append(cost)
                about = f"  {cost.printed.strip()}" if name == "finetune" else ""
                print(
                    f"{count:6} {name:<12} {cost.wall_s:6.1f} s  {cost.cpu_s:6.1f} core-s  {cost.mib:5.0f} MiB{about}",
                    flush=True,
                )
        shutil.rmtree(folder)
    print("\n| command | " + " | ".join(f"{n:,}" for n in sizes) + " | exponent, all | beyond the start |")
    print("|---|" + "---|" * (len(sizes) + 2))
    for name, costs in found.items():
        cells = [f"{cost.cpu_s:.1f} ({cost.wall_s:.1f}), {cost.mib:.0f}" for cost in costs]
        beyond = [(n, cost.cpu_s - costs[0].cpu_s) for n, cost in zip(sizes, costs, strict=True) if n >= 1000]
        grown = [(n, more) for n, more in beyond if more > 0.1]
        steep = exponent([n for n, _ in grown], [more for _, more in grown])
        every = exponent(sizes, [cost.cpu_s for cost in costs])
        print(f"| {name} | " + " | ".join(cells) + f" | {every:.2f} | {steep:.2f} |")
    if "finetune" in found:
        parts = [json.loads(cost.printed) for cost in found["finetune"]]
        for key in ("takes", "first take", "first step"):
            print(f"| finetune, {key} | " + " | ".join(f"{part[key]:.4g}" for part in parts) + " | | |")
    if "rates" in wanted:
        for what, rate in rates():
            print(f"{what:<45} {rate}")


if __name__ == "__main__":
    main()
