"""What a kind of trial is: a generator of cases, each of which returns what was wrong, if anything."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from commands import Outcome
from small_session import Small

Case = tuple[str, Callable[[], list[str]]]  # a name to try it again by, and the trial


@dataclass(frozen=True)
class Bench:
    """Where trials run: the small session, and a folder for the room of the case."""

    small: Small
    folder: Path

    @property
    def log(self) -> Path:
        """Where a command's output and notes lie."""
        return self.folder / "log"

    def room(self, of: Path) -> Path:
        """A fresh copy of a room; the work folder in it, which is all that a command may change."""
        place = self.folder / "room"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(of, place, symlinks=True)
        return place / "work"


Kind = Callable[[Bench, "object"], Iterator[Case]]


def described(outcome: Outcome, found: list[str]) -> list[str]:
    """Faults with the command and the end of what it said."""
    tail = " | ".join((outcome.err or outcome.out).strip().splitlines()[-3:])[-400:]
    return [f"{fault}: twoview {' '.join(outcome.words)}: {tail}" for fault in found]
