"""Tasks that any worker can do: a function of one take or file, which writes its own files and may run again.

`run_tasks` is the one loop over them, whether they run here, in local processes or on a cluster: what comes out does
not depend on where.
"""

from __future__ import annotations

import logging
import os
import pickle
import socket
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Executor, Future, wait
from contextlib import AbstractContextManager, ExitStack, chdir, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from twoview import __version__
from twoview.errors import ClusterError, MissingBackend, StorageError, TwoViewError, WorkerError
from twoview.progress import OnProgress, Progress, report

RETRIES = 2  # of a task whose worker died
OF_ALL = (ClusterError, StorageError, MissingBackend)  # what is wrong with every task: the first one ends them
AGAIN = "what is done is kept: run the same command again"
_LOOK_EVERY_S = 0.5  # seconds between two looks at the progress while no task ends
_NAMED = 5  # tasks named in a message

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """A function of one take or file. It writes its own files whole or not at all, and may find them done already.

    label      what it works on, for people: "take1/a"
    function   of a module, not of a block; it takes `arguments` by name, and `on_progress`
    needs      files and folders that a worker must see
    """

    label: str
    function: Callable[..., Any]
    arguments: Mapping[str, Any]
    needs: tuple[Path, ...] = ()

    def run(self, on_progress: OnProgress | None = None) -> Any:
        """The function's value."""
        return self.function(**self.arguments, on_progress=on_progress)


@dataclass(frozen=True)
class Outcome:
    """What a worker sends back: a value or an error, and what was logged meanwhile as (logger, sentence)."""

    value: Any = None
    error: TwoViewError | None = None
    warnings: tuple[tuple[str, str], ...] = ()


@dataclass(eq=False)
class Place:
    """Where tasks run: an executor, and what `run_tasks` has to know of it.

    name     for messages: "dask:tcp://head:8786"
    make     makes the executor, and another one where that broke
    at_once  tasks that it is given at once
    died     exceptions of a task whose worker died, while the executor goes on
    units    frames that its workers have done so far
    watch    called now and then while tasks run, to warn of what is missing
    stop     has workers stop what they do, soon; None where that cannot be done
    end      called last
    """

    name: str
    make: Callable[[], Executor]
    at_once: int
    died: tuple[type[BaseException], ...] = ()
    units: Callable[[], float] = float
    watch: Callable[[], None] = lambda: None
    stop: Callable[[], None] | None = None
    end: Callable[[], None] = lambda: None
    executor: Executor | None = None
    given: set[Future[Outcome]] = field(default_factory=set)

    def submit(self, task: Task) -> Future[Outcome]:
        """Give a task to the executor. Raises WorkerError for one that cannot be sent, BrokenExecutor, ClusterError."""
        try:
            content = pickle.dumps(task)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise WorkerError(
                f"{task.label} cannot be sent to another process: {_first_line(error)}",
                hint="name detectors and lifters as package.module:Name, or leave out --jobs and --on",
            ) from error
        try:
            if self.executor is None:
                self.executor = self.make()
            future = self.executor.submit(perform, __version__, os.getcwd(), content)
        except (BrokenExecutor, TwoViewError):
            raise
        except Exception as error:  # of any executor that somebody names
            raise ClusterError(f"{self.name} takes no task: {_first_line(error)}", hint=AGAIN) from error
        self.given.add(future)
        future.add_done_callback(self.given.discard)
        return future

    def renew(self) -> None:
        """Let go of an executor that broke; the next task makes another one."""
        if self.executor is not None:
            self.executor.shutdown(wait=False)
        self.executor = None

    def close(self, *, interrupted: bool) -> None:
        """Take back what has not begun, stop what has where the command was interrupted, and end the executor."""
        for future in list(self.given):
            future.cancel()
        with suppress(*((Exception,) if interrupted else ())):  # of an executor that is gone itself
            if interrupted and self.stop is not None:
                self.stop()
            if self.executor is not None:
                self.executor.shutdown(wait=not interrupted or self.stop is not None)
        self.executor = None
        self.end()


def run_tasks(
    tasks: Iterable[Task],
    place: Place | None,
    *,
    stage: str,
    total: int,
    unit: str = "takes",
    on_progress: OnProgress | None = None,
) -> Iterator[tuple[str, Any]]:
    """(label, value or what is wrong with this task) of every task, as they are done.

    tasks  taken one by one as there is room for them, so that a generator may lock what a task works on
    place  where they run, see `places.open_place`; None: in this process, one after the other, where `on_progress`
           hears of each task's own steps
    total  how many there are; stage and unit are those of the one progress of all

    A task whose worker dies is tried RETRIES times more, and its error is then a WorkerError. Raises what is wrong with
    all tasks, after what is done: ClusterError, a full disk, a missing package.
    """
    if place is None:
        yield from _run_here(tasks, on_progress)
        return
    loop, done = _Loop(place, iter(tasks)), 0
    while (made := loop.step()) is not None:
        done += len(made)
        frames = place.units()
        report(on_progress, Progress(stage, done, total, unit, {"frames": frames} if frames else {}))
        place.watch()
        yield from ((label, value) for label, value in made if not isinstance(value, OF_ALL))
        for _, value in made:
            if isinstance(value, OF_ALL):
                raise value
        if loop.lost:
            raise ClusterError(
                f"{place.name} is gone, with {done} of {total} {unit} done", hint=f"start it again; {AGAIN}"
            )


def run_locked(
    every: Mapping[str, AbstractContextManager[Task]], place: Place | None, **more: Any
) -> Iterator[tuple[str, Any]]:
    """The same for tasks of files that are locked meanwhile: label -> what locks them and gives the task.

    A context is entered when there is room for its task, and left when the caller has seen what came out, with the
    error of a task that failed. One that cannot be entered is an error of its task.
    """
    held, refused = dict[str, ExitStack](), list[tuple[str, TwoViewError]]()

    def tasks() -> Iterator[Task]:
        for label, context in every.items():
            stack = ExitStack()
            try:
                task = stack.enter_context(context)
            except TwoViewError as error:
                refused.append((label, error))
                continue
            held[label] = stack
            yield task

    try:
        for label, value in run_tasks(tasks(), place, total=len(every), **more):
            with suppress(TwoViewError), held.pop(label):
                yield label, value
                if isinstance(value, TwoViewError):
                    raise value
        yield from refused
    finally:
        if held and place is not None:
            place.close(interrupted=True)  # nobody works on the files any more when they are free
        for stack in held.values():
            stack.close()


def _run_here(tasks: Iterable[Task], on_progress: OnProgress | None) -> Iterator[tuple[str, Any]]:
    for task in tasks:
        try:
            value = task.run(on_progress)
        except OF_ALL:
            raise
        except TwoViewError as error:
            value = error
        yield task.label, value


class _Loop:
    """The tasks that wait, that run, and those whose worker died.

    After an executor broke, nobody knows which of its tasks killed a worker: they are tried again one at a time, as is
    any task the last time. A cluster blames the tasks that waited for the same worker, too: these get one try more.
    """

    def __init__(self, place: Place, tasks: Iterator[Task]) -> None:
        self.place, self.tasks = place, tasks
        self.again, self.alone = deque[Task](), deque[Task]()
        self.running: dict[Future[Outcome], Task] = {}
        self.isolated: Future[Outcome] | None = None
        self.deaths, self.shared = Counter[str](), set[str]()
        self.lost = False

    def step(self) -> list[tuple[str, Any]] | None:
        """What ended since the last step, perhaps nothing; None once all tasks have."""
        made = self._fill()
        if not self.running and not made:
            return None
        finished = wait(self.running, timeout=0 if made else _LOOK_EVERY_S, return_when=FIRST_COMPLETED).done
        if any(isinstance(_error_of(future), BrokenExecutor) for future in finished):
            finished = wait(self.running).done  # all of them are lost with it
            self.place.renew()
        dead = list[str]()
        died: tuple[type[BaseException], ...] = (BrokenExecutor, *self.place.died)
        blamed = [self.running[future].label for future in finished if isinstance(_error_of(future), self.place.died)]
        self.shared |= set(blamed) if len(blamed) > 1 else set()
        for future in finished:
            task, error = self.running.pop(future), _error_of(future)
            if error is None:
                made.append((task.label, _opened(future.result())))
            elif isinstance(error, CancelledError):  # not by us: their scheduler is gone
                self.lost = True
            elif not isinstance(error, Exception):
                raise error
            elif isinstance(error, died):
                self.deaths[task.label] += 1
                most = RETRIES + (task.label in self.shared)
                if self.deaths[task.label] > most:
                    made.append((task.label, _died(task.label, self.deaths[task.label])))
                else:
                    dead.append(task.label)
                    last = self.deaths[task.label] >= RETRIES  # not to be blamed for another one's deaths
                    (self.alone if last or isinstance(error, BrokenExecutor) else self.again).append(task)
            else:
                made.append((task.label, _failed(task.label, error)))
        if dead:
            log.warning("a worker died (killed, or out of memory) with %s; trying again", _named(dead))
        return made if self.lost else made + self._fill()  # workers go on while the caller looks at these

    def _fill(self) -> list[tuple[str, Any]]:
        """Give tasks to the place while there is room; those that cannot be sent."""
        refused = list[tuple[str, Any]]()
        while len(self.running) < (1 if self.alone or self.isolated in self.running else self.place.at_once):
            if not self.alone and not self.again:
                self.again.extend(islice(self.tasks, 1))
            queue = self.alone or self.again
            if not queue:
                break
            try:
                future = self.place.submit(queue[0])
            except WorkerError as error:
                refused.append((queue.popleft().label, error))
            except BrokenExecutor:
                if self.running:  # they are lost with it, which the next step finds
                    break
                self.place.renew()
            else:
                self.isolated = future if queue is self.alone else self.isolated
                self.running[future] = queue.popleft()
        return refused


def perform(version: str, folder: str, content: bytes) -> Outcome:
    """What a worker does with a task: see whether it can, do it in the folder of the command, and say what came out.

    version  of the twoview that sends the task, and that reads the files which the worker writes
    content  the task, pickled
    """
    host = socket.gethostname()
    if version != __version__:
        error = ClusterError(
            f"the worker on {host} has twoview {__version__}, and the command {version}",
            hint="install the same version there, and start the worker again",
        )
        return Outcome(error=error)
    if not os.path.isdir(folder):
        return Outcome(error=_unseen(host, folder))
    with _one_at_a_time, _heard() as warnings, chdir(folder):
        try:
            return Outcome(_done(content, host), warnings=tuple(warnings))
        except TwoViewError as error:
            return Outcome(error=error, warnings=tuple(warnings))


_one_at_a_time = threading.Lock()  # of the tasks in this process: the current folder and the log are the process's own
_reporter: Callable[[], OnProgress] | None = None


def report_to(reporter: Callable[[], OnProgress]) -> None:
    """Have the tasks that this process performs report their progress, each to a callback of its own."""
    global _reporter
    _reporter = reporter


def is_busy() -> bool:
    """Whether this process performs a task now."""
    return _one_at_a_time.locked()


def _done(content: bytes, host: str) -> Any:
    try:
        task: Task = pickle.loads(content)
    except (ImportError, AttributeError) as error:
        raise ClusterError(
            f"the worker on {host} lacks what its task needs: {_first_line(error)}",
            hint="install the same packages there, and start the worker again",
        ) from error
    for path in task.needs:
        if not os.path.exists(path):
            raise _unseen(host, path)
    try:
        return task.run(None if _reporter is None else _reporter())
    except TwoViewError:
        raise
    except Exception as error:
        raise _failed(task.label, error) from error


@contextmanager
def _heard() -> Iterator[list[tuple[str, str]]]:
    """What this package's log warns of during the block, as (logger, sentence)."""
    heard: list[tuple[str, str]] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append((record.name, record.getMessage()))

    ear = Ear(logging.WARNING)
    logging.getLogger("twoview").addHandler(ear)
    try:
        yield heard
    finally:
        logging.getLogger("twoview").removeHandler(ear)


def _opened(outcome: Outcome) -> Any:
    for name, sentence in outcome.warnings:
        logging.getLogger(name).warning("%s", sentence)
    return outcome.value if outcome.error is None else outcome.error


def _error_of(future: Future[Outcome]) -> BaseException | None:
    try:
        return future.exception()
    except CancelledError as error:
        return error


def _unseen(host: str, path: Path | str) -> ClusterError:
    return ClusterError(
        f"the worker on {host} does not see {os.path.abspath(path)}",
        hint="workers need the same folders under the same names: share this one, or mount it there",
    )


def _failed(label: str, error: Exception) -> WorkerError:
    return WorkerError(
        f"{label}: {type(error).__name__}: {_first_line(error)}",
        hint="without --jobs and --on the same command shows where that happens",
    )


def _died(label: str, times: int) -> WorkerError:
    return WorkerError(
        f"{label}: its worker died {times} times (killed, or out of memory)",
        hint="give each worker more memory: fewer --jobs, or larger machines; then the same command again",
    )


def _named(labels: list[str]) -> str:
    more = f" and {len(labels) - _NAMED} more" if len(labels) > _NAMED else ""
    return f"{', '.join(labels[:_NAMED])}{more}"


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
