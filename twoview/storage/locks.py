"""Locks between processes: a file names the process and host that work on something, on folders shared by hosts too."""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import SoftFileLock, Timeout

from twoview.errors import SessionError, StorageError
from twoview.storage.regular import make_folder, real_path

log = logging.getLogger(__name__)

_POLL_S = 0.2  # seconds between two looks at a lock that is waited for
_TAKE_OVER_S = 0.5  # seconds in which a lock whose process is gone is taken over
_UNNAMED_S = 3.0  # seconds to wait for a lock file that names nobody: being written, or a half one that is taken over
_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
_TRIES = 20  # of making a lock's folder while others remove it empty


@dataclass(frozen=True)
class Holder:
    """Who holds a lock: process id and host; 0 and "" where the file does not say."""

    process: int
    host: str

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}" if self.process else "another process"


@contextmanager
def locked(path: Path, work: str, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock file `path` during the block; the same thread may hold it more than once.

    A lock whose process is gone is taken over. One held by another process on this host is waited for, and the log
    warns who holds it. Raises SessionError with the holder where `wait` is false, and where the holder is on another
    host, from where nobody can see whether that process still lives; StorageError where the disk is full. A folder that
    cannot be written is not locked.

    work  what is worked on, for the message: "take 'serve 2'"
    """
    path = real_path(path.parent) / path.name  # one name for one lock, whatever the current folder
    made = [folder for folder in path.parents if not os.path.exists(folder)]
    lock = SoftFileLock(path, is_singleton=True)
    try:
        _acquire(lock, path, work, wait=wait)
        try:
            yield
        finally:
            if lock.is_locked:
                with suppress(OSError):  # the lock of a process that is gone is taken over
                    lock.release()
    finally:
        for folder in made:  # a failed command leaves nothing behind
            with suppress(OSError):
                folder.rmdir()


def _acquire(lock: SoftFileLock, path: Path, work: str, *, wait: bool) -> None:
    timeout = _TAKE_OVER_S
    for _ in range(_TRIES):
        try:
            make_folder(path.parent)
            lock.acquire(timeout=timeout, poll_interval=min(_POLL_S, timeout / 5) if timeout > 0 else _POLL_S)
            return
        except Timeout:
            holder = _holder(path)
            if not holder.process and timeout < _UNNAMED_S:
                timeout = _UNNAMED_S
                continue
            if not wait or holder.host != socket.gethostname():
                raise SessionError(f"{holder} works on {work}", hint=_hint(holder, path)) from None
            log.warning("waiting for %s, which works on %s", holder, work)
            timeout = -1.0  # its end, or its death, ends this
        except FileNotFoundError:
            continue  # the folder was just removed by another command that left it empty
        except OSError as error:
            if error.errno in _READ_ONLY:  # whatever is up to date can still be loaded, and nothing else be written
                log.info("%s cannot be locked: %s", path, error.strerror)
                return
            raise StorageError(
                f"cannot write {path}: {error.strerror or error}",
                hint="free some space or choose another folder; what was already saved is kept",
            ) from error
    raise StorageError(f"cannot make {path.parent}", hint="run the command again")


def _holder(path: Path) -> Holder:
    try:
        process, host, *_ = path.read_text(encoding="utf-8").splitlines()
        return Holder(int(process), host.partition("?")[0])  # after "?" stands a container's number
    except (OSError, ValueError):
        return Holder(0, "")


def _hint(holder: Holder, path: Path) -> str:
    again = "run the command again when that process is done"
    return again if holder.host == socket.gethostname() else f"{again}; if it is gone, delete {path}"
