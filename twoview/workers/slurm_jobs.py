"""Tasks as jobs of Slurm, by submitit: a job for each, sent again by itself where a node is taken from it."""

from __future__ import annotations

import logging
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

from twoview.config import ClusterConfig
from twoview.errors import ClusterError, MissingBackend
from twoview.workers.tasks import Place

_LOOK_EVERY_S = 0.3  # seconds between looks at the files of the jobs
_FILE_LATE_S = 15.0  # seconds by which another machine's file may appear late


class JobDiedError(Exception):
    """A job that ended without an answer: killed, out of memory or out of time."""


def slurm_place(folder: Path, config: ClusterConfig, *, local: bool, at_once: int, gpu: bool = False) -> Place:
    """Slurm's jobs; or the same on this machine, without Slurm. Raises ClusterError where there is no Slurm.

    folder  that all nodes see; the jobs' files are in .jobs there, and stay where one died
    gpu     whether a job needs a GPU, where the settings ask for none
    """
    try:
        import submitit
    except ImportError as error:
        raise MissingBackend(
            "jobs of Slurm need the package submitit, which is not installed", hint='pip install "twoview[cluster]"'
        ) from error
    logging.getLogger("submitit").setLevel(logging.CRITICAL)  # its trouble is an error of ours
    parent = folder.resolve() / ".jobs"
    parent.mkdir(parents=True, exist_ok=True)
    own = Path(tempfile.mkdtemp(prefix="jobs-", dir=parent))
    try:
        made = submitit.AutoExecutor(folder=own, cluster="local" if local else "slurm")
    except RuntimeError as error:
        shutil.rmtree(own, ignore_errors=True)
        raise ClusterError(
            "there is no Slurm here: neither srun nor sbatch", hint="run the command where jobs are submitted"
        ) from error
    names = ("partition", "account", "qos", "constraint")
    slurm = {f"slurm_{name}": getattr(config, name) for name in names if getattr(config, name)}
    made.update_parameters(
        name="twoview", timeout_min=config.minutes, mem_gb=config.memory_gb, cpus_per_task=config.cores,
        gpus_per_node=config.gpus or int(gpu) or None, **slurm,
    )  # fmt: skip
    jobs = _Jobs(made, own, late_s=0.0 if local else _FILE_LATE_S)
    return Place("slurm:local" if local else "slurm", lambda: jobs, at_once, died=(JobDiedError,), end=jobs.clear)


class _Resent:
    """A function whose job Slurm may send again where it takes the node, or the time is over."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments)

    def checkpoint(self, *arguments: Any) -> Any:
        """What submitit calls before the job ends early: the same once more, which goes on from the saved work."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, *arguments)


class _Jobs(Executor):
    """submitit's jobs as an executor of concurrent.futures."""

    def __init__(self, made: Any, folder: Path, *, late_s: float) -> None:
        self.made, self.folder, self.late_s = made, folder, late_s
        self.jobs: dict[Future[Any], Any] = {}
        self.ended: dict[Future[Any], float] = {}
        self.failed = False
        self.watcher: threading.Thread | None = None
        self.lock = threading.Lock()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """A job for this call."""
        future = Future[Any]()
        job = self.made.submit(_Resent(fn), *args, **kwargs)
        with self.lock:
            self.jobs[future] = job
            if self.watcher is None:
                self.watcher = threading.Thread(target=self._watch, daemon=True)
                self.watcher.start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Cancel the jobs that have not ended, unless they are to be waited for."""
        del cancel_futures
        while wait and self.jobs and not all(future.cancelled() for future in self.jobs):
            time.sleep(_LOOK_EVERY_S)
        with self.lock:
            for job in self.jobs.values():
                job.cancel(check=False)
            self.jobs = {}

    def clear(self) -> None:
        """Remove the files of the jobs, unless one died: its log says why."""
        if not self.failed:
            shutil.rmtree(self.folder, ignore_errors=True)
            for empty in (self.folder.parent,):
                if empty.exists() and not any(empty.iterdir()):
                    empty.rmdir()

    def _watch(self) -> None:
        while True:
            with self.lock:
                if not self.jobs:
                    self.watcher = None
                    return
                jobs = dict(self.jobs)
            for future, job in jobs.items():
                if future.cancelled():
                    job.cancel(check=False)
                elif not job.done() or not self._answer(future, job):
                    continue
                with self.lock:
                    self.jobs.pop(future, None)
            time.sleep(_LOOK_EVERY_S)

    def _answer(self, future: Future[Any], job: Any) -> bool:
        """Give the future the answer of a job that ended; False while its file may still appear."""
        late = not job.paths.result_pickle.exists()
        if late:
            first = self.ended.setdefault(future, time.monotonic())
            if time.monotonic() - first < self.late_s:
                return False
        if not future.set_running_or_notify_cancel():
            return True
        if late:
            self.failed = True
            future.set_exception(JobDiedError(f"job {job.job_id} ended without an answer: see {job.paths.stderr}"))
            return True
        try:
            future.set_result(job.result())
        except Exception as error:  # what the job raised, as text
            self.failed = True
            future.set_exception(error)
        return True
