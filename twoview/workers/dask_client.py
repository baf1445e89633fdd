"""Tasks on a Dask cluster that somebody has started: `dask scheduler`, and `dask worker` on each machine."""

from __future__ import annotations

import logging
import time
from concurrent.futures import Executor
from typing import Any

from twoview.errors import ClusterError, ConfigError, MissingBackend
from twoview.workers.tasks import Place

CONNECT_S = 8.0  # seconds to wait for a scheduler's answer
_NOBODY_S = 5.0  # seconds without a worker before the warning

log = logging.getLogger(__name__)


def dask_place(address: str, *, at_once: int, gpu: bool = False) -> Place:
    """The workers of the scheduler at an address such as tcp://head:8786.

    gpu  a task needs a worker that was started with --resources GPU=1

    Raises ClusterError where nobody listens, ConfigError for what is no address.
    """
    client = _connected(address)
    began, looked = time.monotonic(), False

    def make() -> Executor:
        resources: dict[str, Any] = {"resources": {"GPU": 1}} if gpu else {}
        executor: Executor = client.get_executor(pure=False, retries=0, **resources)
        return executor

    def watch() -> None:
        nonlocal looked
        if looked or time.monotonic() - began < _NOBODY_S:
            return
        looked = True
        try:
            workers = client.scheduler_info()["workers"].values()
        except OSError:  # it is gone, and its tasks will say so
            return
        if not [worker for worker in workers if not gpu or worker["resources"].get("GPU")]:
            lacks, more = ("worker with a GPU", " --resources GPU=1") if gpu else ("worker", "")
            log.warning("%s has no %s; start some: dask worker %s --nthreads 1%s", address, lacks, address, more)

    from distributed.scheduler import KilledWorker

    return Place(f"dask:{address}", make, at_once, died=(KilledWorker,), watch=watch, end=client.close)


def _connected(address: str) -> Any:
    try:
        import distributed
    except ImportError as error:
        raise MissingBackend(
            "a Dask cluster needs the package distributed, which is not installed",
            hint='pip install "twoview[cluster]"',
        ) from error
    for name in ("distributed", "distributed.client", "distributed.core", "distributed.batched", "tornado"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # its trouble is an error of ours
    try:
        connect: Any = distributed.Client
        return connect(address, timeout=CONNECT_S, set_as_default=False, name="twoview")
    except OSError as error:
        raise ClusterError(
            f"nobody answers at {address} within {CONNECT_S:.0f} s",
            hint=f"start a scheduler there, `dask scheduler`, and on each machine `dask worker {address} --nthreads 1`",
        ) from error
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{address} is no address of a scheduler: {error}", hint="dask:tcp://host:8786") from error
    except ImportError as error:  # its protocol needs the same version at both ends
        raise ClusterError(
            f"the scheduler at {address} has another version of Dask: {error}",
            hint="install the same version there: pip show distributed",
        ) from error
