"""Commands of twoview in processes of their own, watched: what they print, which files they change, whom they call.

A process is forked from one that has loaded everything, so that a command costs its work and not the start of an
interpreter. An audit hook in it writes down every change of a file, every call of the network and every program that it
starts, and can stop the process or refuse the change at exactly the change that is asked for.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink"}
NETWORK = {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "urllib.Request"}
PROGRAMS = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "pty.spawn"}
MEMORY = 12 << 30  # bytes of address space, most of it torch's; more is what an absurd file claims
CODES = (0, 1, 2, 130, 141)  # documented; 70 is a defect

Act = Literal["kill", "stop", "full", "denied", "watch"]  # stop: SIGTERM


@dataclass(frozen=True)
class Watch:
    """What to do at the change of a file with this number, from 1; 0: never."""

    act: Act = "watch"
    at: int = 0
    file_size: int = 0  # bytes beyond which the system refuses to write a file; 0: none
    after_s: float = 0.0  # kill after this time instead


@dataclass(frozen=True)
class Outcome:
    """How a command ended. `code` is None where it was killed; `changes` names the changed files in order."""

    words: tuple[str, ...]
    code: int | None
    out: str
    err: str
    seconds: float
    changes: tuple[str, ...]
    outside: tuple[str, ...]
    network: tuple[str, ...]
    started: tuple[str, ...]
    hung: bool

    def faults(self, *, killed: bool = False) -> list[str]:
        """What no command may do, whatever it was given."""
        found = []
        if self.hung:
            found.append("hangs")
        elif self.code is None and not killed:
            found.append("died of a signal")
        elif self.code is not None and self.code not in CODES:
            found.append(f"exit code {self.code}")
        if "Traceback (most recent call last)" in self.err + self.out:
            found.append("traceback")
        if self.code == 1 and not self.err.strip():
            found.append("no reason for exit code 1")
        found += ["network"] * bool(self.network) + ["runs a program"] * bool(self.started)
        return found + ["writes outside"] * bool(self.outside)


@dataclass
class Running:
    """A command that has been started."""

    words: tuple[str, ...]
    pid: int
    begun: float
    log: Path

    def end(self, limit_s: float) -> Outcome:
        """Wait until the command ends, for so long at most."""
        hung, status = False, 0
        while True:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            if done:
                break
            if time.monotonic() - self.begun > limit_s:
                hung = True
                os.killpg(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                break
            time.sleep(0.005)
        code = os.WEXITSTATUS(status) if not hung and os.WIFEXITED(status) else None
        read = [(self.log / name).read_text(errors="replace") for name in ("out", "err", "seen")]
        seen = [line.partition("\t") for line in read[2].splitlines()]
        rows = {kind: tuple(text for k, _, text in seen if k == kind) for kind in ("change", "out", "net", "run")}
        return Outcome(
            self.words, code, read[0], read[1], time.monotonic() - self.begun, rows["change"], rows["out"],
            rows["net"], rows["run"], hung,
        )  # fmt: skip


def preload() -> None:
    """Load what commands need, once, in the process that they are forked from; nothing that starts threads."""
    import cv2  # noqa: F401
    import matplotlib.pyplot  # noqa: F401
    import scipy.optimize  # noqa: F401
    import torch

    import twoview.cli.commands
    import twoview.lifting.model_export
    import twoview.training.finetuning
    import twoview.training.planning
    import twoview.visualization.overlay
    import twoview.visualization.report
    import twoview.visualization.viewer
    import twoview.workflow.inference
    import twoview.workflow.synchronization  # noqa: F401

    torch.set_num_threads(1)


def start(words: Sequence[str | Path], folder: Path, log: Path, watch: Watch | None = None) -> Running:
    """Start `twoview` with these words in a folder, whose parent is all that it may change; output goes to `log`."""
    log.mkdir(parents=True, exist_ok=True)
    texts = tuple(map(str, words))
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        try:
            _child(texts, folder, log, watch or Watch())
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(99)
    return Running(texts, pid, time.monotonic(), log)


def run(
    words: Sequence[str | Path], folder: Path, log: Path, watch: Watch | None = None, *, limit_s: float = 120.0
) -> Outcome:
    """`start`, and wait for the end."""
    return start(words, folder, log, watch).end(limit_s)


def _child(words: tuple[str, ...], folder: Path, log: Path, watch: Watch) -> None:
    """The forked process: becomes the command and does not return."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(folder)
    home = folder.parent / "home"
    home.mkdir(exist_ok=True)
    os.environ.update(
        HOME=str(home), TMPDIR=str(home), COLUMNS="200", XDG_CACHE_HOME=str(home / ".cache"),
        TORCHINDUCTOR_CACHE_DIR=str(home / "inductor"),
    )  # fmt: skip
    for number, name in ((0, os.devnull), (1, log / "out"), (2, log / "err")):
        handle = os.open(name, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, number)
    notes = os.open(log / "seen", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
    sys.dont_write_bytecode = True
    tempfile.tempdir = None  # found again, from TMPDIR
    sys.argv = ["twoview", *words]
    sys.path.insert(0, str(folder))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    if watch.file_size:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (watch.file_size, watch.file_size))
    if watch.after_s:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, watch.after_s)
    sys.addaudithook(_hook(folder.parent, notes, watch))
    from twoview.__main__ import main

    code = 0
    try:
        main()
    except SystemExit as end:
        code = int(end.code or 0)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _hook(room: Path, notes: int, watch: Watch):  # type: ignore[no-untyped-def]
    """The audit hook of a command that may change files inside `room` alone."""
    count, inside, acted = 0, f"{room}{os.sep}", list[str]()

    def note(kind: str, text: object) -> None:
        os.write(notes, f"{kind}\t{text}\n".encode(errors="replace"))

    def change(event: str, path: object) -> None:
        nonlocal count
        if isinstance(path, int) or path is None:
            return
        full = os.path.abspath(os.fsdecode(path))  # type: ignore[arg-type]
        if full == os.devnull or full.startswith("/proc/self/"):
            return
        if not full.startswith(inside):
            note("out", f"{event} {full}")
            return
        if full.startswith(f"{inside}home"):
            return
        count += 1
        note("change", f"{event} {full.removeprefix(inside)}")
        removes = event in ("remove", "rmdir")  # which no full disk refuses
        if count >= watch.at > 0 and not (acted or (watch.act == "full" and removes)):
            acted.append(full)
            act(full)

    def act(full: str) -> None:
        if watch.act == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif watch.act == "stop":
            os.kill(os.getpid(), signal.SIGTERM)
        elif watch.act in ("full", "denied"):
            number = errno.ENOSPC if watch.act == "full" else errno.EACCES
            raise OSError(number, os.strerror(number), full)

    def hook(event: str, args: tuple) -> None:  # type: ignore[type-arg]
        if event == "open":
            if isinstance(args[2], int) and args[2] & WRITING:
                change("write", args[0])
        elif event in CHANGES:
            change(event.partition(".")[2], args[0])
        elif event in NETWORK:
            note("net", f"{event} {args}")
        elif event in PROGRAMS:
            note("run", f"{event} {args}")

    return hook
