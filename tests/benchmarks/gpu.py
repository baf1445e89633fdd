"""What a GPU gains, stage by stage: rates on the processor and on the card, how far answers differ, and memory.

    python tests/benchmarks/gpu.py                 both, or the processor alone where there is no card; under 8 minutes
    python tests/benchmarks/gpu.py --quick         shorter clips

Detection: the included detector on a clip of the demo, which is decoded beside it. Lifting: one minute of 2D poses at
30 Hz. A training step: forward, backward and Adam of the paper's losses on one pair of clips of 243 frames, by
MotionBERT Lite. Consistency: that loss and its gradient on 96 pairs of 27 frames. Adaptation: `finetune` with method
phones, one epoch, whole, with two-view 3D and everything else around it. The card's memory is the most that was in use
during a stage, of networks in ONNX Runtime too; the processor's is the peak of the whole process, so that it only grows
down the column.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

import numpy as np
import torch
from beside import ASSETS
from consistency import gradient, pairs
from numpy import ndarray as Array
from small_takes import take

from twoview.config import DetectConfig, FinetuneConfig, InferConfig, PhonesConfig
from twoview.detection.pipeline import detect
from twoview.lifters.dstformer import DSTformer
from twoview.lifting.inference import lift
from twoview.lifting.model import load_model
from twoview.machine import keep_memory, onnx_device
from twoview.training.finetuning import finetune
from twoview.training.losses import consistency, reprojection

CLIP = ASSETS / "demo" / "golf" / "test1" / "view_a.mp4"
LIFTERS = ("twoview-small", "twoview-dstformer")


@dataclass(frozen=True, eq=False)
class Measured:
    """One stage on one device: units per second, what it answered, and peak memory in MiB."""

    rate: float
    answer: Array
    mib: float


@dataclass(frozen=True)
class Stage:
    """work(device) -> (units done, answer); differs tells how far two answers are apart, in words."""

    name: str
    unit: str
    work: Callable[[str], tuple[float, Array]]
    differs: Callable[[Array, Array], str]
    repeats: int = 1


def stages(minutes: float) -> list[Stage]:
    """All stages, for `minutes` of poses to lift."""
    seen = take(seconds=60 * minutes).poses["a"]
    models = {(name, device): load_model(name, device) for name in LIFTERS for device in devices()}

    def detected(device: str) -> tuple[float, Array]:
        poses = detect(CLIP, config=DetectConfig(detector="movenet", device=device))
        return len(poses), np.asarray(poses.xy)

    def lifted(name: str) -> Callable[[str], tuple[float, Array]]:
        def work(device: str) -> tuple[float, Array]:
            poses = lift(models[name, device], seen, InferConfig(device=device))
            return len(seen), np.asarray(poses.xyz)

        return work

    def trained(device: str) -> tuple[float, Array]:
        torch.manual_seed(0)
        network = DSTformer().to(device)
        optimizer = torch.optim.Adam(network.parameters(), lr=2e-4)
        batch, _ = pairs(1, 243, device)
        losses = []
        for _ in range(2):
            optimizer.zero_grad()
            answer = batch.lifted(network(batch.x))
            loss = reprojection(batch, answer) + 0.3 * consistency(batch, answer)
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        return 2, np.array(losses)

    def agreed(device: str) -> tuple[float, Array]:
        batch, answer = pairs(96, 27, device)
        for _ in range(5):
            found = gradient(consistency, batch, answer)
        return 5 * 96, found.cpu().numpy()

    def adapted(device: str) -> tuple[float, Array]:
        takes = [take(f"take{index}", seconds=6.0, seed=index) for index in range(3)]
        config = FinetuneConfig(epochs=1, device=device, phones=PhonesConfig(steps_per_epoch=10))
        with tempfile.TemporaryDirectory() as folder:
            run = finetune(takes, config, out=Path(folder) / "run")
        return 1, np.array([run.before["criterion"], run.after["criterion"]])

    def pixels(a: Array, b: Array) -> str:
        return f"{np.nanmedian(np.linalg.norm(a - b, axis=-1)):.2g} px in the median"

    def farthest(a: Array, b: Array) -> str:
        return f"{np.abs(a - b).max() / np.abs(a).max():.1e} of the largest"

    lifting = [Stage(f"lift, {name}", "frames", lifted(name), farthest) for name in LIFTERS]
    return [
        Stage("detect, movenet", "frames", detected, pixels),
        *lifting,
        Stage("training step, MotionBERT Lite", "pairs of clips", trained, farthest),
        Stage("consistency and gradient", "pairs of clips", agreed, farthest, repeats=3),
        Stage("finetune, phones, 10 steps", "runs", adapted, farthest),
    ]


def devices() -> tuple[str, ...]:
    """The processor, and a card where PyTorch sees one."""
    return ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)


def measure(stage: Stage, device: str) -> Measured:
    """The best of the repeats, after a first run that loads and warms up."""
    best = 0.0
    with Memory(device) as memory:
        for _ in range(stage.repeats + 1):
            began = time.perf_counter()
            units, answer = stage.work(device)
            if device != "cpu":
                torch.cuda.synchronize()
            best = max(best, units / (time.perf_counter() - began))
    return Measured(best, answer, memory.mib)


class Memory:
    """The most memory in use while a block runs: of the card as its driver counts it, or of this process."""

    def __init__(self, device: str) -> None:
        self.device, self.mib, self._end = device, 0.0, Event()

    def __enter__(self) -> Memory:
        self._thread = Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *reason: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(0.05):
            self.mib = max(self.mib, self._now())
        self.mib = max(self.mib, self._now())

    def _now(self) -> float:
        if self.device != "cpu":
            free, total = torch.cuda.mem_get_info()
            return (total - free) / 2**20
        row = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
        return int(row.split()[1]) / 1024


def table(found: Mapping[str, Mapping[str, Measured]], rows: list[Stage]) -> list[str]:
    """A row per stage."""
    lines = ["| stage | unit per s | cpu | cuda | times | answers differ by | MiB, cpu | MiB, cuda |", "|---" * 8 + "|"]
    for stage in rows:
        cpu, cuda = found[stage.name]["cpu"], found[stage.name].get("cuda")
        card = ["-", "-", "-"] if cuda is None else [f"{cuda.rate:.3g}", f"{cuda.rate / cpu.rate:.1f}",
                                                    stage.differs(cpu.answer, cuda.answer)]  # fmt: skip
        memory = "-" if cuda is None else f"{cuda.mib:.0f}"
        lines.append(
            f"| {stage.name} | {stage.unit} | {cpu.rate:.3g} | {' | '.join(card)} | {cpu.mib:.0f} | {memory} |"
        )
    return lines


def main() -> None:
    """Print the table as it grows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="10 seconds of poses to lift")
    given = parser.parse_args()
    keep_memory()
    card = torch.cuda.get_device_name() if torch.cuda.is_available() else "none that PyTorch sees"
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, card: {card}", end=", ")
    print(f"detection on auto: {onnx_device('auto')}", flush=True)
    rows, found = stages(1 / 6 if given.quick else 1.0), dict[str, dict[str, Measured]]()
    for stage in rows:
        found[stage.name] = {}
        for device in devices():
            if stage.name.startswith("detect") and device == "cuda" and onnx_device("auto") != "cuda":
                print("detection on the card needs onnxruntime-gpu in place of onnxruntime: left out", flush=True)
                continue
            found[stage.name][device] = one = measure(stage, device)
            print(f"{stage.name}, {device}: {one.rate:.3g} {stage.unit}/s", flush=True)
    print("\n" + "\n".join(table(found, rows)))


if __name__ == "__main__":
    main()
