"""Tasks that fail in known ways, and executors; importable by workers, who find the tests' folder on their path."""

from __future__ import annotations

import logging
import os
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

from twoview.errors import DetectorError, StorageError
from twoview.progress import Progress, report


def write(folder: Path, name: str, *, frames: int = 0, on_progress=None) -> str:
    """Write a file, and say who did it."""
    for frame in range(frames):
        report(on_progress, Progress("frames", frame + 1, frames, "frames"))
    (folder / name).write_text(f"{name} as it must be")
    return f"{name} in {os.environ.get('OMP_NUM_THREADS')} threads"


def fail(kind: str, *, on_progress=None) -> None:
    """Fail as something that a user can act on, as a full disk, or as a fault of the program."""
    if kind == "user":
        raise DetectorError("nobody is in the video", hint="another video")
    if kind == "disk":
        raise StorageError("the disk is full", hint="free some space")
    raise ZeroDivisionError("division by zero\nin line 7")


def warn(sentence: str, *, on_progress=None) -> str:
    """Log a warning."""
    logging.getLogger("twoview.detection").warning("%s", sentence)
    return sentence


def die(folder: Path, name: str, *, times: int, on_progress=None) -> str:
    """Have this process killed so many times, then do as `write`."""
    mark = folder / f"{name} died"
    died = len(mark.read_text()) if mark.exists() else 0
    if died < times:
        mark.write_text("x" * (died + 1))
        os.kill(os.getpid(), 9)
    return write(folder, name)


def last(folder: Path, name: str, *, seconds: float, on_progress=None) -> str:
    """Write that it began; then work so long, with a report now and then, and keep what it has if it is stopped."""
    (folder / f"{name} began").touch()
    try:
        for tick in range(int(seconds * 20)):
            time.sleep(0.05)
            report(on_progress, Progress("seconds", tick / 20, seconds, "s"))
    except KeyboardInterrupt:
        (folder / f"{name} saved").touch()
        raise
    return write(folder, name)


def processes() -> ProcessPoolExecutor:
    """An executor of somebody's own."""
    import multiprocessing

    return ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))


def threads() -> ThreadPoolExecutor:
    """One that shares this process."""
    return ThreadPoolExecutor(2)


def nothing() -> str:
    """No executor."""
    return "nothing"


def resume(folder: Path, name: str, *, on_progress=None) -> str:
    """Work for a minute; where it was stopped before, go on at once."""
    if (folder / f"{name} saved").exists():
        return f"{name} went on"
    (folder / f"{name} began").touch()
    try:
        time.sleep(60)
    except BaseException:
        (folder / f"{name} saved").touch()
        (folder / f"{name} began").unlink()
        raise
    return name
