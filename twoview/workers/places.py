"""Where tasks run: here, in processes of this machine, on a Dask or Slurm cluster, or where an own executor says."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twoview import plugins
from twoview.config import ClusterConfig
from twoview.errors import ConfigError
from twoview.machine import cores
from twoview.workers.tasks import Place

DASK, SLURM, LIKE_SLURM = "dask:", "slurm", "slurm:local"
FORMS = f"{DASK}tcp://host:8786, {SLURM}, {LIKE_SLURM}, or package.module:make"
_MANY = 256  # tasks that a cluster is given at once, where nobody says how many


@dataclass(frozen=True)
class Workers:
    """Who does the tasks of a command; by default this process, one task after the other.

    on       "": `jobs` processes of this machine; dask:tcp://host:8786; slurm; slurm:local, the same jobs without a
             Slurm; package.module:make, a function without arguments that returns an executor of concurrent.futures
    jobs     tasks at once; 0: one here, and as many as a cluster takes
    cluster  what a job asks of Slurm
    gpu      whether a worker must have a GPU
    """

    on: str = ""
    jobs: int = 0
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    gpu: bool = False

    def __post_init__(self) -> None:
        named = self.on in ("", SLURM, LIKE_SLURM) or self.on.startswith(DASK) or plugins.is_code(self.on)
        if not named or self.on == DASK:
            raise ConfigError(f"--on {self.on} is no place where tasks can run", hint=FORMS)


@contextmanager
def open_place(workers: Workers | None = None, *, folder: Path | str = ".") -> Iterator[Place | None]:
    """The place where the workers are; None for this process. At the end what has not begun is taken back.

    folder  that all workers see: it has the files of Slurm's jobs in it

    Raises ClusterError where nobody listens, MissingBackend without a cluster's packages, ConfigError for an executor
    that cannot be made.
    """
    workers = workers or Workers()
    if not workers.on and workers.jobs < 2:
        yield None
        return
    place = _place(workers, Path(folder))
    try:
        yield place
    except BaseException:
        place.close(interrupted=True)
        raise
    place.close(interrupted=False)


def _place(workers: Workers, folder: Path) -> Place:
    if not workers.on:
        from twoview.workers.processes import processes_place

        return processes_place(workers.jobs)
    if workers.on.startswith(DASK):
        from twoview.workers.dask_client import dask_place

        return dask_place(workers.on.removeprefix(DASK), at_once=workers.jobs or _MANY, gpu=workers.gpu)
    if workers.on in (SLURM, LIKE_SLURM):
        from twoview.workers.slurm_jobs import slurm_place

        local = workers.on == LIKE_SLURM
        return slurm_place(
            folder, workers.cluster, local=local, at_once=workers.jobs or (cores() if local else _MANY), gpu=workers.gpu
        )
    make = plugins.load(workers.on, "executor", ConfigError)
    return Place(workers.on, lambda: _checked(make(), workers.on), at_once=workers.jobs or _MANY)


def _checked(made: Any, name: str) -> Executor:
    if isinstance(made, Executor) or all(callable(getattr(made, part, None)) for part in ("submit", "shutdown")):
        return made  # type: ignore[no-any-return]
    raise ConfigError(f"{name} returns {type(made).__name__}, and no executor of concurrent.futures", hint=FORMS)
