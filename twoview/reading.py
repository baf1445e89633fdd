"""Frames read ahead by a thread of its own, in windows that end where people were searched for."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from twoview.detectors import Detector
from twoview.looking import Picture, everyone_in

if TYPE_CHECKING:
    from twoview.pixels import Stored

Array = np.ndarray
T = TypeVar("T")


def searched(
    pictures: Iterable[Stored],
    detector: Detector,
    every: int,
    *,
    after: Array,
    size: tuple[int, int],
    on_drop: Callable[[], object],
) -> Iterator[Picture]:
    """Frames later than those in `after` (T,), every `every`-th of the clip with everyone in it."""
    number, last = len(after), float(after[-1]) if len(after) else -np.inf
    for stored in pictures:
        if stored.time <= last:
            continue
        picture = Picture(stored.kept(size), on_drop)
        if number % every == 0:
            picture.found = everyone_in(detector, picture)
        yield picture
        number += 1


def windows(pictures: Iterable[Picture]) -> Iterator[list[Picture]]:
    """Runs of frames that each end with a searched one; the clip's last run may not."""
    window: list[Picture] = []
    for picture in pictures:
        window.append(picture)
        if picture.found is not None:
            yield window
            window = []
    if window:
        yield window


def ahead(items: Iterable[T], room: threading.Semaphore) -> Generator[T, None, None]:
    """The same items, made by a thread that goes on as long as there is room; who takes an item makes room again."""
    waiting: queue.SimpleQueue[tuple[bool, T | BaseException | None]] = queue.SimpleQueue()
    stop = threading.Event()

    def work() -> None:
        try:
            iterator = iter(items)
            while not stop.is_set():
                if room.acquire(timeout=0.1):
                    waiting.put((True, next(iterator)))
        except StopIteration:
            waiting.put((False, None))
        except BaseException as error:  # handed to the thread that waits for the items
            waiting.put((False, error))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            more, value = waiting.get()
            if more:
                yield value  # type: ignore[misc]
            elif value is None:
                return
            else:
                raise value  # type: ignore[misc]
    finally:
        stop.set()
        thread.join()
