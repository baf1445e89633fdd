"""A Dask cluster on this machine whose scheduler and workers can be killed, and a session of small takes for it."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
from scenes import small_scene

from twoview.storage.session import Session, open_session
from twoview.workflow.stages import add_videos

TESTS = Path(__file__).parents[1]
# Dask's patience is turned down: it waits for minutes where a test shall not.
QUICK = {
    "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0",
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "3s",
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "12s",
    "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",
    "DASK_DISTRIBUTED__ADMIN__SYSTEM_MONITOR__INTERVAL": "10s",
    "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "10s",
    "SECONDS_PER_PICTURE": "0.01",
}


class Cluster:
    """A scheduler and two workers, each with a nanny that starts it again."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder, self.processes = folder, dict[str, subprocess.Popen[bytes]]()
        self.port = 0
        self.start()

    @property
    def address(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    def start(self, *, scheduler: bool = True) -> None:
        """Start what does not run."""
        if scheduler and self._gone("scheduler"):
            known = self.folder / "scheduler.json"
            known.unlink(missing_ok=True)
            self._run("scheduler", "--port", str(self.port), "--scheduler-file", str(known))
            patience = time.monotonic() + 60
            while not known.exists():
                assert time.monotonic() < patience, (self.folder / "scheduler.log").read_text()
                time.sleep(0.05)
            self.port = int(json.loads(known.read_text())["address"].rpartition(":")[2])
        for name in ("one", "two"):
            if self._gone(name):
                here = ("--nthreads", "1", "--local-directory", str(self.folder), "--memory-limit", "0")
                self._run(name, self.address, *here)

    def kill(self, name: str, *, worker: bool = False) -> None:
        """Kill the scheduler, a nanny, or the worker of a nanny, without warning."""
        process = self.processes[name]
        try:
            family = psutil.Process(process.pid).children(recursive=True)
            for one in family if worker else ():
                if "multiprocessing.spawn" in words_of(one):
                    one.kill()
            if not worker:
                process.kill()
                process.wait()
        except psutil.NoSuchProcess:
            pass

    def stop(self) -> None:
        """End everything that was started."""
        for process in self.processes.values():
            with_children = [psutil.Process(process.pid)] if process.poll() is None else []
            for one in [child for own in with_children for child in own.children(recursive=True)] + with_children:
                try:
                    one.kill()
                except psutil.NoSuchProcess:
                    continue
            process.wait()

    def _gone(self, name: str) -> bool:
        return name not in self.processes or self.processes[name].poll() is not None

    def _run(self, name: str, *words: str) -> None:
        kind = "scheduler" if name == "scheduler" else "worker"
        command = [
            sys.executable,
            "-m",
            f"distributed.cli.dask_{kind}",
            *words,
            "--host",
            "127.0.0.1",
            "--no-dashboard",
        ]
        paths = os.pathsep.join([str(TESTS), str(TESTS.parent)])
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command, stdout=log, stderr=log, env={**os.environ, **QUICK, "PYTHONPATH": paths}, cwd=self.folder
            )


class Kills:
    """Kills a worker, or its nanny, whenever a random number of views has been seen, and has it started again."""

    def __init__(self, cluster: Cluster, seed: int, *, count: int, of: int) -> None:
        chance = random.Random(seed)
        self.cluster = cluster
        self.planned = {
            seen: (chance.choice(["one", "two"]), number % 3 != 0)
            for number, seen in enumerate(chance.sample(range(2, of - 2), count))
        }
        self.done = list[tuple[str, bool]]()

    def __call__(self, seen: int) -> None:
        if seen in self.planned:
            name, worker = self.planned.pop(seen)
            self.cluster.kill(name, worker=worker)
            self.cluster.start(scheduler=False)
            self.done.append((name, worker))


def words_of(process: psutil.Process) -> str:
    """The command line of a process; "" for one that has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def kill_a_child() -> None:
    """Kill one of the processes that this one has started for its tasks."""
    for child in psutil.Process().children():
        if "spawn_main" in words_of(child):
            child.kill()
            return


def small_takes(folder: Path, count: int) -> Session:
    """A session of so many takes with two views each, of four events."""
    for number in range(4):
        small_scene(folder / f"event{number}", seconds=0.4, size=(160, 120), seed=number, sound=False)
    for number in range(count):
        own = folder / f"video{number}"
        shutil.copytree(folder / f"event{number % 4}", own)
        add_videos(folder / "session", [own / "a.mp4", own / "b.mp4"], take=f"take{number}")
    return open_session(folder / "session")


def emptied(session: Session, folder: Path) -> Session:
    """A copy of the session beside it, without detections."""
    shutil.copytree(session.folder, folder)
    for made in folder.glob("takes/*/detections"):
        shutil.rmtree(made)
    return open_session(folder)


def detections(session: Session) -> dict[str, bytes]:
    """Every file of detections by its place."""
    paths = session.folder.glob("takes/*/detections/*.npz")
    return {str(path.relative_to(session.folder)): path.read_bytes() for path in paths}
