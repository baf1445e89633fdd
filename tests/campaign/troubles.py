"""Full disks and folders that cannot be written, at every change of a file."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from random import Random

from cases import Bench, Case, described
from commands import Watch, run
from damage import unreadable
from kills import SHARE
from small_session import STAGES, contents


def cases(bench: Bench, random: Random) -> Iterator[Case]:
    """Troubles of the disk without end."""
    while True:
        stage = random.choice(list(SHARE))
        words = STAGES[stage]
        last = len(bench.small.outcomes[stage].changes)
        what = random.choice(("full", "denied", "size"))
        watch = (
            Watch(file_size=random.choice((1, 100, 5000, 60000)))
            if what == "size"
            else Watch(what, random.randint(1, last))
        )
        yield f"{stage}: {watch}", partial(troubled, bench, stage, words, watch)


def troubled(bench: Bench, stage: str, words: tuple[str, ...], watch: Watch) -> list[str]:
    """What is wrong where the disk refuses, and with the same command afterwards."""
    work = bench.room(bench.small.before[stage])
    before = contents(work)
    outcome = run(words, work, bench.log, watch)
    found = described(outcome, outcome.faults())
    after = contents(work)
    found += [f"lost {name}" for name in before if name not in after]
    found += [f"half written: {name}" for name in unreadable(work, after)]
    again = run(words, work, bench.log)
    return found + described(again, again.faults() + (["fails afterwards"] if again.code else []))
