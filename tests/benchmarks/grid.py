"""Many trainings side by side: what is finished is kept as a file, so that a second call continues."""

from __future__ import annotations

import argparse
import os
import pickle
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from adapting import MOCAP, SIX, Conditions, errors, everyday_error, load_lifter, mean, measure, render_takes
from rows import PHONES, solved, train

from twoview.datasets.motion import read_motions
from twoview.takes import Take

Scores = dict[str, list[np.ndarray]]  # class, "all new" or "new trials" -> errors (T, 2) mm of every clip


@dataclass(frozen=True)
class Cell:
    """One row trained on clips that are filmed one way, and tested by one phone; `filmed` names the way in files."""

    filmed: str
    how: Conditions
    row: str
    seed: int = 0
    steps: int = 200
    every: int = 1  # of so many clips one is trained on
    lifter: str = "twoview-small"
    sets: tuple[str, ...] = ()  # settings besides those of the row

    def takes(self) -> list[Take]:
        """The takes to train on."""
        found = render_takes("target_train", self.how, self.seed)
        return [take for clips in found.values() for take in clips][:: self.every]

    def kept(self, work: Path, row: str = "") -> Path:
        """Where the result of this cell is, or of another row on the same takes."""
        parts = [self.lifter, self.filmed, str(self.seed), *([row] if row else [self.row, *self.sets])]
        name = "-".join(parts)
        return work / f"{self.steps}-{self.every}" / f"{''.join(c if c.isalnum() else '_' for c in name)}.pkl"


@dataclass(frozen=True)
class Machine:
    """Where it runs and where results are kept."""

    work: Path
    workers: int
    device: str

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser, work: str) -> None:
        """The options that `of` reads."""
        parser.add_argument("--work", type=Path, default=Path("work") / work, help="where finished parts are kept")
        parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
        parser.add_argument("--device", default="cpu", help="where lifters are trained")

    @classmethod
    def of(cls, given: argparse.Namespace) -> Machine:
        """From the command line."""
        return cls(given.work, given.workers, given.device)


def fill(cells: Sequence[Cell], machine: Machine) -> None:
    """Train and test every cell that is not kept yet; the takes' own two-view 3D first, once for all rows."""
    todo = [cell for cell in cells if not cell.kept(machine.work).exists()]
    filmed = {cell.kept(machine.work, "two views"): cell for cell in todo if cell.row in PHONES}
    _in_parallel(_triangulate, [cell for path, cell in filmed.items() if not path.exists()], machine)
    _in_parallel(_train, todo, machine)


def scores(cell: Cell, work: Path) -> tuple[Scores, float] | None:
    """Errors of the cell's lifter, and its error on everyday movement, mm; None where it is not done."""
    path = cell.kept(work)
    return pickle.loads(path.read_bytes()) if path.exists() else None


def two_views(cell: Cell, work: Path) -> np.ndarray:
    """MPJPE and PA-MPJPE (2,), mm, of the takes' own two-view 3D; NaN for one view."""
    path = cell.kept(work, "two views")
    return pickle.loads(path.read_bytes())[1] if path.exists() else np.full(2, np.nan)


def lifter_mm(cell: Cell, work: Path) -> dict[str, float]:
    """Class -> how far the unadapted lifter is from the two-view 3D of the takes, mm, as a user can see it."""
    path = cell.kept(work, "two views")
    if not path.exists():
        return {}
    kinds = {motion.name: motion.kind for motion in read_motions(MOCAP / "target_train")}
    found: dict[str, list[float]] = {}
    for take in pickle.loads(path.read_bytes())[0]:
        found.setdefault(kinds[take.take], []).append(float(np.mean(list(take.lifter_mm.values()))))
    return {kind: float(np.mean(values)) for kind, values in found.items()}


def six(found: Scores) -> np.ndarray:
    """MPJPE and PA-MPJPE (2,), mm, mean of six sports."""
    return np.mean([mean(found[kind]) for kind in SIX], axis=0)


def _in_parallel(work: Callable[[Cell, Machine], str], cells: Sequence[Cell], machine: Machine) -> None:
    with ProcessPoolExecutor(machine.workers, mp_context=get_context("spawn")) as pool:
        for job in as_completed([pool.submit(work, cell, machine) for cell in cells]):
            print(f"  {job.result()}", flush=True)


def _triangulate(cell: Cell, machine: Machine) -> str:
    torch.set_num_threads(1)
    takes, started = cell.takes(), time.process_time()
    found = solved(takes, load_lifter(cell.lifter))
    spent = time.process_time() - started
    own = mean([errors(f.poses("a"), take) for f, take in zip(found, takes, strict=True)])
    _write(cell.kept(machine.work, "two views"), (found, own))
    return f"{cell.filmed}, seed {cell.seed}, two-view 3D: {own[0]:.1f} / {own[1]:.1f}, {spent:.0f} core-s"


def _train(cell: Cell, machine: Machine) -> str:
    torch.set_num_threads(1)
    takes, model, started = cell.takes(), load_lifter(cell.lifter, machine.device), time.process_time()
    found = pickle.loads(cell.kept(machine.work, "two views").read_bytes())[0] if cell.row in PHONES else []
    adapted = train(cell.row, model, takes, found, steps=cell.steps, seed=cell.seed, sets=cell.sets)
    spent = time.process_time() - started
    test = partial(render_takes, how=Conditions(sports=cell.how.sports, level=cell.how.level))
    new = measure(adapted, test("target_test", seed=100 + cell.seed))
    same = measure(adapted, test("target_test_same", seed=200 + cell.seed))
    every: Scores = {**same, **new}
    for name, part in (("all new", new), ("new trials", same)):
        every[name] = [clip for clips in part.values() for clip in clips]
    _write(cell.kept(machine.work), (every, everyday_error(adapted)))
    own = six(every)
    what = ", ".join((cell.lifter, cell.filmed, f"seed {cell.seed}", cell.row, *cell.sets))
    return f"{what}: six sports {own[0]:.1f} / {own[1]:.1f}, {spent:.0f} core-s"


def _write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    temporary.write_bytes(pickle.dumps(value))
    temporary.replace(path)
