"""Two commands at once on one session: each ends well or names the other, and nothing of either is lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from random import Random

from cases import Bench, Case, described
from commands import run, start
from damage import unreadable
from small_session import MARKERS, STAGES, contents

# Pairs, the stage before which they start, and whether both have to succeed.
PAIRS: list[tuple[str, tuple[str, ...], tuple[str, ...], bool]] = [
    ("sync", STAGES["sync"], STAGES["sync t2"], True),
    ("sync", STAGES["sync"], STAGES["sync"], False),
    ("detect", ("detect", *MARKERS, "--take", "t1"), ("detect", *MARKERS, "--take", "t2"), True),
    ("detect", ("detect", *MARKERS, "--views", "a"), ("detect", *MARKERS, "--views", "b"), False),
    ("detect", STAGES["detect"], STAGES["detect"], False),
    ("infer", ("infer", "a.mp4", *MARKERS), ("infer", "two/b.mp4", *MARKERS), True),
    ("infer", ("infer", "a.mp4", *MARKERS), ("infer", "two/a.mp4", *MARKERS), True),
    ("infer", STAGES["infer"], STAGES["infer"], False),
    ("finetune", STAGES["finetune"], STAGES["finetune"], False),
    ("finetune", STAGES["finetune"], (*STAGES["finetune"], "--run", "other"), True),
    ("triangulate", STAGES["triangulate"], STAGES["triangulate"], False),
    ("triangulate", STAGES["triangulate"], STAGES["sync"], False),
    ("infer", STAGES["infer"], ("export", "x.pt"), True),
]


def cases(bench: Bench, random: Random) -> Iterator[Case]:
    """Pairs without end, the second some moment after the first."""
    while True:
        stage, first, second, both = random.choice(PAIRS)
        later = random.choice((0.0, 0.0, 0.1, 0.5, 2.0))
        yield f"{first[0]} and {second[0]} {later} s later", partial(together, bench, stage, first, second, both, later)


def together(
    bench: Bench, stage: str, first: tuple[str, ...], second: tuple[str, ...], both: bool, later: float
) -> list[str]:
    """What is wrong after two commands at once, against the same one after the other."""
    work = bench.room(bench.small.before[stage])
    for words in (first, second):
        run(words, work, bench.log)
    wanted = contents(work)
    work = bench.room(bench.small.before[stage])
    before = contents(work)
    one = start(first, work, bench.folder / "log1")
    time.sleep(later)
    two = start(second, work, bench.folder / "log2")
    found = []
    ended = [one.end(300.0), two.end(300.0)]
    for outcome in ended:
        found += described(outcome, outcome.faults())
    failed = [outcome for outcome in ended if outcome.code]
    if (both and failed) or len(failed) > 1:
        found += described(failed[0], ["fails beside the other"])
    found += [f"names no process: {o.err.strip()[-200:]}" for o in failed if not both and "process" not in o.err]
    for outcome in failed:
        run(outcome.words, work, bench.log)
    after = contents(work)
    found += [f"lost {name}" for name in before if name not in after]
    found += [f"unreadable: {name}" for name in unreadable(work, after)]
    return found + [f"{name} differs from one after the other" for name in wanted if after.get(name) != wanted[name]]
