"""Speed and memory of the lifters on CPUs: our DSTformer beside a plain one, and twoview-small against real time.

    python tests/benchmarks/lifter_speed.py [--quick] [--threads 1] [--rounds 1] [--sizes lite,full] [--batches 1,8]

Both networks get the same weights and clips. Every measurement is a process of its own, and they take turns, so that a
busy machine slows all: the fewest seconds of any run after a first one, over the rounds, and the peak memory beyond
what stood there before. Ours keeps freed memory, as `lift` and `finetune` do (`machine.keep_memory`); the plain one
runs as its user would run it, and once more with memory kept. "Products alone" is what the
matrix products of the run take with nothing between them: those of linear layers each as fast as it runs by itself, and
those of attention at the rate of the fastest. What plain takes of that is the most that an implementation with the same
products could gain if all else were free. With one thread seconds are CPU seconds, which a busy
machine does not stretch much; with more they are by the clock. Answers are compared, and our longest clip with the
original's numbers.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import beside  # noqa: F401
import numpy as np
import torch
from fingerprint import FINGERPRINT, asked, distance, filled
from plain_dstformer import PlainDSTformer
from small_lifters import FULL, LITE
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from twoview.config import InferConfig
from twoview.lifters.dstformer import DSTformer
from twoview.lifting.inference import lift
from twoview.lifting.model import load_model
from twoview.machine import keep_memory
from twoview.poses import Poses2D
from twoview.skeleton import H36M17

SIZES: Mapping[str, Mapping[str, float]] = {"full": FULL, "lite": LITE}
NAMES = ("ours", "plain", "kept")  # kept: the plain one with our memory settings
RUNS = 2  # of each process, after a first one
GOALS = {"forward": 1.5, "training step": 1.3}
ROW = "| {} | {} | {} | {} | {} | {} | {} | {} |"


def networks(size: str) -> dict[str, nn.Module]:
    """Both, with the same weights."""
    torch.manual_seed(0)
    plain = PlainDSTformer(**SIZES[size])  # type: ignore[arg-type]
    ours = DSTformer(**SIZES[size])  # type: ignore[arg-type]
    ours.load_state_dict(plain.state_dict())
    return {"ours": ours, "plain": plain}


def forward(network: nn.Module, x: Tensor) -> Callable[[], object]:
    """One prediction."""

    def run() -> Tensor:
        with torch.inference_mode():
            return network(x)

    return run


def training_step(network: nn.Module, x: Tensor) -> Callable[[], object]:
    """Forward, backward and Adam."""
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-6)

    def run() -> None:
        optimizer.zero_grad()
        network(x).square().mean().backward()
        optimizer.step()

    return run


KINDS = {"forward": forward, "training step": training_step}


def clock(threads: int) -> float:
    """CPU seconds of one thread, or seconds by the clock."""
    return time.process_time() if threads == 1 else time.perf_counter()


def status(name: str) -> float:
    """A row of this process' status in MiB."""
    row = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(row.split()[1]) / 1024


def measure(size: str, kind: str, name: str, batch: int, frames: int, threads: int) -> None:
    """In a process of its own: prints the seconds of one run, and its peak in MiB beyond what stood there before."""
    network = {"ours": DSTformer, "plain": PlainDSTformer, "kept": PlainDSTformer}[name](**SIZES[size])
    if name != "plain":
        keep_memory()
    before = status("VmRSS")
    run = KINDS[kind](network, torch.randn(batch, frames, 17, 3))
    run()
    spent = []
    for _ in range(RUNS):
        begin = clock(threads)
        run()
        spent.append(clock(threads) - begin)
    print(min(spent), max(status("VmHWM") - before, 0.0))


def measured(*arguments: object, threads: int) -> tuple[float, float]:
    """Seconds and MiB of one run."""
    command = [sys.executable, __file__, "--measure", *map(str, arguments), "--threads", str(threads)]
    seconds, peak = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(seconds), float(peak)


class Products(TorchDispatchMode):
    """Counts a network's matrix products: of its linear layers by their three sizes, of its attention by operations."""

    def __init__(self) -> None:
        super().__init__()
        self.linear: Counter[tuple[int, int, int]] = Counter()
        self.attention = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default):
            a, b = args[-2:]
            self.linear[a.shape[0], a.shape[1], b.shape[1]] += 1
        if func is torch.ops.aten.bmm.default:
            self.attention += 2 * args[0].numel() * args[1].shape[2]
        return func(*args, **(kwargs or {}))


def product_s(rows: int, inner: int, columns: int, threads: int) -> float:
    """Seconds of a matrix product alone, into memory that is there: the fewest of eight."""
    a, b, out = torch.randn(rows, inner), torch.randn(inner, columns), torch.empty(rows, columns)
    spent = []
    for _ in range(8):
        begin = clock(threads)
        torch.mm(a, b, out=out)
        spent.append(clock(threads) - begin)
    return min(spent)


def products_s(size: str, kind: str, batch: int, frames: int, threads: int) -> tuple[float, float]:
    """Seconds of a run's matrix products alone, and operations per second of the fastest of them."""
    with torch.device("meta"), Products() as found:
        answer = PlainDSTformer(**SIZES[size])(torch.empty(batch, frames, 17, 3))  # type: ignore[arg-type]
        if kind == "training step":
            answer.sum().backward()
    alone = {shape: product_s(*shape, threads) for shape in found.linear}
    rate = max(2 * rows * inner * columns / alone[rows, inner, columns] for rows, inner, columns in alone)
    return sum(count * alone[shape] for shape, count in found.linear.items()) + found.attention / rate, rate


def compare(sizes: list[str], batches: list[int], kinds: list[str], frames: int, rounds: int, threads: int) -> None:
    """The table of both networks."""
    print(
        ROW.format(
            "network", "", "ours, s", "plain, s", "times as fast", "its memory kept",
            "products alone, s, fastest: plain, kept / that", "peak MiB: ours / plain",
        )
    )  # fmt: skip
    print("|---" * 8 + "|")
    for size in sizes:
        both = networks(size)
        with torch.inference_mode():
            x = torch.randn(2, 27, 17, 3)
            off = float((both["ours"](x) - both["plain"](x)).abs().max())
        del both
        for batch in batches:
            for kind in kinds:
                arguments = [(size, kind, name, batch, frames) for _ in range(rounds) for name in NAMES]
                found = [measured(*each, threads=threads) for each in arguments]
                best = [[min(values) for values in zip(*found[n::3], strict=True)] for n in range(3)]
                (ours, ours_mib), (plain, plain_mib), (kept, _) = best
                speed = f"{plain / ours:.2f} (goal {GOALS[kind]})"
                title = f"{size}, {batch} x {frames} frames"
                memory = f"{ours_mib:.0f} / {plain_mib:.0f}"
                floor, rate = products_s(size, kind, batch, frames, threads)
                bound = f"{floor:.2f}, {rate / 1e9:.0f} GFLOP/s: {plain / floor:.2f}, {kept / floor:.2f}"
                cells = (f"{ours:.2f}", f"{plain:.2f}", speed, f"{kept / ours:.2f}", bound, memory)
                print(ROW.format(title, kind, *cells), flush=True)
        print(f"  answers of both differ by at most {off:.1e}")


def fingerprint(size: str) -> None:
    """Our network's answer to the original's longest clip."""
    with torch.device("meta"):
        lifter = DSTformer(**SIZES[size]).eval()  # type: ignore[arg-type]
    lifter.load_state_dict(filled(lifter.state_dict(), "B"), assign=True)
    with torch.inference_mode():
        answer = lifter.float()(asked(1, 243).float())
    off = distance(answer, FINGERPRINT["cases"][f"{size}_fillB"]["B1_F243"]["output"])
    print(f"{size}, 243 frames in float32: {off:.1e} from the original's float64 (goal 5e-5)")


def real_time(name: str, seconds: float, rounds: int) -> None:
    """How much faster than its video a model lifts 2D poses, framing, windows, blending and mirroring included."""
    model = load_model(name)
    frames = round(seconds * 30)
    chance = np.random.default_rng(0)
    xy = 600 + 90 * chance.standard_normal((1, 17, 2)) + 4 * chance.standard_normal((frames, 17, 2)).cumsum(axis=0)
    poses = Poses2D(xy.astype(np.float32), np.full((frames, 17), 0.8, np.float32), np.arange(frames) / 30, H36M17,
                    (1920, 1080), "a")  # fmt: skip
    for flip in (True, False):
        config = InferConfig(flip=flip)
        spent = np.inf
        for _ in range(rounds + 1):
            begin = time.process_time()
            lift(model, poses, config)
            spent = min(spent, time.process_time() - begin)
        print(f"{name}: {seconds / spent:.0f} times real time ({seconds:.0f} s at 30 fps in {spent:.2f} CPU s, "
              f"{'with' if flip else 'without'} the mirrored pass; goal 20)")  # fmt: skip


def main() -> None:
    """Print all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="clips of 27 frames, one a time")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--frames", type=int, default=243)
    parser.add_argument("--sizes", default="lite,full")
    parser.add_argument("--batches", default="1,8")
    parser.add_argument("--kinds", default=",".join(KINDS), help="forward, training step or both, with a comma")
    parser.add_argument("--only", action="store_true", help="the table alone")
    parser.add_argument("--measure", nargs=5, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.measure:
        size, kind, name, batch, frames = given.measure
        measure(size, kind, name, int(batch), int(frames), given.threads)
        return
    frames, batches = (27, [1]) if given.quick else (given.frames, [int(n) for n in given.batches.split(",")])
    print(f"torch {torch.__version__}, {given.threads} threads")
    for name in () if given.only else ("twoview-small", "twoview-dstformer"):
        real_time(name, 20 if given.quick else 60, given.rounds)
    compare(given.sizes.split(","), batches, given.kinds.split(","), frames, given.rounds, given.threads)
    if not (given.quick or given.only):
        for size in given.sizes.split(","):
            fingerprint(size)


if __name__ == "__main__":
    main()
