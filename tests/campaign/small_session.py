"""A session with two takes of a drawn figure, brought through every stage by the commands, in seconds."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from commands import Outcome, run
from scenes import small_scene

MARKERS = ("--detector", "markers:Markers")
TINY = ("--weights", "start.pt", "--epochs", "2", "--set", "phones.steps_per_epoch=2", "--set", "phones.batch=4",
        "--set", "phones.virtual=2")  # fmt: skip
# The commands of the main job, in order, as one types them.
STAGES: dict[str, tuple[str, ...]] = {
    "sync": ("sync", "a.mp4", "b.mp4", "--take", "t1"),
    "sync t2": ("sync", "two/a.mp4", "two/b.mp4", "--take", "t2"),
    "detect": ("detect", *MARKERS),
    "triangulate": ("triangulate", "--height", "1.75"),
    "finetune": ("finetune", "--views", "a,b", *TINY),
    "infer": ("infer", "a.mp4", *MARKERS, "--height", "1.75", "--format", "csv,json,trc,html"),
    "export": ("export", "model.pt"),
}


@dataclass(frozen=True)
class Small:
    """The room of the small session before each stage and after the last: folders to copy."""

    before: dict[str, Path]
    done: Path
    outcomes: dict[str, Outcome]


def build(folder: Path) -> Small:
    """Draw the figure, and run every stage once, without any disturbance. Raises where one fails."""
    room = folder / "room"
    work = room / "work"
    small_scene(work, seconds=2.5, offset_s=0.35)
    small_scene(work / "two", seconds=2.5, offset_s=-0.2, seed=3)
    write_lifter(work / "start.pt")
    before, outcomes = {}, {}
    for stage, words in STAGES.items():
        before[stage] = folder / f"before {stage}"
        shutil.copytree(room, before[stage])
        outcomes[stage] = run(words, work, folder / "log")
        made = outcomes[stage]
        if made.code or made.faults():
            raise SystemExit(f"{stage}: {made.faults()} {made.outside} {made.started} {made.network}\n{made.err}")
    return Small(before, room, outcomes)


def write_lifter(path: Path) -> None:
    """A small untrained lifter."""
    import torch

    from twoview import lifters
    from twoview.lifting.model import Model, save_model

    torch.manual_seed(0)
    config = {"width": 16, "dilations": [1, 3]}
    save_model(path, Model(lifters.build("tcn", config).eval(), "tcn", config, "box", 30.0, 27))


def contents(folder: Path, *, broken: str = "") -> dict[str, str]:
    """File -> hash of what it says, for every file that is no temporary one; times and texts that name them left out.

    broken  stands for a file that cannot be read; "": raise instead
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            try:
                found[path.relative_to(folder).as_posix()] = content(path)
            except Exception:
                if not broken:
                    raise
                found[path.relative_to(folder).as_posix()] = broken
    return found


def content(path: Path) -> str:
    """Hash of what a file says: of the arrays of .npz and .pt files, else of the bytes; logs by their length."""
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            parts = [key.encode() + file[key].tobytes() for key in sorted(file.files) if key != "header"]
    elif path.suffix == ".pt":
        parts = [repr(_plain(path)).encode()]
    elif path.suffix in (".jsonl", ".html") or path.name in ("log.csv", "report.html"):
        parts = [str(path.read_text().count("\n")).encode()]
    elif path.suffix in (".json", ".onnx", ".mp4", ".png"):
        parts = [b"there" if path.stat().st_size else b"empty"]
    else:
        parts = [path.read_bytes()]
    return sha256(b"".join(parts)).hexdigest()[:16]


def _plain(path: Path) -> object:
    import torch

    def flat(value: object) -> object:
        if isinstance(value, dict):
            return {key: flat(one) for key, one in sorted(value.items(), key=lambda item: str(item[0]))
                    if key not in ("seconds", "training", "reach")}  # fmt: skip
        if isinstance(value, list | tuple):
            return [flat(one) for one in value]
        return sha256(value.contiguous().numpy().tobytes()).hexdigest() if isinstance(value, torch.Tensor) else value

    return flat(torch.load(path, map_location="cpu", weights_only=True))
