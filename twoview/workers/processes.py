"""Tasks in processes of this machine, each a Python of its own."""

from __future__ import annotations

import _thread
import multiprocessing
import os
import signal
import time
from collections.abc import MutableSequence
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing.sharedctypes import RawArray, RawValue
from threading import Thread
from typing import Any

from twoview.machine import cores, use_cores
from twoview.progress import OnProgress, Progress
from twoview.workers import tasks
from twoview.workers.tasks import Place

_SLOTS = 4096  # counters of frames, one for each process
_LOOK_EVERY_S = 0.5  # seconds between a process's looks at whether it shall stop
_TIME_TO_SAVE_S = 10.0  # seconds that it then has to save its work


def processes_place(count: int) -> Place:
    """So many processes, each with its share of the cores. What they share has no lock, which a kill would leave."""
    context = multiprocessing.get_context("spawn")
    frames, stop = RawArray("d", _SLOTS), RawValue("b", 0)
    share = max(cores() // count, 1)

    def make() -> Executor:
        return ProcessPoolExecutor(count, mp_context=context, initializer=_begin, initargs=(share, frames, stop))

    def end() -> None:
        stop.value = 1

    return Place(f"{count} processes", make, count, units=lambda: sum(frames), stop=end)


def _begin(share: int, frames: MutableSequence[float], stop: Any) -> None:
    """What a process does before its first task."""
    use_cores(share)
    signal.signal(signal.SIGINT, _interrupted)
    Thread(target=_watch, args=(stop,), daemon=True).start()
    slot = os.getpid() % _SLOTS

    def reporter() -> OnProgress:
        done: dict[str, float] = {}

        def count(event: Progress) -> None:
            if event.unit == "frames":
                frames[slot] += max(event.done - done.get(event.stage, 0.0), 0.0)
                done[event.stage] = event.done

        return count

    tasks.report_to(reporter)


def _interrupted(number: int, frame: object) -> None:
    """Ctrl-C, by the terminal or `_watch`: a task saves what it has; without one there is nothing to interrupt."""
    del number, frame
    if tasks.is_busy():
        raise KeyboardInterrupt


def _watch(stop: Any) -> None:
    """End this process soon after the command is interrupted, or gone."""
    parent = multiprocessing.parent_process()
    while parent is not None and parent.is_alive() and not stop.value:
        time.sleep(_LOOK_EVERY_S)
    _thread.interrupt_main()
    time.sleep(_TIME_TO_SAVE_S)
    os._exit(1)
